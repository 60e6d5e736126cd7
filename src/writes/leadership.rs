//! Whether this process may write what only one process should write: tags, settings, policies.
//!
//! A leader that cannot renew its lease does not know whether another process leads by now. It goes
//! on with what two processes may do at the same time: blobs and untagged manifests are addressed
//! by their content. Everything else waits until the lease is renewed.

use tokio::sync::watch;
use tokio::time::Instant;

/// The right to write, as the passes ask for it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership(Option<watch::Receiver<Instant>>);

/// The right to write, as the holder of the lease grants it.
#[derive(Debug)]
pub(crate) struct Grant(watch::Sender<Instant>);

impl Leadership {
    /// Returns a leadership that is not granted yet. The default one always is: a process without
    /// election works alone.
    pub(crate) fn elected() -> (Grant, Self) {
        let (sender, receiver) = watch::channel(Instant::now());
        (Grant(sender), Self(Some(receiver)))
    }

    /// Waits until the process may write. If it may not again, this never ends: the process stops.
    pub(super) async fn held(&self) {
        let Some(until) = &self.0 else { return };
        let mut until = until.clone();
        while *until.borrow_and_update() <= Instant::now() {
            if until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Grant {
    /// Grants the right until this time.
    pub(crate) fn until(&self, time: Instant) {
        self.0.send_replace(time);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_writes_only_while_its_leadership_is_granted() {
        let (grant, leadership) = Leadership::elected();
        let may_write = || leadership.held().now_or_never().is_some();
        assert!(!may_write());
        grant.until(Instant::now() + Duration::from_secs(10));
        assert!(may_write());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!may_write(), "without a renewal the right ends by itself");

        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.held().await }
        });
        tokio::task::yield_now().await;
        grant.until(Instant::now() + Duration::from_secs(10));
        waiting.await.expect("it is granted again");

        tokio::time::advance(Duration::from_secs(10)).await;
        drop(grant);
        assert!(!may_write());
        assert!(Leadership::default().held().now_or_never().is_some());
    }
}
