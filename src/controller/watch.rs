//! Watches that last as long as the process: a list in pages, then a watch from its version, and
//! again from where it ended.
//!
//! kube's `watcher` is not used:
//!
//! - It has no deadline for an answer. An API server that is paused would hold it for ever.
//! - It does not say when a watch has started, so that nobody could tell a quiet watch from one
//!   that fails.
//! - If the answer to a watch is 410 Gone, it repeats the same watch forever. It lists again only
//!   when 410 comes as an event.
//! - Its backoff is reset by every event, even by the start of a list. A watch that fails at once,
//!   for example because of a missing permission, would be retried every second.
//!
//! Errors are never passed on: nobody could do more than to wait for the next event.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{DefaultBackoff, Event};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::api::brief;
use super::list_page::{self, Page, PageSize};
use crate::telemetry::Watch;

/// Deadline of a page. The API server itself ends requests after 60 s.
const LIST_WITHIN: Duration = Duration::from_secs(65);
/// Deadline of the answer that starts a watch.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time after which the API server ends a watch, in seconds. It allows up to 295.
const WATCH_FOR: u32 = 290;
/// A connection without any event, even a bookmark, for this long is dead.
const SILENT_FOR: Duration = Duration::from_secs(295);
/// A watch that ends earlier than this without an event did not work (as in client-go).
const WORKS_AFTER: Duration = Duration::from_secs(1);

/// Lists and watches of one kind.
pub(super) trait Server<K: Clone>: Send + Sync {
    fn list(&self, params: &ListParams) -> impl Future<Output = kube::Result<Page<K>>> + Send;

    fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> impl Future<Output = kube::Result<Events<K>>> + Send;
}

/// The events of one watch.
type Events<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

impl<K> Server<K> for Api<K>
where
    K: Resource<DynamicType: Default> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn list(&self, params: &ListParams) -> kube::Result<Page<K>> {
        list_page::read(self, params).await
    }

    async fn watch(&self, params: &WatchParams, version: &str) -> kube::Result<Events<K>> {
        self.watch(params, version).await.map(StreamExt::boxed)
    }
}

/// A list or a watch that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the list was refused: {}", brief(.0))]
    List(kube::Error),
    #[error("the list was not answered within {} s", LIST_WITHIN.as_secs())]
    ListLate,
    #[error("the list has no resourceVersion")]
    NoVersion,
    #[error("the watch was refused: {}", brief(.0))]
    Start(kube::Error),
    #[error("the watch was not answered within {} s", START_WITHIN.as_secs())]
    StartLate,
    #[error("the watch was ended: {}", brief(.0))]
    Ended(kube::Error),
    #[error("the watch ended at once")]
    EndedAtOnce,
}

impl Error {
    /// Whether only a new list helps: the version to continue from has expired, or the next event
    /// cannot be decoded.
    fn needs_list(&self) -> bool {
        match self {
            Self::List(_) | Self::ListLate | Self::NoVersion => true,
            Self::Start(error) | Self::Ended(error) => match error {
                // kube decodes a line that is not an event as a status without a code. The same line
                // comes again until a list leads past it.
                kube::Error::Api(status) => matches!(status.code, 0 | 410),
                other => matches!(other, kube::Error::SerdeError(_)),
            },
            Self::StartLate | Self::EndedAtOnce => false,
        }
    }
}

/// Position of a watch.
enum State<K> {
    Empty,
    /// A list that goes on at the token.
    Listing {
        token: Option<String>,
    },
    /// Objects of a page, and the position after it.
    Page {
        objects: VecDeque<K>,
        token: Option<String>,
        version: String,
    },
    /// A watch to start from a version.
    Listed {
        version: String,
    },
    Watching {
        version: String,
        events: Events<K>,
        started: Instant,
        works: bool,
    },
}

struct Watcher<K, S, F> {
    server: S,
    labels: Option<String>,
    health: Watch,
    on_error: F,
    backoff: DefaultBackoff,
    page_size: PageSize,
    state: State<K>,
}

/// Returns the events of a kind, without end. Errors are reported to `health` and `on_error` and
/// followed by a wait. When `again` is notified, the objects are listed again.
pub(super) fn events<K, S, F>(
    server: S,
    labels: Option<String>,
    health: Watch,
    again: Arc<Notify>,
    on_error: F,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + Send + 'static,
    S: Server<K> + 'static,
    F: Fn(&Error) + Send + 'static,
{
    let backoff = DefaultBackoff::default();
    let (page_size, state) = (PageSize::default(), State::Empty);
    let watcher = Watcher { server, labels, health, on_error, backoff, page_size, state };
    stream::unfold((watcher, again), |(mut watcher, again)| async {
        loop {
            tokio::select! {
                biased;
                () = again.notified() => watcher.state = State::Empty,
                event = watcher.step() => {
                    if let Some(event) = event {
                        return Some((event, (watcher, again)));
                    }
                }
            }
        }
    })
}

impl<K, S, F> Watcher<K, S, F>
where
    K: Resource + Clone + Send + 'static,
    S: Server<K>,
    F: Fn(&Error) + Send,
{
    /// Moves on by one step, which may have an event.
    async fn step(&mut self) -> Option<Event<K>> {
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Empty => {
                self.state = State::Listing { token: None };
                Some(Event::Init)
            }
            State::Listing { token } => match self.page(token).await {
                Ok(page) => {
                    self.state = page;
                    None
                }
                Err(error) => self.failed(error, String::new()).await,
            },
            State::Page { mut objects, token, version } => {
                if let Some(object) = objects.pop_front() {
                    self.state = State::Page { objects, token, version };
                    return Some(Event::InitApply(object));
                }
                if token.is_some() {
                    self.state = State::Listing { token };
                    return None;
                }
                self.health.listed();
                self.state = State::Listed { version };
                Some(Event::InitDone)
            }
            State::Listed { version } => match self.start(&version).await {
                Ok(events) => {
                    let started = Instant::now();
                    self.state = State::Watching { version, events, started, works: false };
                    None
                }
                Err(error) => self.failed(error, version).await,
            },
            State::Watching { version, events, started, works } => {
                self.watch(version, events, started, works).await
            }
        }
    }

    /// Reads a page of the list.
    async fn page(&mut self, token: Option<String>) -> Result<State<K>, Error> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            limit: Some(self.page_size.get()),
            continue_token: token,
            ..ListParams::default()
        };
        let page = timeout(LIST_WITHIN, self.server.list(&params)).await;
        let page = page.map_err(|_| Error::ListLate)?.map_err(Error::List)?;
        self.page_size = self.page_size.after(&page);

        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        let version = page.metadata.resource_version.unwrap_or_default();
        if version.is_empty() && token.is_none() {
            return Err(Error::NoVersion);
        }
        Ok(State::Page { objects: page.objects.into(), token, version })
    }

    async fn start(&mut self, version: &str) -> Result<Events<K>, Error> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            timeout: Some(WATCH_FOR),
            bookmarks: true,
            ..WatchParams::default()
        };
        let answer = timeout(START_WITHIN, self.server.watch(&params, version)).await;
        answer.map_err(|_| Error::StartLate)?.map_err(Error::Start)
    }

    /// Waits for the next event of a watch.
    async fn watch(
        &mut self,
        version: String,
        mut events: Events<K>,
        started: Instant,
        works: bool,
    ) -> Option<Event<K>> {
        let wait = if works { SILENT_FOR } else { WORKS_AFTER };
        let Ok(event) = timeout(wait, events.next()).await else {
            if works {
                // The connection is dead. The watch goes on with another one.
                self.state = State::Listed { version };
            } else {
                self.health.works();
                self.state = State::Watching { version, events, started, works: true };
            }
            return None;
        };

        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => return self.failed(Error::Ended(error), version).await,
            None if !works && started.elapsed() < WORKS_AFTER => {
                return self.failed(Error::EndedAtOnce, version).await;
            }
            None => {
                self.state = State::Listed { version };
                return None;
            }
        };

        let (version, event) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                (object.resource_version().unwrap_or(version), Some(Event::Apply(object)))
            }
            WatchEvent::Deleted(object) => {
                (object.resource_version().unwrap_or(version), Some(Event::Delete(object)))
            }
            WatchEvent::Bookmark(bookmark) => (bookmark.metadata.resource_version, None),
            WatchEvent::Error(status) => {
                return self.failed(Error::Ended(kube::Error::Api(status)), version).await;
            }
        };
        self.health.works();
        self.backoff.reset();
        self.state = State::Watching { version, events, started, works: true };
        event
    }

    /// Reports an error, and waits before the next try.
    async fn failed(&mut self, error: Error, version: String) -> Option<Event<K>> {
        (self.on_error)(&error);
        self.health.failed(error.to_string());
        self.state = match error.needs_list() {
            true => State::Empty,
            false => State::Listed { version },
        };
        // The backoff has no end: it has no greatest number of tries.
        tokio::time::sleep(self.backoff.next().unwrap_or(START_WITHIN)).await;
        None
    }
}

#[cfg(test)]
mod tests;
