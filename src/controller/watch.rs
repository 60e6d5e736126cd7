//! Watches that last as long as the process. kube's watcher goes on after an error, but leaves
//! three things to us:
//!
//! - It makes the same watch again when one is answered 410 Gone (it lists again only when 410
//!   comes as an event), for ever.
//! - Its backoff starts over with every event, the one that says "I start to list" included: what
//!   fails at once (a right that is missing) would be asked for every second.
//! - An error that reached `Controller` would hold up everything that it does, reports of finished
//!   jobs included.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{self, DefaultBackoff, Error, Event};

/// The events of the watches that `start` makes, one after the other. Errors are told and waited
/// out, never passed on.
pub(super) fn lasting<K, S>(
    start: impl Fn() -> S + Send + 'static,
    tell: impl Fn(&Error) + Send + 'static,
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
    let state = (first, DefaultBackoff::default(), again, tell);
    stream::unfold(state, |(mut events, mut backoff, again, tell)| async move {
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    // A list proves nothing: it succeeds also where every watch is refused.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        backoff.reset();
                    }
                    return Some((event, (events, backoff, again, tell)));
                }
                Some(Err(error)) => {
                    tell(&error);
                    tokio::time::sleep(backoff.next()?).await;
                    events = again(events, Some(&error));
                }
                None => events = again(events, None),
            }
        }
    })
}

/// Whether the place where the watch should go on is not there any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// The objects to look at. Those of a list come when the list is complete: the store shows what it
/// held before until then, and a list of many objects takes many requests.
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use kube::core::Status;
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
        let told = times.clone();
        let start = || {
            stream::iter([
                Ok(Event::<u8>::Init),
                Ok(Event::InitDone),
                Err(Error::WatchStartFailed(refused(410))),
            ])
        };
        let tell = move |_: &Error| told.lock().expect("not poisoned").push(Instant::now());
        let mut events = pin!(lasting(start, tell));
        while times.lock().expect("not poisoned").len() < 8 {
            events.next().await;
        }
        let times = times.lock().expect("not poisoned").clone();
        let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        for (gap, least) in gaps.iter().zip([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]) {
            assert!((least..=2.0 * least + 0.1).contains(gap), "{gaps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_of_a_watch_makes_the_next_wait_short() {
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
