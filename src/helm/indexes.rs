//! The cache of chart repository indexes: one copy of each index for the whole process, fetched
//! once for all that need it, confirmed when it is old, and evicted when memory is short.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::{Error, Index};
use crate::bounded::Cache;
use crate::hash::Fingerprint;

/// The most room for indexes: twenty of Bitnami's size, which takes 2 to 3 MB deflated.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a slot without an index: its bookkeeping, and the error of a failed fetch.
const SLOT_BYTES: usize = 2048;

/// The indexes of all repositories.
///
/// # Guarantees
/// An index that many need at the same time is fetched and read once. It is fetched twice if they
/// accept no copy at all: a caller that comes during a request then needs one that is sent later.
#[derive(Debug)]
pub struct Indexes {
    slots: Mutex<Cache<Fingerprint, Arc<Slot>>>,
}

impl Default for Indexes {
    fn default() -> Self {
        Self::new(MAX_BYTES)
    }
}

/// The slot of one index, which is locked during a fetch: callers that wait get its result.
type Slot = tokio::sync::Mutex<State>;

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
    /// Those in use stay.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let is_in_use = |slot: &Arc<Slot>| Arc::strong_count(slot) > 1;
        Self { slots: Mutex::new(Cache::with_use(max_bytes, is_in_use)) }
    }

    /// Returns the index of `key`: the fingerprint of its address, and of the credential and the
    /// trust of the fetch. Resources share a copy only if all of them are equal: a login gives
    /// nothing to others, and another certificate authority or proxy could serve another index.
    ///
    ///  A copy older than `max_age` is confirmed or replaced by `fetch`;
    /// with an age of zero, by a request that is sent after this call. The same age applies to the
    /// answer that there is no index.
    pub(super) async fn get<F>(
        &self,
        key: Fingerprint,
        max_age: Duration,
        fetch: impl FnOnce(Option<CachedIndex>) -> F,
    ) -> Result<Arc<Index>, Error>
    where
        F: Future<Output = Result<Fetched, Error>>,
    {
        let called = Instant::now();
        let slot = self.slots.lock().get_or_insert_with(key, SLOT_BYTES, Arc::default);
        let mut state = slot.lock().await;
        let oldest = called.checked_sub(max_age).unwrap_or(called);
        if let Some(copy) = &state.copy
            && copy.confirmed >= oldest
        {
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
                self.slots.lock().resize(&key, SLOT_BYTES + index.size());
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rewritten Secret, or an address without an index, leaves only its bookkeeping behind.
    #[tokio::test]
    async fn failed_fetches_of_many_logins_stay_within_the_bound() {
        let indexes = Indexes::new(100_000);
        for password in 0..200 {
            let key = Fingerprint::of(password);
            let fetch = |_| async { Err(Error::Internal("no index here".into())) };
            indexes.get(key, Duration::ZERO, fetch).await.expect_err("no index");
            assert!(indexes.slots.lock().bytes() <= 100_000);
        }
    }
}
