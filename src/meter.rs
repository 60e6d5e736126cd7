//! What the lower layers tell of their work, so that they need not know of metrics.

use std::time::Duration;

/// Told of requests, waits and bytes. Every method does nothing unless implemented.
pub trait Meter: Send + Sync + std::fmt::Debug {
    /// A request to a registry was answered with this status, or not at all. `host` with port, as
    /// asked.
    fn registry_request(&self, _host: &str, _method: &str, _status: Option<u16>) {}

    /// A registry said how many pulls are left to one login. `host` as users write it.
    fn pulls_left(&self, _host: &str, _left: u64) {}

    /// An attempt of an AWS call ended: `DescribeImages`, and `OK`, the error code, or `NoAnswer`.
    fn aws_request(&self, _operation: &str, _code: &str) {}

    /// A limit of ours made a request wait.
    fn throttled(&self, _action: &'static str, _wait: Duration) {}

    /// There is a new ECR token, which ends after so long.
    fn token_renewed(&self, _account: &str, _region: &str, _life: Duration) {}

    /// So many bytes of blobs are about to be copied.
    fn to_copy(&self, _bytes: u64) {}

    /// Bytes of blobs went from a source to ECR.
    fn copied(&self, _bytes: u64) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Meter for Silent {}
