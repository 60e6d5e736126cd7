//! Results of checks that the process remembers. Losing them costs requests, never correctness.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bounded;
use crate::hash::Fingerprint;
use crate::registry::{Digest, Tag};

/// Room for the entries of each kind with digests: some ten thousand.
const BYTES: usize = 4 * 1024 * 1024;
/// Entries about tags that ECR keeps.
const MAX_KEPT: usize = 10_000;
/// Lifetime of an entry about a tag that ECR keeps for an index. A lifecycle rule may remove the
/// index once it has no tag.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Results of earlier checks.
#[derive(Debug, Default)]
pub(in crate::sync) struct Cache(Mutex<Entries>);

#[derive(Debug)]
struct Entries {
    /// Digest of a chart archive, and whether its provenance file is wanted -> digest of the
    /// manifest that was built.
    built: bounded::Cache<Fingerprint, Digest>,
    /// Digest of an index, and the wanted platforms -> digest that is copied.
    narrowed: bounded::Cache<Fingerprint, Digest>,
    /// ARN of a repository -> tags that ECR keeps for an index, with their digests, and when that
    /// was noticed.
    kept: HashMap<String, HashMap<(Tag, Digest), Instant>>,
}

impl Default for Entries {
    fn default() -> Self {
        let cache = || bounded::Cache::new(BYTES);
        Self { built: cache(), narrowed: cache(), kept: HashMap::new() }
    }
}

impl Cache {
    /// Returns the digest of the manifest that was built from a chart archive. It is enough to
    /// spare a version. Before a version is removed, its archive is read again: it may no longer
    /// exist, or have another provenance file.
    pub(super) fn built(&self, archive: &Digest, provenance: bool) -> Option<Digest> {
        self.0.lock().built.get(&Fingerprint::of((archive, provenance))).cloned()
    }

    pub(super) fn remember_built(&self, archive: &Digest, provenance: bool, manifest: Digest) {
        let (key, bytes) = (Fingerprint::of((archive, provenance)), manifest.as_str().len());
        self.0.lock().built.insert(key, manifest, bytes);
    }

    /// Returns the digest that is copied of an index for these platforms. It never changes.
    pub(super) fn narrowed(&self, index: &Digest, platforms: &str) -> Option<Digest> {
        self.0.lock().narrowed.get(&Fingerprint::of((index, platforms))).cloned()
    }

    pub(super) fn remember_narrowed(&self, index: &Digest, platforms: &str, target: Digest) {
        let (key, bytes) = (Fingerprint::of((index, platforms)), target.as_str().len());
        self.0.lock().narrowed.insert(key, target, bytes);
    }

    /// Whether ECR refused a short time ago to remove this tag because of an index, and no index
    /// was pruned since.
    pub(super) fn is_kept(&self, repository: &str, tag: &Tag, digest: &Digest) -> bool {
        let key = (tag.clone(), digest.clone());
        let entries = self.0.lock();
        let since = entries.kept.get(repository).and_then(|tags| tags.get(&key));
        since.is_some_and(|since| since.elapsed() < KEPT_FOR)
    }

    pub(super) fn remember_kept(&self, repository: &str, tag: Tag, digest: Digest) {
        let mut entries = self.0.lock();
        if entries.kept.values().map(HashMap::len).sum::<usize>() >= MAX_KEPT {
            entries.kept.clear();
        }
        let tags = entries.kept.entry(repository.to_owned()).or_default();
        tags.insert((tag, digest), Instant::now());
    }

    /// Forgets the kept tags of a repository: an index was pruned, and its children may be removed.
    pub(super) fn forget_kept(&self, repository: &str) {
        self.0.lock().kept.remove(repository);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_are_bounded_and_separate() {
        let cache = Cache::default();
        let digest = |number: usize| Digest::sha256_of(&number.to_le_bytes());
        for number in 0..=50_000 {
            cache.remember_built(&digest(number), false, digest(0));
        }
        assert_eq!(cache.built(&digest(0), false), None, "the oldest entries are removed");
        assert_eq!(cache.built(&digest(50_000), false), Some(digest(0)));
        assert_eq!(
            cache.built(&digest(50_000), true),
            None,
            "with provenance it is another manifest"
        );

        let tag: Tag = "1-amd64".parse().expect("a tag");
        cache.remember_kept("one", tag.clone(), digest(1));
        assert!(cache.is_kept("one", &tag, &digest(1)));
        assert!(!cache.is_kept("one", &tag, &digest(2)) && !cache.is_kept("two", &tag, &digest(1)));
        tokio::time::advance(KEPT_FOR).await;
        assert!(
            !cache.is_kept("one", &tag, &digest(1)),
            "the index may have been removed by others"
        );
        cache.remember_kept("one", tag.clone(), digest(1));
        assert!(cache.is_kept("one", &tag, &digest(1)));
        cache.forget_kept("one");
        assert!(!cache.is_kept("one", &tag, &digest(1)));
    }
}
