//! What the process remembers from one look to the next. Losing it costs requests, never
//! correctness.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::registry::{Digest, Tag};

/// Entries of each kind: some hundred bytes each. What is forgotten is found out again.
const MOST_KEPT: usize = 10_000;
/// An index may go without us: by a lifecycle rule, once no tag names it.
const NAMED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What earlier looks found out.
#[derive(Debug, Default)]
pub(in crate::sync) struct Known(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Digest of a chart's archive, and whether its provenance file is wanted -> digest of the
    /// manifest that was made.
    made: HashMap<(Digest, bool), Digest>,
    /// Digest of an index, and the platforms that are wanted of it -> digest of what is copied.
    narrowed: HashMap<(Digest, String), Digest>,
    /// ARN of a repository -> tags that ECR keeps for an index, with what they point to, and since
    /// when we know.
    named: HashMap<String, HashMap<(Tag, Digest), Instant>>,
}

impl Known {
    /// What was made of a chart's archive. Enough to spare a version; before one goes, its archive
    /// is read again, which may be gone, or have another provenance file.
    pub(super) fn made(&self, archive: &Digest, provenance: bool) -> Option<Digest> {
        self.with(|kept| kept.made.get(&(archive.clone(), provenance)).cloned())
    }

    pub(super) fn remember_made(&self, archive: Digest, provenance: bool, manifest: Digest) {
        self.with(|kept| keep(&mut kept.made, (archive, provenance), manifest));
    }

    /// What is copied of an index for these platforms: always the same.
    pub(super) fn narrowed(&self, index: &Digest, platforms: &str) -> Option<Digest> {
        self.with(|kept| kept.narrowed.get(&(index.clone(), platforms.to_owned())).cloned())
    }

    pub(super) fn remember_narrowed(&self, index: Digest, platforms: String, target: Digest) {
        self.with(|kept| keep(&mut kept.narrowed, (index, platforms), target));
    }

    /// Whether ECR kept this tag for an index not long ago, and no index went by our hand since.
    pub(super) fn is_named(&self, repository: &str, tag: &Tag, digest: &Digest) -> bool {
        let key = (tag.clone(), digest.clone());
        self.with(|kept| {
            let since = kept.named.get(repository).and_then(|named| named.get(&key));
            since.is_some_and(|since| since.elapsed() < NAMED_FOR)
        })
    }

    pub(super) fn remember_named(&self, repository: &str, tag: Tag, digest: Digest) {
        self.with(|kept| {
            if kept.named.values().map(HashMap::len).sum::<usize>() >= MOST_KEPT {
                kept.named.clear();
            }
            kept.named
                .entry(repository.to_owned())
                .or_default()
                .insert((tag, digest), Instant::now());
        });
    }

    /// An index went: what it named may go now.
    pub(super) fn forget_named(&self, repository: &str) {
        self.with(|kept| kept.named.remove(repository));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn keep<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() >= MOST_KEPT {
        map.clear();
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_bounded_and_kept_apart() {
        let known = Known::default();
        let digest = |number: usize| Digest::sha256_of(&number.to_le_bytes());
        for number in 0..=MOST_KEPT {
            known.remember_made(digest(number), false, digest(0));
        }
        assert_eq!(known.made(&digest(0), false), None, "forgotten with all others");
        assert_eq!(known.made(&digest(MOST_KEPT), false), Some(digest(0)));
        assert_eq!(
            known.made(&digest(MOST_KEPT), true),
            None,
            "with its provenance it is another one"
        );

        let tag: Tag = "1-amd64".parse().expect("a tag");
        known.remember_named("one", tag.clone(), digest(1));
        assert!(known.is_named("one", &tag, &digest(1)));
        assert!(
            !known.is_named("one", &tag, &digest(2)) && !known.is_named("two", &tag, &digest(1))
        );
        tokio::time::advance(NAMED_FOR).await;
        assert!(!known.is_named("one", &tag, &digest(1)), "the index may have gone without us");
        known.remember_named("one", tag.clone(), digest(1));
        assert!(known.is_named("one", &tag, &digest(1)));
        known.forget_named("one");
        assert!(!known.is_named("one", &tag, &digest(1)));
    }
}
