//! Whether this process may write what only one process should write: tags, settings, policies.
//!
//! A leader that cannot renew its lease does not know whether another process leads by now. It goes
//! on with what two processes may do at the same time: blobs and untagged manifests are addressed
//! by their content. Everything else waits until the lease is renewed.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// The right to write, as the passes ask for it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership(Option<Right>);

#[derive(Clone, Debug)]
struct Right {
    until: watch::Receiver<Instant>,
    /// Number of writes that are under way.
    under_way: Arc<watch::Sender<usize>>,
}

/// The right to write, as the holder of the lease grants it.
#[derive(Debug)]
pub(crate) struct Grant {
    until: watch::Sender<Instant>,
    under_way: Arc<watch::Sender<usize>>,
}

/// A write that is under way, until this is dropped.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Leadership {
    /// Returns a leadership that is not granted yet. The default one always is: a process without
    /// election works alone.
    pub(crate) fn elected() -> (Grant, Self) {
        let (sender, until) = watch::channel(Instant::now());
        let under_way = Arc::new(watch::Sender::default());
        let right = Right { until, under_way: under_way.clone() };
        (Grant { until: sender, under_way }, Self(Some(right)))
    }

    /// Carries out a write while the process may write. When the right ends, the write stands still:
    /// its next request, such as a retry, waits until the right is granted again. If that never
    /// happens, this never ends: the process stops.
    pub(super) async fn carry_out<T>(&self, write: impl Future<Output = T>) -> T {
        let Some(Right { until, under_way }) = &self.0 else { return write.await };
        let mut until = until.clone();
        let mut write = std::pin::pin!(write);

        loop {
            // Before the look at the right: a write that begins while the right is revoked either
            // counts as under way, or sees that it is revoked.
            let count = UnderWay::new(under_way);
            let end = *until.borrow_and_update();
            if end <= Instant::now() {
                drop(count);
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
        self.until.send_replace(time);
    }

    /// Lets no further write begin. Writes that are under way keep their right.
    pub(crate) fn revoke(&self) {
        self.until(Instant::now());
    }

    /// Waits until no write is under way.
    pub(crate) async fn idle(&self) {
        let mut under_way = self.under_way.subscribe();
        // The sender is `self`.
        let _open = under_way.wait_for(|count| *count == 0).await;
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
    async fn a_revoked_right_lets_a_write_end_and_no_other_begin() {
        let (grant, leadership) = Leadership::elected();
        grant.until(Instant::now() + Duration::from_secs(10));
        let call = tokio::time::sleep(Duration::from_secs(1));
        let mut write = std::pin::pin!(leadership.carry_out(call));
        assert!(futures::poll!(&mut write).is_pending());

        grant.revoke();
        assert!(leadership.carry_out(async {}).now_or_never().is_none());
        assert!(grant.idle().now_or_never().is_none());
        write.await;
        assert!(grant.idle().now_or_never().is_some());
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
