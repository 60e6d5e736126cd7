//! Liveness: whether the process can do due passes (`/healthz`, `ecrsync_oldest_due_seconds`).
//!
//! A source that does not answer is no reason for a restart, which would end the copies of all
//! others: passes that wait for it end by themselves, after `spec.timeout`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The age of due work, and the time of the last progress. Clones share the state.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    finished: Instant,
    oldest_due: Option<Instant>,
    /// The last time when a task got a thread.
    beaten: Option<Instant>,
    /// If all slots are taken: the time after which a pass without progress ends by itself.
    full_for: Option<Duration>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            finished: Instant::now(),
            oldest_due: None,
            beaten: None,
            full_for: None,
        })))
    }
}

impl Liveness {
    /// Records progress: a pass ended, bytes were copied, or the API server refused a status.
    pub fn finished(&self) {
        self.0.lock().finished = Instant::now();
    }

    /// Records that a task got a thread.
    pub fn beat(&self) {
        self.0.lock().beaten = Some(Instant::now());
    }

    /// Whether no task has got a thread for a minute.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        const LONGEST: Duration = Duration::from_secs(60);
        self.0.lock().beaten.is_some_and(|beaten| beaten.elapsed() > LONGEST)
    }

    /// Sets since when the oldest due pass is due; `None` if no pass is due.
    pub fn due_since(&self, oldest: Option<Instant>) {
        self.0.lock().oldest_due = oldest;
    }

    /// Sets whether all slots are taken, with the time after which a pass without progress ends by
    /// itself and leaves its slot.
    pub fn slots_are_taken(&self, timeout: Option<Duration>) {
        self.0.lock().full_for = timeout;
    }

    /// Returns the time since the oldest due pass became due.
    #[must_use]
    pub fn oldest_due(&self) -> Duration {
        self.0.lock().oldest_due.map(|due| due.elapsed()).unwrap_or_default()
    }

    /// Whether a pass was due, and there was no progress, for longer than `longest`. While all slots
    /// are taken, passes may wait for their sources for as long as their timeout allows.
    #[must_use]
    pub fn is_stuck_for(&self, longest: Duration) -> bool {
        let state = self.0.lock();
        let longest = longest.saturating_add(state.full_for.unwrap_or_default());
        state.oldest_due.is_some_and(|due| due.elapsed() > longest)
            && state.finished.elapsed() > longest
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

    #[tokio::test(start_paused = true)]
    async fn a_minute_without_a_free_thread_is_frozen() {
        let liveness = Liveness::default();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!liveness.is_frozen(), "nothing has started yet");
        liveness.beat();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!liveness.is_frozen());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(liveness.is_frozen());
        liveness.beat();
        assert!(!liveness.is_frozen());
    }

    #[tokio::test(start_paused = true)]
    async fn passes_that_wait_for_their_sources_are_not_stuck_until_their_timeout_is_over() {
        let liveness = Liveness::default();
        let limit = Duration::from_secs(600);
        liveness.due_since(Some(Instant::now()));
        liveness.slots_are_taken(Some(Duration::from_secs(3600)));
        tokio::time::advance(Duration::from_secs(4200)).await;
        assert!(!liveness.is_stuck_for(limit));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(liveness.is_stuck_for(limit), "a pass outlived its timeout");

        liveness.finished();
        tokio::time::advance(Duration::from_secs(601)).await;
        liveness.slots_are_taken(None);
        assert!(liveness.is_stuck_for(limit), "a slot is free, and the due pass does not get it");
    }
}
