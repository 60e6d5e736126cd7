//! One copy of each index for the whole process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::{Error, Index};
use crate::registry::{Credential, TransportOptions};

/// Indexes are held deflated: Bitnami's takes 2 to 3 MB. This is room for twenty of that size.
const MOST_HELD: usize = 64 * 1024 * 1024;

/// What an index was fetched with. Resources share a copy only if all of it is equal: a credential
/// opens nothing for others, and another authority or proxy could show something else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) url: String,
    pub(super) credential: Credential,
    pub(super) trust: TransportOptions,
}

/// The indexes of all repositories.
///
/// # Guarantees
/// However many ask for an index at the same time, it is fetched and read once; twice, if they
/// accept no copy at all, since those who come while a request is on its way need one that is sent
/// after they came.
pub struct Indexes {
    most_held: usize,
    shelves: Mutex<HashMap<Key, Arc<Shelf>>>,
}

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys hold passwords.
        f.debug_struct("Indexes").field("most_held", &self.most_held).finish_non_exhaustive()
    }
}

impl Default for Indexes {
    fn default() -> Self {
        Self::new(MOST_HELD)
    }
}

/// One index. The lock is held while it is fetched: whoever waits gets what came.
#[derive(Default)]
struct Shelf {
    state: tokio::sync::Mutex<State>,
    /// For eviction; kept outside of the lock.
    held: Mutex<(usize, Option<Instant>)>,
}

#[derive(Default)]
struct State {
    copy: Option<Copy>,
    /// The last failed fetch: when it ended, and what happened.
    failed: Option<(Instant, Arc<Error>)>,
}

/// An index that was fetched.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) index: Arc<Index>,
    pub(super) validators: Validators,
    /// When the request that brought or confirmed it was sent.
    confirmed: Instant,
}

/// What a conditional request sends back.
#[derive(Clone, Default)]
pub(super) struct Validators {
    pub(super) etag: Option<HeaderValue>,
    pub(super) last_modified: Option<HeaderValue>,
}

/// What came of a fetch.
pub(super) enum Fetched {
    /// The copy is still right.
    Unchanged,
    /// A new one.
    New(Index, Validators),
}

impl Indexes {
    /// Holds about this many bytes; what was not used for longest goes first.
    #[must_use]
    pub fn new(most_held: usize) -> Self {
        Self { most_held, shelves: Mutex::default() }
    }

    /// The index of `key`. A copy that is older than `max_age` is confirmed or replaced by `fetch`;
    /// with an age of zero, by a request that is sent after this call. The same age holds for the
    /// answer that there is none.
    pub(super) async fn get<F>(
        &self,
        key: Key,
        max_age: Duration,
        fetch: impl FnOnce(Option<Copy>) -> F,
    ) -> Result<Arc<Index>, Error>
    where
        F: Future<Output = Result<Fetched, Error>>,
    {
        let asked = Instant::now();
        let shelf = self.shelf(&key);
        let mut state = shelf.state.lock().await;
        let oldest = asked.checked_sub(max_age).unwrap_or(asked);
        if let Some(copy) = &state.copy
            && copy.confirmed >= oldest
        {
            shelf.used(None);
            return Ok(copy.index.clone());
        }
        // It failed while we waited: a thousand that wait do not try one after the other. That
        // there is no index for us is an answer as good as an index, and as old as one may be: it
        // is what the first reading of many a `pullUrl` gets.
        if let Some((ended, error)) = &state.failed
            && (*ended >= asked || (error.is_elsewhere() && *ended >= oldest))
        {
            return Err(Error::Shared(error.clone()));
        }
        let began = Instant::now();
        match fetch(state.copy.clone()).await {
            Ok(fetched) => {
                let copy = match (fetched, state.copy.take()) {
                    (Fetched::New(index, validators), _) => {
                        Copy { index: Arc::new(index), validators, confirmed: began }
                    }
                    (Fetched::Unchanged, Some(copy)) => Copy { confirmed: began, ..copy },
                    (Fetched::Unchanged, None) => {
                        return Err(Error::Internal("there is no copy to confirm".into()));
                    }
                };
                let index = copy.index.clone();
                *state = State { copy: Some(copy), failed: None };
                shelf.used(Some(index.held()));
                drop(state);
                self.evict(&key);
                Ok(index)
            }
            Err(error) => {
                // The copy stays for its validators; it is not served.
                let error = Arc::new(error);
                state.failed = Some((Instant::now(), error.clone()));
                Err(Error::Shared(error))
            }
        }
    }

    fn shelf(&self, key: &Key) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock();
        shelves.entry(key.clone()).or_default().clone()
    }

    /// Gives up what was not used for longest, but neither the newest nor what is being fetched or
    /// waited for.
    fn evict(&self, newest: &Key) {
        let mut shelves = self.shelves.lock();
        loop {
            let total: usize = shelves.values().map(|shelf| shelf.held().0).sum();
            if total <= self.most_held {
                return;
            }
            let idle = shelves.iter().filter(|(key, shelf)| {
                *key != newest && Arc::strong_count(shelf) == 1 && shelf.held().0 > 0
            });
            let Some(oldest) =
                idle.min_by_key(|(_, shelf)| shelf.held().1).map(|(key, _)| key.clone())
            else {
                return;
            };
            shelves.remove(&oldest);
        }
    }
}

impl Shelf {
    fn held(&self) -> (usize, Option<Instant>) {
        *self.held.lock()
    }

    fn used(&self, bytes: Option<usize>) {
        let mut held = self.held.lock();
        *held = (bytes.unwrap_or(held.0), Some(Instant::now()));
    }
}
