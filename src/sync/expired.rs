//! Wanted tags that were in ECR and are missing now, most likely because a lifecycle rule expired
//! them. Copying them again and again would never end (estahn/k8s-image-swapper#632). Pure.

use std::collections::BTreeMap;

use super::artifact::{SourceContent, TagState, WantedTag};
use super::desired::Desired;
use crate::class::Class;
use crate::ecr::policy::{Wanted, text};
use crate::failure::Failure;
use crate::hash::hash;
use crate::registry::{Digest, Tag};

/// Times that an expired tag is copied again. After that it is left alone.
const MAX_COPIES: u32 = 2;

/// A tag that expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Digest of the tag; `None` if it is not known before the copy. With a new digest, the count
    /// starts again.
    pub digest: Option<Digest>,
    /// Times that the tag was missing after it had been in ECR.
    pub times: u32,
}

/// The tags in ECR at the end of a pass, as hashes: there may be hundreds of tags in each of
/// thousands of resources. If two hashes are equal, one copy too many may be counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Hash of the tag, hash of its digest; sorted.
    tags: Vec<(u64, u64)>,
    /// Hash of the desired lifecycle policy.
    policy: Option<u64>,
}

fn policy_hash(lifecycle: &Wanted) -> u64 {
    match lifecycle {
        Wanted::Unmanaged => hash("unmanaged"),
        Wanted::None => hash("none"),
        Wanted::Document(document) => hash(text(document)),
    }
}

impl Held {
    pub(super) fn new<'a>(
        lifecycle: &Wanted,
        states: impl Iterator<Item = (&'a Tag, &'a TagState)>,
    ) -> Self {
        let in_ecr = states.filter_map(|(tag, state)| match state {
            TagState::Synced(digest)
            | TagState::Unverified { digest, .. }
            | TagState::Kept { digest, .. } => Some((hash(tag), hash(digest))),
            TagState::Archived { .. } | TagState::Failed(_) | TagState::Planned => None,
        });
        let mut tags: Vec<_> = in_ecr.collect();
        tags.sort_unstable();
        Self { tags, policy: Some(policy_hash(lifecycle)) }
    }

    /// Whether `tag` was in ECR, with this digest if one is given.
    fn had(&self, tag: &Tag, digest: Option<&Digest>) -> bool {
        let tag = hash(tag);
        let from = self.tags.partition_point(|(other, _)| *other < tag);
        self.tags.get(from).is_some_and(|(other, held)| {
            *other == tag && digest.is_none_or(|digest| hash(digest) == *held)
        })
    }
}

/// Counts the tags that were in ECR at the end of the last pass and are missing now. Starts again
/// when the desired lifecycle policy changes.
pub(super) fn count(
    held: &Held,
    expired: &BTreeMap<Tag, Expired>,
    desired: &Desired,
    is_in_ecr: impl Fn(&Tag) -> bool,
) -> BTreeMap<Tag, Expired> {
    if held.policy.is_some_and(|policy| policy != policy_hash(&desired.lifecycle)) {
        return BTreeMap::new();
    }

    let mut counts = BTreeMap::new();
    for (tag, wanted) in desired.artifacts.iter().flat_map(|artifact| &artifact.tags) {
        let Some(digest) = digest(wanted) else { continue };
        let is_same = |earlier: &&Expired| {
            digest.is_none() || earlier.digest.is_none() || earlier.digest == digest
        };
        let earlier = expired.get(tag).filter(is_same).map_or(0, |earlier| earlier.times);
        let now = u32::from(!is_in_ecr(tag) && held.had(tag, digest.as_ref()));
        if earlier + now > 0 {
            counts.insert(tag.clone(), Expired { digest, times: earlier + now });
        }
    }
    counts
}

/// Returns the desired digest of a tag, if it is known; `None` if the source gave no content.
fn digest(wanted: &WantedTag) -> Option<Option<Digest>> {
    match &wanted.source.as_ref().ok()?.content {
        SourceContent::Manifest(digest) => Some(Some(digest.clone())),
        SourceContent::Archive { derived, .. } => {
            Some(derived.as_ref().map(|derived| derived.manifest.clone()))
        }
    }
}

impl Expired {
    /// Returns why the tag is not copied again, if it expired too often.
    pub(super) fn verdict(&self, tag: &Tag) -> Option<Failure> {
        (self.times > MAX_COPIES).then(|| {
            Failure::new(
                Class::LifecycleConflict,
                format!(
                    "tag {tag} disappeared from ECR for the {} time, most likely because of a \
                     lifecycle rule; it will not be copied again until the spec or the policy \
                     changes. Change the rule, or remove the tag from the spec",
                    ordinal(self.times)
                ),
            )
        })
    }
}

fn ordinal(number: u32) -> String {
    match (number % 10, number % 100) {
        (1, tens) if tens != 11 => format!("{number}st"),
        (2, tens) if tens != 12 => format!("{number}nd"),
        (3, tens) if tens != 13 => format!("{number}rd"),
        _ => format!("{number}th"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::artifact::{ArtifactKind, DesiredArtifact, SourceTag};
    use crate::sync::earlier::Earlier;

    fn digest_of(text: &str) -> Digest {
        Digest::sha256_of(text.as_bytes())
    }

    fn tag() -> Tag {
        "1.27".parse().expect("a tag")
    }

    fn desired(content: &str, lifecycle: Wanted) -> Desired {
        let source = SourceTag {
            label: "nginx:1.27".to_owned(),
            content: SourceContent::Manifest(digest_of(content)),
        };
        let tags = BTreeMap::from([(tag(), WantedTag { pin: None, source: Ok(source) })]);
        Desired {
            repository: "app".to_owned(),
            lifecycle,
            artifacts: vec![DesiredArtifact {
                tags,
                ..DesiredArtifact::new(ArtifactKind::Image, "nginx")
            }],
            ..Desired::default()
        }
    }

    fn held(content: &str, lifecycle: &Wanted) -> Held {
        let tags = BTreeMap::from([(tag(), TagState::Synced(digest_of(content)))]);
        Held::new(lifecycle, tags.iter())
    }

    /// Counts the expired tags if none of the desired ones is in ECR.
    fn count_missing(earlier: &Earlier, desired: &Desired) -> BTreeMap<Tag, Expired> {
        count(&earlier.held, &earlier.expired, desired, |_| false)
    }

    #[test]
    fn a_tag_that_expires_for_the_third_time_is_left_alone() {
        let desired = desired("a", Wanted::Unmanaged);
        let mut earlier = Earlier::default();
        let mut verdicts = Vec::new();
        for _ in 0..4 {
            // In ECR at the end of one pass, missing at the next.
            earlier.held = held("a", &Wanted::Unmanaged);
            earlier.expired = count_missing(&earlier, &desired);
            verdicts.push(earlier.expired[&tag()].verdict(&tag()).is_some());
        }
        assert_eq!(verdicts, [false, false, true, true]);

        // A tag that is left alone is missing at the end of the pass, and is not counted again.
        earlier.held = Held::new(&Wanted::Unmanaged, std::iter::empty());
        assert_eq!(count_missing(&earlier, &desired), earlier.expired);
    }

    #[test]
    fn tags_in_ecr_and_tags_that_never_were_do_not_count() {
        let desired = desired("a", Wanted::Unmanaged);
        assert!(count_missing(&Earlier::default(), &desired).is_empty());
        let held = held("a", &Wanted::Unmanaged);
        assert!(count(&held, &BTreeMap::new(), &desired, |_| true).is_empty());
    }

    #[test]
    fn new_content_and_a_new_policy_start_the_count_again() {
        let expired = Expired { digest: Some(digest_of("a")), times: 2 };
        let earlier = Earlier {
            held: held("a", &Wanted::Unmanaged),
            expired: BTreeMap::from([(tag(), expired)]),
            ..Earlier::default()
        };

        let times = |content, lifecycle| {
            let counts = count_missing(&earlier, &desired(content, lifecycle));
            counts.get(&tag()).map(|expired| expired.times)
        };
        assert_eq!(times("b", Wanted::Unmanaged), None);
        assert_eq!(times("a", Wanted::None), None);
        assert_eq!(times("a", Wanted::Unmanaged), Some(3));
    }
}
