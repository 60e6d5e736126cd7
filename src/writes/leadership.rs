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

    /// Carries out a write while the process may write. When the right ends, the write stands still:
    /// its next request, such as a retry, waits until the right is granted again. If that never
    /// happens, this never ends: the process stops.
    pub(super) async fn carry_out<T>(&self, write: impl Future<Output = T>) -> T {
        let Some(until) = &self.0 else { return write.await };
        let mut until = until.clone();
        let mut write = std::pin::pin!(write);

        loop {
            let end = *until.borrow_and_update();
            if end <= Instant::now() {
                if until.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            tokio::select! {
                // In this order: after a time in which the process did not run, the retry of the
                // write is due, too.
                biased;
                () = tokio::time::sleep_until(end) => {}
                result = &mut write => return result,
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
        let may_write = || leadership.carry_out(async {}).now_or_never().is_some();
        assert!(!may_write());
        grant.until(Instant::now() + Duration::from_secs(10));
        assert!(may_write());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!may_write(), "without a renewal the right ends by itself");

        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.carry_out(async {}).await }
        });
        tokio::task::yield_now().await;
        grant.until(Instant::now() + Duration::from_secs(10));
        waiting.await.expect("it is granted again");

        tokio::time::advance(Duration::from_secs(10)).await;
        drop(grant);
        assert!(!may_write());
        assert!(Leadership::default().carry_out(async {}).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_not_retried_while_another_process_may_lead() {
        let (grant, leadership) = Leadership::elected();
        let began = Instant::now();
        grant.until(began + Duration::from_secs(10));
        let retried = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            began.elapsed()
        };
        let renewed = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            grant.until(Instant::now() + Duration::from_secs(10));
        };

        let (retried, ()) = tokio::join!(leadership.carry_out(retried), renewed);
        assert_eq!(retried, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_that_wakes_up_does_not_write_with_a_right_that_has_ended() {
        let (grant, leadership) = Leadership::elected();
        grant.until(Instant::now() + Duration::from_secs(10));
        let retry = tokio::time::sleep(Duration::from_secs(5));
        let mut write = std::pin::pin!(leadership.carry_out(retry));
        assert!(futures::poll!(&mut write).is_pending());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(futures::poll!(&mut write).is_pending());
    }
}
