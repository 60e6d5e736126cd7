//! What the process remembers from one look to the next. Losing it costs requests, never
//! correctness.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bounded::BoundedMap;
use crate::registry::{Digest, Tag};

/// Entries of each kind: some hundred bytes each. What is forgotten is found out again.
const MAX_ENTRIES: usize = 10_000;
/// An index may go without us: by a lifecycle rule, once no tag names it.
const NAMED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What earlier looks found out.
#[derive(Debug, Default)]
pub(in crate::sync) struct Cache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Digest of a chart's archive, and whether its provenance file is wanted -> digest of the
    /// manifest that was made.
    made: BoundedMap<(Digest, bool), Digest, MAX_ENTRIES>,
    /// Digest of an index, and the platforms that are wanted of it -> digest of what is copied.
    narrowed: BoundedMap<(Digest, String), Digest, MAX_ENTRIES>,
    /// ARN of a repository -> tags that ECR keeps for an index, with what they point to, and since
    /// when we know.
    named: HashMap<String, HashMap<(Tag, Digest), Instant>>,
}

impl Cache {
    /// What was made of a chart's archive. Enough to spare a version; before one goes, its archive
    /// is read again, which may be gone, or have another provenance file.
    pub(super) fn made(&self, archive: &Digest, provenance: bool) -> Option<Digest> {
        self.with(|entries| entries.made.get(&(archive.clone(), provenance)).cloned())
    }

    pub(super) fn remember_made(&self, archive: Digest, provenance: bool, manifest: Digest) {
        self.with(|entries| entries.made.insert((archive, provenance), manifest));
    }

    /// What is copied of an index for these platforms: always the same.
    pub(super) fn narrowed(&self, index: &Digest, platforms: &str) -> Option<Digest> {
        self.with(|entries| entries.narrowed.get(&(index.clone(), platforms.to_owned())).cloned())
    }

    pub(super) fn remember_narrowed(&self, index: Digest, platforms: String, target: Digest) {
        self.with(|entries| entries.narrowed.insert((index, platforms), target));
    }

    /// Whether ECR kept this tag for an index not long ago, and no index went by our hand since.
    pub(super) fn is_named(&self, repository: &str, tag: &Tag, digest: &Digest) -> bool {
        let key = (tag.clone(), digest.clone());
        self.with(|entries| {
            let since = entries.named.get(repository).and_then(|named| named.get(&key));
            since.is_some_and(|since| since.elapsed() < NAMED_FOR)
        })
    }

    pub(super) fn remember_named(&self, repository: &str, tag: Tag, digest: Digest) {
        self.with(|entries| {
            if entries.named.values().map(HashMap::len).sum::<usize>() >= MAX_ENTRIES {
                entries.named.clear();
            }
            entries
                .named
                .entry(repository.to_owned())
                .or_default()
                .insert((tag, digest), Instant::now());
        });
    }

    /// An index went: what it named may go now.
    pub(super) fn forget_named(&self, repository: &str) {
        self.with(|entries| entries.named.remove(repository));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        change(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_bounded_and_kept_apart() {
        let cache = Cache::default();
        let digest = |number: usize| Digest::sha256_of(&number.to_le_bytes());
        for number in 0..=MAX_ENTRIES {
            cache.remember_made(digest(number), false, digest(0));
        }
        assert_eq!(cache.made(&digest(0), false), None, "forgotten with all others");
        assert_eq!(cache.made(&digest(MAX_ENTRIES), false), Some(digest(0)));
        assert_eq!(
            cache.made(&digest(MAX_ENTRIES), true),
            None,
            "with its provenance it is another one"
        );

        let tag: Tag = "1-amd64".parse().expect("a tag");
        cache.remember_named("one", tag.clone(), digest(1));
        assert!(cache.is_named("one", &tag, &digest(1)));
        assert!(
            !cache.is_named("one", &tag, &digest(2)) && !cache.is_named("two", &tag, &digest(1))
        );
        tokio::time::advance(NAMED_FOR).await;
        assert!(!cache.is_named("one", &tag, &digest(1)), "the index may have gone without us");
        cache.remember_named("one", tag.clone(), digest(1));
        assert!(cache.is_named("one", &tag, &digest(1)));
        cache.forget_named("one");
        assert!(!cache.is_named("one", &tag, &digest(1)));
    }
}
