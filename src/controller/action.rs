//! The result of a reconcile: when its resource is reconciled again.

use std::time::Duration;

/// The result of a reconcile. A change of the resource always leads to another reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// Time until the next reconcile, if there is no change before.
    requeue_after: Option<Duration>,
}

impl Action {
    /// Reconciles the resource again after this time.
    pub(super) const fn requeue(after: Duration) -> Self {
        Self { requeue_after: Some(after) }
    }

    /// Reconciles the resource again when it changes.
    pub(super) const fn await_change() -> Self {
        Self { requeue_after: None }
    }

    /// Returns the time until the next reconcile, if there is no change before.
    pub(super) const fn requeue_after(self) -> Option<Duration> {
        self.requeue_after
    }
}
