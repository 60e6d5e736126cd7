//! Runs reconciles: in the order in which their resources were woken, a limited number at a time,
//! never two of one resource.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::action::Action;
use super::context::Context;
use super::key::Key;
use super::reconcile::{on_error, reconcile};
use super::wakes::Wakes;

/// Runs until `stop` is cancelled. Then no reconcile begins, and the running ones are waited for.
/// Nothing is reconciled before the first list is complete: the claims of older resources could be
/// missing.
pub(super) async fn run(context: &Arc<Context>, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = context.store.is_listed() => {}
    }

    let limit = usize::from(context.options.concurrency);
    work(&context.wakes, limit, stop, |key| reconcile_one(context, key)).await;
}

/// Works on the resources that are woken, at most `limit` at a time, until `stop` is cancelled.
async fn work<F>(
    wakes: &Wakes,
    limit: usize,
    stop: &CancellationToken,
    reconcile_one: impl Fn(Key) -> F,
) where
    F: Future<Output = ()>,
{
    let one = async |key| {
        // Most reconciles wait for nothing. The watch, which runs in the same task, must not wait for
        // thousands of them.
        tokio::task::yield_now().await;
        reconcile_one(key).await;
    };

    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(()) = running.next() => {}
            key = wakes.next(), if running.len() < limit => running.push(one(key)),
        }
    }
    while running.next().await.is_some() {}
}

async fn reconcile_one(context: &Arc<Context>, key: Key) {
    let Some(object) = context.store.get(&key) else {
        // It was deleted while it was queued.
        return context.wakes.ended(key, Action::await_change());
    };
    if context.unlisted.has(object.repository()) {
        // It is woken when the list is complete.
        return context.wakes.ended(key, Action::await_change());
    }

    let span = tracing::info_span!("reconcile", object = %key);
    let result = reconcile(&object, context).instrument(span).await;
    let action = result.unwrap_or_else(|error| {
        tracing::warn!(object = %key, %error, "reconcile failed, retrying");
        on_error(&object, context)
    });
    context.wakes.ended(key.clone(), action);
    context.catch_up(&key, object.metadata.uid.as_deref().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;

    const LIMIT: usize = 32;

    fn woken(count: usize) -> Wakes {
        let wakes = Wakes::default();
        wakes.wake((0..count).map(|number| Key::new("ns", &number.to_string())));
        wakes
    }

    #[tokio::test]
    async fn the_watch_does_not_wait_until_a_burst_is_reconciled() {
        let (wakes, stop, done) = (woken(1000), CancellationToken::new(), Cell::new(0));
        let working = work(&wakes, LIMIT, &stop, async |key| {
            done.set(done.get() + 1);
            wakes.ended(key, Action::await_change());
        });
        let watching = async {
            yield_now().await;
            yield_now().await;
            stop.cancel();
            done.get()
        };
        let ((), seen) = tokio::join!(working, watching);
        assert!(seen <= 3 * LIMIT, "{seen} reconciles between two steps of the watch");
    }

    #[tokio::test(start_paused = true)]
    async fn few_reconciles_run_at_a_time_and_a_stop_waits_for_them() {
        let (wakes, stop, begun) = (woken(1000), CancellationToken::new(), Cell::new(0));
        let answer = Semaphore::new(0);
        let working = work(&wakes, LIMIT, &stop, async |key| {
            begun.set(begun.get() + 1);
            answer.acquire().await.expect("open").forget();
            wakes.ended(key, Action::await_change());
        });
        let mut working = std::pin::pin!(working);

        let deadline = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(deadline, &mut working).await.is_err());
        assert_eq!(begun.get(), LIMIT);
        stop.cancel();
        assert!(tokio::time::timeout(deadline, &mut working).await.is_err());
        answer.add_permits(LIMIT);
        working.await;
        assert_eq!(begun.get(), LIMIT);
    }
}
