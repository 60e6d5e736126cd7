//! Which tags of a repository might go. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::ecr::Stored;
use crate::registry::{Digest, Tag};
use crate::sync::{ArtifactKind, Desired};

/// A tag that neither artifact wants, and that a source still lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The artifact whose source lists it.
    pub(super) kind: ArtifactKind,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) is_index: bool,
}

/// All that is in the repository, by what is asked of it.
#[derive(Debug)]
pub(super) struct Stock<'a> {
    images: &'a [Stored],
    digests: HashSet<&'a Digest>,
    /// Subject -> what refers to it.
    referrers: HashMap<&'a Digest, Vec<&'a Digest>>,
    /// The same by name: `sha256-…`, `sha256-….sig`.
    named: HashMap<String, Vec<(&'a Tag, &'a Digest)>>,
}

impl<'a> Stock<'a> {
    pub(super) fn new(images: &'a [Stored]) -> Self {
        let mut referrers: HashMap<_, Vec<_>> = HashMap::new();
        let mut named: HashMap<_, Vec<_>> = HashMap::new();
        for image in images {
            if let Some(subject) = &image.subject {
                referrers.entry(subject).or_default().push(&image.digest);
            }
            for tag in &image.tags {
                if let Some(subject) = subject_of(tag) {
                    named.entry(subject).or_default().push((tag, &image.digest));
                }
            }
        }
        Self { images, digests: images.iter().map(|image| &image.digest).collect(), referrers, named }
    }

    /// How many tags there are.
    pub(super) fn tags(&self) -> usize {
        self.images.iter().map(|image| image.tags.len()).sum()
    }

    /// What refers to an image, and what refers to that.
    pub(super) fn referrers(&self, digest: &'a Digest) -> BTreeSet<&'a Digest> {
        let mut found = BTreeSet::new();
        let mut next = vec![digest];
        while let Some(subject) = next.pop() {
            let new = self.referrers.get(subject).into_iter().flatten().copied().filter(|digest| found.insert(*digest));
            next.extend(new.collect::<Vec<_>>());
        }
        found
    }

    /// Tags whose names say that they refer to an image.
    pub(super) fn named_after(&self, digest: &Digest) -> &[(&'a Tag, &'a Digest)] {
        self.named.get(digest.hex()).map_or(&[], Vec::as_slice)
    }

    /// Whether something is of an image that is here, as a signature is.
    fn refers(&self, image: &Stored, tag: &Tag) -> bool {
        let by_name = || {
            let subject: Option<Digest> = subject_of(tag).and_then(|hex| format!("sha256:{hex}").parse().ok());
            subject.is_some_and(|subject| self.digests.contains(&subject))
        };
        image.subject.as_ref().is_some_and(|subject| self.digests.contains(subject)) || by_name()
    }
}

/// The digits of the digest that a tag is named after: `sha256-<64 digits>`, as the OCI referrers tag schema and cosign
/// have it, with anything behind.
fn subject_of(tag: &Tag) -> Option<String> {
    let digits = tag.as_str().strip_prefix("sha256-")?.get(..64)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.to_owned())
}

/// What spares a tag, whatever the sources have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spared<'a> {
    /// Images that were pushed or pulled within this time.
    pub(super) min_unpulled: Duration,
    /// Images that indexes name which stay.
    pub(super) children: &'a BTreeSet<Digest>,
}

/// The tags that might go, those longest unused first.
pub(super) fn candidates(desired: &Desired, stock: &Stock<'_>, spared: Spared<'_>, now: SystemTime) -> Vec<Candidate> {
    let wanted: BTreeSet<&Tag> = desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys()).collect();
    let is_unused = |image: &Stored| {
        let limit = now.checked_sub(spared.min_unpulled);
        matches!((image.used, limit), (Some(used), Some(limit)) if used <= limit)
    };
    let mut found = BTreeMap::new();
    for image in stock.images.iter().filter(|image| image.is_active && is_unused(image)) {
        if spared.children.contains(&image.digest) {
            continue;
        }
        for tag in image.tags.iter().filter(|tag| !wanted.contains(tag) && !stock.refers(image, tag)) {
            for artifact in &desired.artifacts {
                if matches!(&artifact.offered, Some(Ok(offered)) if offered.contains_key(tag)) {
                    let (kind, digest) = (artifact.kind, image.digest.clone());
                    let candidate = Candidate { kind, tag: tag.clone(), digest, is_index: image.is_index };
                    found.insert((image.used, tag.clone(), kind), candidate);
                }
            }
        }
    }
    found.into_values().collect()
}

/// How many tags one run removes of a repository that has `tags`.
pub(super) fn allowed(tags: usize, max_percent: i64) -> usize {
    let percent = usize::try_from(max_percent).unwrap_or(0).min(100);
    (tags.saturating_mul(percent) / 100).max(1)
}
