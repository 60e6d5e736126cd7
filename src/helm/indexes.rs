//! The cache of chart repository indexes: one copy of each index for the whole process, fetched
//! once for all that need it, confirmed when it is old, and evicted when memory is short.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::{Error, Index};
use crate::registry::{Credential, TransportOptions};

/// Room for twenty indexes of Bitnami's size, which takes 2 to 3 MB deflated.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The address, credential and trust of a fetch. Resources share a copy only if all of them are
/// equal: a login gives nothing to others, and another certificate authority or proxy could serve
/// another index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) url: String,
    pub(super) credential: Credential,
    pub(super) trust: TransportOptions,
}

/// The indexes of all repositories.
///
/// # Guarantees
/// An index that many need at the same time is fetched and read once. It is fetched twice if they
/// accept no copy at all: a caller that comes during a request then needs one that is sent later.
#[derive(Debug)]
pub struct Indexes {
    max_bytes: usize,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

impl Default for Indexes {
    fn default() -> Self {
        Self::new(MAX_BYTES)
    }
}

/// The slot of one index. The lock is held during a fetch: callers that wait get its result.
#[derive(Debug, Default)]
struct Slot {
    state: tokio::sync::Mutex<State>,
    /// Size and last use, for eviction; outside of the lock.
    usage: Mutex<(usize, Option<Instant>)>,
}

#[derive(Debug, Default)]
struct State {
    copy: Option<CachedIndex>,
    /// The last failed fetch: its end and its error.
    failed: Option<(Instant, Arc<Error>)>,
}

/// A fetched index.
#[derive(Clone, Debug)]
pub(super) struct CachedIndex {
    pub(super) index: Arc<Index>,
    pub(super) validators: Validators,
    /// The time at which the request that fetched or confirmed it was sent.
    confirmed: Instant,
}

/// The validators for a conditional request.
#[derive(Clone, Debug, Default)]
pub(super) struct Validators {
    pub(super) etag: Option<HeaderValue>,
    pub(super) last_modified: Option<HeaderValue>,
}

/// The result of a fetch.
pub(super) enum Fetched {
    /// The copy is current.
    Unchanged,
    /// A new index.
    New(Index, Validators),
}

impl Indexes {
    /// Creates a cache of about this many bytes. The least recently used index is evicted first.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, slots: Mutex::default() }
    }

    /// Returns the index of `key`. A copy older than `max_age` is confirmed or replaced by `fetch`;
    /// with an age of zero, by a request that is sent after this call. The same age applies to the
    /// answer that there is no index.
    pub(super) async fn get<F>(
        &self,
        key: Key,
        max_age: Duration,
        fetch: impl FnOnce(Option<CachedIndex>) -> F,
    ) -> Result<Arc<Index>, Error>
    where
        F: Future<Output = Result<Fetched, Error>>,
    {
        let called = Instant::now();
        let slot = self.slots.lock().entry(key.clone()).or_default().clone();
        let mut state = slot.state.lock().await;
        let oldest = called.checked_sub(max_age).unwrap_or(called);
        if let Some(copy) = &state.copy
            && copy.confirmed >= oldest
        {
            slot.used(None);
            return Ok(copy.index.clone());
        }

        // A fetch that failed while this call waited is not repeated: a thousand waiting calls
        // would retry one after the other. The answer "no index here" may be as old as an index:
        // the first address that a `pullUrl` could mean often gets it.
        if let Some((ended, error)) = &state.failed
            && (*ended >= called || (error.is_elsewhere() && *ended >= oldest))
        {
            return Err(Error::Shared(error.clone()));
        }

        let started = Instant::now();
        match fetch(state.copy.clone()).await {
            Ok(fetched) => {
                let copy = match (fetched, state.copy.take()) {
                    (Fetched::New(index, validators), _) => {
                        CachedIndex { index: Arc::new(index), validators, confirmed: started }
                    }
                    (Fetched::Unchanged, Some(copy)) => CachedIndex { confirmed: started, ..copy },
                    (Fetched::Unchanged, None) => {
                        return Err(Error::Internal("there is no copy to confirm".into()));
                    }
                };
                let index = copy.index.clone();
                *state = State { copy: Some(copy), failed: None };
                slot.used(Some(index.size()));
                drop(state);
                self.evict(&key);
                Ok(index)
            }
            Err(error) => {
                // The copy is kept for its validators, but not served.
                let error = Arc::new(error);
                state.failed = Some((Instant::now(), error.clone()));
                Err(Error::Shared(error))
            }
        }
    }

    /// Evicts the least recently used indexes, except the newest one and those in use.
    fn evict(&self, newest: &Key) {
        let mut slots = self.slots.lock();
        loop {
            let total: usize = slots.values().map(|slot| slot.usage().0).sum();
            if total <= self.max_bytes {
                return;
            }

            let idle = slots.iter().filter(|(key, slot)| {
                *key != newest && Arc::strong_count(slot) == 1 && slot.usage().0 > 0
            });
            let oldest = idle.min_by_key(|(_, slot)| slot.usage().1).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            slots.remove(&oldest);
        }
    }
}

impl Slot {
    fn usage(&self) -> (usize, Option<Instant>) {
        *self.usage.lock()
    }

    fn used(&self, bytes: Option<usize>) {
        let mut usage = self.usage.lock();
        *usage = (bytes.unwrap_or(usage.0), Some(Instant::now()));
    }
}
