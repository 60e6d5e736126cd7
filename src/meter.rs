//! The interface through which the lower layers report requests, waits and bytes: they know nothing
//! of metrics.

use std::time::Duration;

/// Receives counts of requests, waits and bytes. Every method does nothing by default.
pub trait Meter: Send + Sync + std::fmt::Debug {
    /// A registry answered a request with this status, or not at all. `host` has the port of the
    /// request.
    fn registry_request(&self, _host: &str, _method: &str, _status: Option<u16>) {}

    /// A registry reported the remaining pulls of one login. `host` is as users write it.
    fn pulls_left(&self, _host: &str, _left: u64) {}

    /// An attempt of an AWS call, such as `DescribeImages`, ended with `OK`, an error code, or
    /// `NoAnswer`.
    fn aws_request(&self, _operation: &str, _code: &str) {}

    /// A request waited for one of our rate limits.
    fn throttled(&self, _action: &'static str, _wait: Duration) {}

    /// There is a new ECR token, which expires after `life`.
    fn token_renewed(&self, _account: &str, _region: &str, _life: Duration) {}

    /// Blobs with this number of bytes are about to be copied.
    fn to_copy(&self, _bytes: u64) {}

    /// Another part of a blob was sent to ECR.
    fn copied(&self, _bytes: u64) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Meter for Silent {}
