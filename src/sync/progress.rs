//! Whether a pass still moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Failure;

/// An action of a pass that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What of the repository it changes: [`super::Action::field`].
    pub field: &'static str,
    /// What was done, or why it was not.
    pub result: Result<String, Failure>,
}

/// Told of every action at the moment it ends, so that an interrupted pass has its account too.
pub trait Witness: Send + Sync + std::fmt::Debug {
    /// An action has ended.
    fn ended(&self, step: Step);
}

/// Counts bytes and finished steps of one pass. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    count: Arc<AtomicU64>,
    witness: Option<Arc<dyn Witness>>,
}

impl Progress {
    /// The progress of a pass whose actions `witness` is told of.
    #[must_use]
    pub fn witnessed(witness: Arc<dyn Witness>) -> Self {
        Self { count: Arc::default(), witness: Some(witness) }
    }

    /// Notes bytes or steps.
    pub fn advance(&self, by: u64) {
        self.count.fetch_add(by, Ordering::Relaxed);
    }

    /// Bytes and steps so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Tells that an action was carried out, in words.
    pub(super) fn did(&self, field: &'static str, what: impl Into<String>) {
        self.tell(field, Ok(what.into()));
    }

    /// Tells that an action failed.
    pub(super) fn failed(&self, field: &'static str, failure: &Failure) {
        self.tell(field, Err(failure.clone()));
    }

    fn tell(&self, field: &'static str, result: Result<String, Failure>) {
        if let Some(witness) = &self.witness {
            witness.ended(Step { field, result });
        }
    }

    /// Returns once nothing was noted for `longest`, give or take a tenth.
    pub async fn stalled(&self, longest: Duration) {
        /// Looks per `longest`.
        const LOOKS: u32 = 10;
        let mut last = self.count();
        let mut still = 0;
        while still < LOOKS {
            tokio::time::sleep(longest / LOOKS).await;
            let now = self.count();
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_counts() {
        let progress = Progress::default();
        let started = Instant::now();
        let stalled = tokio::spawn({
            let progress = progress.clone();
            async move { progress.stalled(Duration::from_secs(100)).await }
        });
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            progress.advance(1);
        }
        assert!(!stalled.is_finished(), "450 s of slow progress are no stall");
        stalled.await.expect("it ends");
        let silent = started.elapsed() - Duration::from_secs(450);
        assert!((90..=110).contains(&silent.as_secs()), "{silent:?}");
    }
}
