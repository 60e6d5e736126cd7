//! A limit of pulls as Docker Hub has it: GETs of manifests are counted, HEADs are not, both tell
//! what is left (<https://docs.docker.com/docker-hub/usage/pulls/>).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one login or address may still pull. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulls {
    limit: u64,
    left: Arc<AtomicU64>,
}

/// Docker Hub's window, in seconds.
const WINDOW: u64 = 21_600;

impl Pulls {
    /// So many pulls in six hours, of which so many are left.
    pub fn new(limit: u64, left: u64) -> Self {
        Self { limit, left: Arc::new(AtomicU64::new(left)) }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Gives some back, as time does.
    pub fn set_left(&self, left: u64) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    /// The headers of each answer.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        [
            ("ratelimit-limit", format!("{};w={WINDOW}", self.limit)),
            ("ratelimit-remaining", format!("{};w={WINDOW}", self.left())),
            ("docker-ratelimit-source", "203.0.113.7".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The refusal, in Docker Hub's words.
    pub(super) const REFUSAL: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;
}
