//! Wanted tags that were in ECR and are not any more: a lifecycle rule that takes what the spec
//! wants would be fought for ever (estahn/k8s-image-swapper#632). Pure.

use std::collections::BTreeMap;

use super::artifact::{DesiredArtifact, SourceContent, TagState, WantedTag};
use super::desired::Desired;
use crate::class::Class;
use crate::ecr::policy::{Wanted, text};
use crate::failure::Failure;
use crate::hash::hash;
use crate::registry::{Digest, Tag};

/// A tag is copied again so often; the next time it is missing, it is left alone.
const COPIED_AGAIN: u32 = 2;

/// How often a tag vanished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// What it pointed to; a new content of the source is a new beginning. `None` where it is not
    /// known before the copy.
    pub digest: Option<Digest>,
    /// How often it was found missing after it had been in ECR.
    pub times: u32,
}

/// What was in ECR when a pass ended, as hashes: there may be hundreds of tags in each of thousands
/// of resources. Of two tags with the same hash one might be taken for the other; then a copy is
/// counted that was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Hash of the tag, hash of its digest; sorted.
    tags: Vec<(u64, u64)>,
    /// Hash of the lifecycle policy that was wanted.
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

    /// Whether `tag` was there; with `digest`, where that is known.
    fn had(&self, tag: &Tag, digest: Option<&Digest>) -> bool {
        let tag = hash(tag);
        let from = self.tags.partition_point(|(other, _)| *other < tag);
        self.tags.get(from).is_some_and(|(other, held)| {
            *other == tag && digest.is_none_or(|digest| hash(digest) == *held)
        })
    }
}

/// Counts what is missing now and was there before. Empty when another lifecycle policy is wanted
/// than before.
pub(super) fn count(
    held: &Held,
    expired: &BTreeMap<Tag, Expired>,
    desired: &Desired,
    is_there: impl Fn(&Tag) -> bool,
) -> BTreeMap<Tag, Expired> {
    if held.policy.is_some_and(|policy| policy != policy_hash(&desired.lifecycle)) {
        return BTreeMap::new();
    }
    let mut counted = BTreeMap::new();
    for (tag, wanted) in
        desired.artifacts.iter().flat_map(|artifact: &DesiredArtifact| &artifact.tags)
    {
        let Some(digest) = digest(wanted) else { continue };
        let same = |earlier: &&Expired| {
            digest.is_none() || earlier.digest.is_none() || earlier.digest == digest
        };
        let earlier = expired.get(tag).filter(same).map_or(0, |earlier| earlier.times);
        let now = u32::from(!is_there(tag) && held.had(tag, digest.as_ref()));
        if earlier + now > 0 {
            counted.insert(tag.clone(), Expired { digest, times: earlier + now });
        }
    }
    counted
}

/// What the tag shall point to, as far as it is known; `None` when the source cannot tell anything.
fn digest(wanted: &WantedTag) -> Option<Option<Digest>> {
    match &wanted.source.as_ref().ok()?.content {
        SourceContent::Manifest(digest) => Some(Some(digest.clone())),
        SourceContent::Archive { derived, .. } => {
            Some(derived.as_ref().map(|derived| derived.manifest.clone()))
        }
    }
}

impl Expired {
    /// Why a tag that is missing again is not copied again, if so.
    pub(super) fn verdict(&self, tag: &Tag) -> Option<Failure> {
        (self.times > COPIED_AGAIN).then(|| {
            Failure::new(
                Class::LifecycleConflict,
                format!(
                    "tag {tag} was in ECR and is gone for the {} time, most likely by a rule of the lifecycle policy: it is not \
                     copied again until the spec or the policy changes; change the rule, or take the tag out of the spec",
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
    use crate::sync::artifact::{ArtifactKind, SourceTag};
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

    #[test]
    fn a_tag_that_vanishes_for_the_third_time_is_left_alone() {
        let mut earlier = Earlier::default();
        let mut verdicts = Vec::new();
        for _ in 0..4 {
            // In ECR at the end of a pass, gone at the next.
            earlier.held = held("a", &Wanted::Unmanaged);
            earlier.expired =
                count(&earlier.held, &earlier.expired, &desired("a", Wanted::Unmanaged), |_| false);
            verdicts.push(earlier.expired[&tag()].verdict(&tag()).is_some());
        }
        assert_eq!(verdicts, [false, false, true, true]);
        // Left alone, it is not there when the pass ends, and is not counted on.
        earlier.held = Held::new(&Wanted::Unmanaged, std::iter::empty());
        assert_eq!(
            count(&earlier.held, &earlier.expired, &desired("a", Wanted::Unmanaged), |_| false),
            earlier.expired
        );
    }

    #[test]
    fn what_is_there_or_never_was_does_not_count() {
        let wanted = desired("a", Wanted::Unmanaged);
        assert!(count(&Held::default(), &BTreeMap::new(), &wanted, |_| false).is_empty());
        let earlier = Earlier { held: held("a", &Wanted::Unmanaged), ..Earlier::default() };
        assert!(count(&earlier.held, &earlier.expired, &wanted, |_| true).is_empty());
    }

    #[test]
    fn new_content_and_a_new_policy_are_new_beginnings() {
        let earlier = Earlier {
            held: held("a", &Wanted::Unmanaged),
            expired: BTreeMap::from([(tag(), Expired { digest: Some(digest_of("a")), times: 2 })]),
            ..Earlier::default()
        };
        assert!(
            count(&earlier.held, &earlier.expired, &desired("b", Wanted::Unmanaged), |_| false)
                .is_empty()
        );
        assert!(
            count(&earlier.held, &earlier.expired, &desired("a", Wanted::None), |_| false)
                .is_empty()
        );
        assert_eq!(
            count(&earlier.held, &earlier.expired, &desired("a", Wanted::Unmanaged), |_| false)
                [&tag()]
                .times,
            3
        );
    }
}
