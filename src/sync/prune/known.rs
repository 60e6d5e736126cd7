//! What the process remembers from one look to the next. Losing it costs requests, never correctness.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::registry::{Digest, Tag};

/// Entries of each kind: some hundred bytes each. What is forgotten is found out again.
const MOST_KEPT: usize = 10_000;

/// What earlier looks found out.
#[derive(Debug, Default)]
pub(in crate::sync) struct Known(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Digest of a chart's archive, and whether its provenance file is part of the artifact -> digest of the manifest.
    made: HashMap<(Digest, bool), Digest>,
    /// ARN of a repository -> tags that ECR keeps for an index, with what they point to.
    named: HashMap<String, HashSet<(Tag, Digest)>>,
}

impl Known {
    /// What is made of a chart's archive.
    pub(super) fn made(&self, archive: &Digest, provenance: bool) -> Option<Digest> {
        self.with(|kept| kept.made.get(&(archive.clone(), provenance)).cloned())
    }

    pub(super) fn remember_made(&self, archive: Digest, provenance: bool, manifest: Digest) {
        self.with(|kept| {
            if kept.made.len() >= MOST_KEPT {
                kept.made.clear();
            }
            kept.made.insert((archive, provenance), manifest);
        });
    }

    /// Whether ECR kept this tag for an index, and no index went since.
    pub(super) fn is_named(&self, repository: &str, tag: &Tag, digest: &Digest) -> bool {
        let is_it = |named: &HashSet<(Tag, Digest)>| named.contains(&(tag.clone(), digest.clone()));
        self.with(|kept| kept.named.get(repository).is_some_and(is_it))
    }

    pub(super) fn remember_named(&self, repository: &str, tag: Tag, digest: Digest) {
        self.with(|kept| {
            if kept.named.values().map(HashSet::len).sum::<usize>() >= MOST_KEPT {
                kept.named.clear();
            }
            kept.named.entry(repository.to_owned()).or_default().insert((tag, digest));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_bounded_and_kept_apart() {
        let known = Known::default();
        let digest = |number: usize| Digest::sha256_of(&number.to_le_bytes());
        for number in 0..=MOST_KEPT {
            known.remember_made(digest(number), false, digest(0));
        }
        assert_eq!(known.made(&digest(0), false), None, "forgotten with all others");
        assert_eq!(known.made(&digest(MOST_KEPT), false), Some(digest(0)));
        assert_eq!(known.made(&digest(MOST_KEPT), true), None, "with its provenance it is another one");

        let tag: Tag = "1-amd64".parse().expect("a tag");
        known.remember_named("one", tag.clone(), digest(1));
        assert!(known.is_named("one", &tag, &digest(1)));
        assert!(!known.is_named("one", &tag, &digest(2)) && !known.is_named("two", &tag, &digest(1)));
        known.forget_named("one");
        assert!(!known.is_named("one", &tag, &digest(1)));
    }
}
