//! Candidates for pruning: the tags of a repository that may be removed. Signatures are kept while
//! their image is in the repository. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::ecr::Stored;
use crate::hash::hash;
use crate::registry::{Digest, Tag};
use crate::sync::artifact::ArtifactKind;
use crate::sync::desired::Desired;

/// A tag that neither artifact wants, and that a source still lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The artifact whose source lists it.
    pub(super) kind: ArtifactKind,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) is_index: bool,
}

/// All images of a repository, indexed.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    images: &'a [Stored],
    /// Digests in the repository, and those that are about to be copied.
    digests: HashSet<Digest>,
    /// Subject -> its referrers.
    referrers: HashMap<&'a Digest, Vec<&'a Digest>>,
    /// Hex digits of a subject -> tags that are named after it: `sha256-…`, `sha256-….sig`.
    named: HashMap<String, Vec<(&'a Tag, &'a Digest)>>,
}

impl<'a> Contents<'a> {
    /// Indexes these images. `coming` are copied before anything is removed.
    pub(super) fn new(images: &'a [Stored], coming: Vec<Digest>) -> Self {
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

        let digests = images.iter().map(|image| image.digest.clone()).chain(coming).collect();
        Self { images, digests, referrers, named }
    }

    /// Returns the number of tags.
    pub(super) fn tags(&self) -> usize {
        self.images.iter().map(|image| image.tags.len()).sum()
    }

    /// Whether there are indexes. Any image may be part of one.
    pub(super) fn has_indexes(&self) -> bool {
        self.images.iter().any(|image| image.is_index)
    }

    /// Returns the referrers of an image, and those of the referrers.
    pub(super) fn referrers(&self, digest: &'a Digest) -> BTreeSet<&'a Digest> {
        let mut referrers = BTreeSet::new();
        let mut next = vec![digest];
        while let Some(subject) = next.pop() {
            let new = self
                .referrers
                .get(subject)
                .into_iter()
                .flatten()
                .copied()
                .filter(|digest| referrers.insert(*digest));
            next.extend(new.collect::<Vec<_>>());
        }
        referrers
    }

    /// Returns the tags that are named after an image.
    pub(super) fn named_after(&self, digest: &Digest) -> &[(&'a Tag, &'a Digest)] {
        self.named.get(digest.hex()).map_or(&[], Vec::as_slice)
    }

    /// Whether a tag refers to an image in the repository, as a signature does.
    fn refers(&self, image: &Stored, tag: &Tag) -> bool {
        let by_name = || {
            let subject: Option<Digest> =
                subject_of(tag).and_then(|hex| format!("sha256:{hex}").parse().ok());
            subject.is_some_and(|subject| self.digests.contains(&subject))
        };
        image.subject.as_ref().is_some_and(|subject| self.digests.contains(subject)) || by_name()
    }
}

/// Returns the hex digits of the digest that a tag is named after: `sha256-<64 digits>` with any
/// suffix, as in the OCI referrers tag schema and in cosign.
fn subject_of(tag: &Tag) -> Option<String> {
    let digits = tag.as_str().strip_prefix("sha256-")?.get(..64)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.to_owned())
}

/// Images that are never removed, whatever the sources have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exempt<'a> {
    /// Images that were pushed or pulled within this time are kept.
    pub(super) min_unpulled: Duration,
    /// Children of indexes that are kept.
    pub(super) children: &'a BTreeSet<Digest>,
}

/// Whether an image was neither pushed nor pulled for this time. If ECR does not say when, it
/// counts as used.
pub(super) fn is_unused(image: &Stored, min_unpulled: Duration, now: SystemTime) -> bool {
    let limit = now.checked_sub(min_unpulled);
    image.used.zip(limit).is_some_and(|(used, limit)| used <= limit)
}

/// Returns the tags that may be removed, those longest unused first. Only `most` are checked. If
/// there are more, others come first each day: some of the oldest may never be removable.
pub(super) fn candidates(
    desired: &Desired,
    contents: &Contents<'_>,
    exempt: Exempt<'_>,
    now: SystemTime,
    most: usize,
) -> Vec<Candidate> {
    const DAY: u64 = 24 * 3600;
    let wanted: BTreeSet<&Tag> =
        desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys()).collect();
    let is_unused = |image: &Stored| is_unused(image, exempt.min_unpulled, now);

    let mut candidates = BTreeMap::new();
    for image in contents.images.iter().filter(|image| image.is_active && is_unused(image)) {
        if exempt.children.contains(&image.digest) {
            continue;
        }
        for tag in
            image.tags.iter().filter(|tag| !wanted.contains(tag) && !contents.refers(image, tag))
        {
            for artifact in &desired.artifacts {
                if matches!(&artifact.offered, Some(Ok(offered)) if offered.contains_key(tag)) {
                    let (kind, digest) = (artifact.kind, image.digest.clone());
                    let candidate =
                        Candidate { kind, tag: tag.clone(), digest, is_index: image.is_index };
                    candidates.insert((image.used, tag.clone(), kind), candidate);
                }
            }
        }
    }

    let mut candidates: Vec<_> = candidates.into_values().collect();
    if candidates.len() > most {
        let days = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY;
        // In a random order: with consecutive parts, a weekly check would always get the same part.
        let parts = candidates.len().div_ceil(most) as u64;
        // The remainder is less than the number of candidates.
        let part = usize::try_from(hash(days) % parts).unwrap_or_default();
        candidates.rotate_left(part * most);
    }
    candidates
}

/// Returns how many tags one run may remove from a repository that has `tags`.
pub(super) fn allowed(tags: usize, max_percent: i64) -> usize {
    let percent = usize::try_from(max_percent).unwrap_or(0).min(100);
    (tags.saturating_mul(percent) / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::sync::artifact::{DesiredArtifact, WantedTag};

    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// No children of indexes.
    const NONE: BTreeSet<Digest> = BTreeSet::new();

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn digest(letter: char) -> Digest {
        format!("sha256:{}", letter.to_string().repeat(64)).parse().expect("a digest")
    }

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    /// An image that was used this number of days ago.
    fn image(letter: char, tags: &[&str], days: u32) -> Stored {
        Stored {
            digest: digest(letter),
            tags: tags.iter().map(|text| tag(text)).collect(),
            used: Some(now() - days * DAY),
            is_active: true,
            is_index: false,
            subject: None,
        }
    }

    fn artifact(kind: ArtifactKind, wanted: &[&str], offered: &[&str]) -> DesiredArtifact {
        let mut artifact = DesiredArtifact::new(kind, "q.io/app");
        let failure = || Failure::cancelled();
        artifact.tags = wanted
            .iter()
            .map(|text| (tag(text), WantedTag { pin: None, source: Err(failure()) }))
            .collect();
        artifact.offered = Some(Ok(offered.iter().map(|text| (tag(text), None)).collect()));
        artifact
    }

    fn found(
        artifacts: Vec<DesiredArtifact>,
        images: &[Stored],
        days: u32,
        children: &BTreeSet<Digest>,
    ) -> Vec<String> {
        let desired = Desired { artifacts, ..Desired::default() };
        let exempt = Exempt { min_unpulled: days * DAY, children };
        let listed = candidates(&desired, &Contents::new(images, Vec::new()), exempt, now(), 100);
        listed
            .into_iter()
            .map(|candidate| format!("{} {}", candidate.kind.noun(), candidate.tag))
            .collect()
    }

    fn of_image(images: &[Stored]) -> Vec<String> {
        let all = ["1", "2", "3", &named('a'), &format!("{}.sig", named('b'))].map(str::to_owned);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        found(vec![artifact(ArtifactKind::Image, &["1"], &all)], images, 30, &NONE)
    }

    fn named(letter: char) -> String {
        format!("sha256-{}", letter.to_string().repeat(64))
    }

    #[test]
    fn unwanted_listed_and_unused_tags_are_candidates_the_longest_unused_first() {
        let images = [
            image('a', &["1", "2"], 31),
            image('b', &["3"], 40),
            image('c', &["not-in-the-source"], 50),
            image('d', &[], 60),
        ];
        assert_eq!(of_image(&images), ["image 3", "image 2"]);
        assert_eq!(of_image(&[]), [""; 0]);
    }

    #[test]
    fn used_archived_and_undated_images_are_kept() {
        assert_eq!(of_image(&[image('a', &["2"], 30)]), ["image 2"], "exactly that long");
        assert_eq!(of_image(&[image('a', &["2"], 29)]), [""; 0]);
        let archived = Stored { is_active: false, ..image('a', &["2"], 50) };
        let undated = Stored { used: None, ..image('b', &["3"], 50) };
        let tomorrow = Stored { used: Some(now() + DAY), ..image('c', &["2"], 50) };
        assert_eq!(of_image(&[archived, undated, tomorrow]), [""; 0]);
    }

    #[test]
    fn referrers_of_existing_images_are_kept_and_others_are_candidates() {
        let (by_name, with_suffix) = (named('a'), format!("{}.sig", named('b')));
        let signatures = [image('c', &[&by_name], 50), image('d', &[&with_suffix], 50)];
        assert_eq!(
            of_image(&signatures),
            [format!("image {by_name}"), format!("image {with_suffix}")]
        );
        let with_subjects =
            [&signatures[..], &[image('a', &["1"], 50), image('b', &[], 50)]].concat();
        assert_eq!(of_image(&with_subjects), [""; 0]);
        let by_subject =
            |letter| Stored { subject: Some(digest(letter)), ..image('e', &["2"], 50) };
        assert_eq!(of_image(&[by_subject('a'), image('a', &["1"], 50)]), [""; 0]);
        assert_eq!(of_image(&[by_subject('f'), image('a', &["1"], 50)]), ["image 2"]);
    }

    #[test]
    fn the_signature_of_an_image_about_to_be_copied_is_kept() {
        let signature = named('a');
        let images = [
            image('c', &[&signature], 50),
            Stored { subject: Some(digest('b')), ..image('d', &["2"], 50) },
        ];
        let artifacts = || vec![artifact(ArtifactKind::Image, &["1"], &["1", "2", &signature])];

        let might_go = |coming| {
            let desired = Desired { artifacts: artifacts(), ..Desired::default() };
            let exempt = Exempt { min_unpulled: DAY, children: &NONE };
            candidates(&desired, &Contents::new(&images, coming), exempt, now(), 100).len()
        };
        assert_eq!(
            (
                might_go(vec![]),
                might_go(vec![digest('a')]),
                might_go(vec![digest('a'), digest('b')])
            ),
            (2, 1, 0)
        );
    }

    #[test]
    fn with_too_many_candidates_others_come_first_each_day() {
        let tags: Vec<_> = (0..7).map(|number| format!("t{number}")).collect();
        let all: Vec<_> = tags.iter().map(String::as_str).collect();
        let images = [image('a', &all, 50)];
        let first = |day: u32, most| {
            let desired = Desired {
                artifacts: vec![artifact(ArtifactKind::Image, &["1"], &all)],
                ..Desired::default()
            };
            let exempt = Exempt { min_unpulled: DAY, children: &NONE };
            let listed = candidates(
                &desired,
                &Contents::new(&images, Vec::new()),
                exempt,
                now() + day * DAY,
                most,
            );
            assert_eq!(listed.len(), 7);
            listed[0].tag.to_string()
        };

        for cadence in [1, 2, 3, 7] {
            let first_tags: BTreeSet<_> = (0..20).map(|turn| first(turn * cadence, 3)).collect();
            assert_eq!(
                first_tags,
                ["t0", "t3", "t6"].map(str::to_owned).into(),
                "every {cadence} days"
            );
        }
        assert_eq!((first(0, 7), first(1, 7)), ("t0".to_owned(), "t0".to_owned()));
    }

    #[test]
    fn children_of_a_kept_index_are_kept() {
        let images = [image('a', &["2"], 50), image('b', &["3"], 50)];
        let artifacts = vec![artifact(ArtifactKind::Image, &["1"], &["1", "2", "3"])];
        assert_eq!(found(artifacts, &images, 0, &[digest('a')].into()), ["image 3"]);
    }

    #[test]
    fn image_and_chart_share_the_tags_of_a_repository() {
        let artifacts = vec![
            artifact(ArtifactKind::Image, &["1"], &["1", "2", "4"]),
            artifact(ArtifactKind::Chart, &["2"], &["1", "2", "3", "4"]),
        ];
        let images = [image('a', &["1", "2"], 50), image('b', &["3", "4"], 50)];
        // A request to the source shows which one has the digest.
        assert_eq!(found(artifacts, &images, 0, &NONE), ["chart 3", "image 4", "chart 4"]);
    }

    #[test]
    fn signatures_of_signatures_are_found_and_circles_end() {
        let refers = |letter, to| Stored { subject: Some(digest(to)), ..image(letter, &[], 1) };
        let images = [
            image('a', &["1"], 1),
            refers('b', 'a'),
            refers('c', 'b'),
            refers('d', 'e'),
            refers('e', 'd'),
        ];
        let contents = Contents::new(&images, Vec::new());
        assert_eq!(contents.referrers(&images[0].digest), [&digest('b'), &digest('c')].into());
        assert_eq!(contents.referrers(&images[3].digest).len(), 2);
        assert_eq!((contents.tags(), contents.named_after(&digest('a')).len()), (1, 0));
    }

    #[test]
    fn a_part_of_the_tags_is_removed_and_at_least_one() {
        for (tags, percent, expected) in
            [(100, 25, 25), (7, 25, 1), (8, 25, 2), (1, 1, 1), (0, 100, 1), (3, 100, 3)]
        {
            assert_eq!(allowed(tags, percent), expected, "{percent}% of {tags}");
        }
        // The schema lets neither through.
        assert_eq!((allowed(10, 0), allowed(10, -5), allowed(10, i64::MAX)), (1, 1, 10));
    }
}
