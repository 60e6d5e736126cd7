//! A pull limit as on Docker Hub: GETs of manifests count, HEADs do not, both report the remaining
//! pulls (<https://docs.docker.com/docker-hub/usage/pulls/>).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The remaining pulls of one login or address. Clones share the limit.
#[derive(Debug, Clone)]
pub struct Pulls {
    limit: u64,
    left: Arc<AtomicU64>,
}

/// Docker Hub's window, in seconds.
const WINDOW: u64 = 21_600;

impl Pulls {
    /// A limit of pulls in six hours, and the number that is left.
    pub fn new(limit: u64, left: u64) -> Self {
        Self { limit, left: Arc::new(AtomicU64::new(left)) }
    }

    /// Returns the remaining pulls.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Adds remaining pulls, as time does.
    pub fn set_left(&self, left: u64) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// Consumes one pull, if one is left.
    pub(super) fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    /// Returns the headers of each answer.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        [
            ("ratelimit-limit", format!("{};w={WINDOW}", self.limit)),
            ("ratelimit-remaining", format!("{};w={WINDOW}", self.left())),
            ("docker-ratelimit-source", "203.0.113.7".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The message of Docker Hub.
    pub(super) const REFUSAL: &str = concat!(
        r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated "#,
        r#"pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#
    );
}
