//! Watches that last as long as the process. kube's watcher continues after an error, but has three
//! gaps:
//!
//! - If the answer to a watch is 410 Gone, it repeats the same watch forever. It lists again only
//!   when 410 comes as an event.
//! - Its backoff is reset by every event, even by the start of a list. A watch that fails at once,
//!   for example because of a missing permission, would be retried every second.
//! - An error that reaches `Controller` delays everything that it does, even reports of finished
//!   jobs.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{self, DefaultBackoff, Error, Event};

/// Returns the events of the watches that `start` makes, one after the other. Errors are reported
/// to `on_error` and followed by a wait, never passed on.
pub(super) fn lasting<K, S>(
    start: impl Fn() -> S + Send + 'static,
    on_error: impl Fn(&Error) + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let first = start().boxed();
    let again = move |events: BoxStream<'static, _>, error: Option<&Error>| match error {
        Some(error) if !is_gone(error) => events,
        _ => start().boxed(),
    };

    let state = (first, DefaultBackoff::default(), again, on_error);
    stream::unfold(state, |(mut events, mut backoff, again, on_error)| async move {
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    // A list is no reason to reset: it succeeds even if every watch is refused.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        backoff.reset();
                    }
                    return Some((event, (events, backoff, again, on_error)));
                }
                Some(Err(error)) => {
                    on_error(&error);
                    tokio::time::sleep(backoff.next()?).await;
                    events = again(events, Some(&error));
                }
                None => events = again(events, None),
            }
        }
    })
}

/// Whether the resource version that the watch should continue from has expired.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Returns the objects to reconcile. The objects of a list come when the list is complete: until
/// then the store has the old objects, and a long list takes many requests.
pub(super) fn applied<K: Send>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<K>> + Send {
    let mut listed = Vec::new();
    events.flat_map(move |event| {
        let objects = match event {
            Ok(Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                listed.push(Ok(object));
                Vec::new()
            }
            Ok(Event::InitDone) => std::mem::take(&mut listed),
            Ok(Event::Apply(object)) => vec![Ok(object)],
            Ok(Event::Delete(_)) => Vec::new(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(objects)
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use kube::core::Status;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("why", "Reason").with_code(code).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_answered_410_starts_over_with_a_list() {
        let starts = Arc::new(AtomicUsize::new(0));
        let count = starts.clone();
        let start = move || {
            let error = match count.fetch_add(1, Ordering::Relaxed) {
                0 => Error::WatchStartFailed(refused(410)),
                1 => Error::WatchStartFailed(refused(500)),
                _ => panic!("only 410 starts over"),
            };
            stream::iter([Ok(Event::Init), Ok(Event::InitDone), Err(error), Ok(Event::Apply(1))])
        };

        let events = lasting(start, |_| {}).take(5).collect::<Vec<_>>().await;
        let wanted = [Event::Init, Event::InitDone, Event::Init, Event::InitDone, Event::Apply(1)];
        assert_eq!(format!("{events:?}"), format!("{wanted:?}"));
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_while_lists_succeed_and_watches_do_not() {
        let times = Arc::new(Mutex::new(Vec::new()));
        let log = times.clone();
        let start = || {
            stream::iter([
                Ok(Event::<u8>::Init),
                Ok(Event::InitDone),
                Err(Error::WatchStartFailed(refused(410))),
            ])
        };

        let on_error = move |_: &Error| log.lock().push(Instant::now());
        let mut events = pin!(lasting(start, on_error));

        while times.lock().len() < 8 {
            events.next().await;
        }

        let times = times.lock().clone();
        let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        for (gap, least) in gaps.iter().zip([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]) {
            assert!((least..=2.0 * least + 0.1).contains(gap), "{gaps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_of_a_watch_resets_the_backoff() {
        let start = || {
            let error = || Err(Error::WatchStartFailed(refused(500)));
            let fails = stream::iter((0..6).map(move |_| error()));
            fails.chain(stream::iter([Ok(Event::Apply(1)), error(), Ok(Event::Apply(2))]))
        };
        let mut events = pin!(lasting(start, |_| {}));
        events.next().await;
        let before = Instant::now();
        events.next().await;
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn objects_of_a_list_come_when_it_is_complete() {
        let (sender, events) = futures::channel::mpsc::unbounded();
        let mut objects = pin!(applied(events));
        let mut now = || {
            futures::FutureExt::now_or_never(objects.next())
                .map(|object| object.expect("more").expect("good"))
        };

        for event in [
            Event::Init,
            Event::InitApply(1),
            Event::Init,
            Event::InitApply(2),
            Event::InitApply(3),
        ] {
            sender.unbounded_send(Ok(event)).expect("open");
            assert_eq!(now(), None);
        }

        for event in [Event::InitDone, Event::Delete(2), Event::Apply(4)] {
            sender.unbounded_send(Ok(event)).expect("open");
        }
        assert_eq!([now(), now(), now(), now()], [Some(2), Some(3), Some(4), None]);
    }
}
