//! Whether work that is due gets done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Knows since when work is due and when something was finished last. Clones share the knowledge.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    finished: Instant,
    oldest_due: Option<Instant>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { finished: Instant::now(), oldest_due: None })))
    }
}

impl Liveness {
    /// A pass ended, bytes moved, or the API server did not take a status.
    pub fn finished(&self) {
        self.lock().finished = Instant::now();
    }

    /// Since when the pass is due that has waited longest; `None` when nothing is due.
    pub fn due_since(&self, oldest: Option<Instant>) {
        self.lock().oldest_due = oldest;
    }

    /// How long the oldest due pass has waited.
    #[must_use]
    pub fn oldest_due(&self) -> Duration {
        self.lock().oldest_due.map(|due| due.elapsed()).unwrap_or_default()
    }

    /// Whether something was due, and nothing finished, for so long.
    #[must_use]
    pub fn is_stuck_for(&self, longest: Duration) -> bool {
        let state = self.lock();
        state.oldest_due.is_some_and(|due| due.elapsed() > longest)
            && state.finished.elapsed() > longest
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_is_not_stuck_and_neither_is_slow() {
        let liveness = Liveness::default();
        let limit = Duration::from_secs(600);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!liveness.is_stuck_for(limit), "nothing is due");
        liveness.due_since(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(liveness.is_stuck_for(limit));
        liveness.finished();
        assert!(!liveness.is_stuck_for(limit), "something else was finished meanwhile");
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(liveness.is_stuck_for(limit));
        liveness.due_since(None);
        assert!(!liveness.is_stuck_for(limit));
    }
}
