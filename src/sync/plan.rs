//! [`Desired`] x [`Observed`] -> [`Plan`]. Pure: no I/O, no clock.

use super::action::{Action, Drift, Plan};
use super::artifact::{
    ArtifactKind, DesiredArtifact, Source, SourceContent, SourceTag, TagState, WantedTag,
};
use super::configuration::{self, Difference, Verdict};
use super::desired::Desired;
use super::earlier::Earlier;
use super::observed::{Observed, ObservedRepository};
use super::ownership::Claimant;
use crate::class::Class;
use crate::ecr::policy::{Kind, Wanted};
use crate::ecr::{Archived, CREATED_TAG, Mutability};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// Compares the desired state with the observed one.
///
/// # Errors
/// When the repository belongs to somebody else: then nothing may be done at all.
pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    claimant: &Claimant,
    earlier: &Earlier,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    match &observed.repository {
        None => plan_new(desired, claimant, &mut plan),
        Some(observed) if !observed.configuration_read => plan.adopted = !observed.is_ours,
        Some(observed) => {
            let ObservedRepository { repository, resource_tags, owner_is_gone, .. } = observed;
            let arn = &repository.arn;
            claimant.may_keep(&desired.repository, arn, resource_tags, *owner_is_gone)?;
            plan.adopted = !claimant.created(arn, resource_tags);
            plan_configuration(desired, observed, claimant, earlier, &mut plan);
        }
    }
    plan_artifacts(desired, observed.repository.as_ref(), &mut plan);
    Ok(plan)
}

fn plan_new(desired: &Desired, claimant: &Claimant, plan: &mut Plan) {
    plan.actions.push(create(desired, claimant));
    plan.attempts = configuration::created(desired);
    for (kind, wanted) in
        [(Kind::Lifecycle, &desired.lifecycle), (Kind::Permission, &desired.permission)]
    {
        if let Wanted::Document(document) = wanted {
            let document = document.clone();
            plan.actions.push(Action::PutPolicy { kind, document, replaces: false });
        }
    }
}

fn create(desired: &Desired, claimant: &Claimant) -> Action {
    let mut tags = desired.resource_tags.clone();
    if let Some((key, value)) = claimant.mark() {
        tags.insert(key, value);
        tags.insert(CREATED_TAG.to_owned(), "true".to_owned());
    }
    Action::CreateRepository {
        name: desired.repository.clone(),
        tags,
        settings: desired.settings.clone(),
    }
}

fn plan_configuration(
    desired: &Desired,
    observed: &ObservedRepository,
    claimant: &Claimant,
    earlier: &Earlier,
    plan: &mut Plan,
) {
    let has_drifted = earlier.configuration.as_ref() == Some(&desired.revision);
    for difference in configuration::differences(desired, observed, earlier) {
        let attempt = earlier.attempts.get(&difference.field);
        let verdict = difference.verdict(has_drifted, desired.drift_policy, attempt);

        let Difference { field, actions, now, past, .. } = difference;
        match verdict {
            Verdict::Leave(why) => {
                plan.drift.push(Drift { field, message: format!("{now}{why}") });
                plan.attempts.extend(attempt.map(|attempt| (field, *attempt)));
            }
            Verdict::Write(attempt) => {
                plan.actions.extend(actions);
                plan.attempts.insert(field, attempt);
                if has_drifted {
                    plan.corrected.push(Drift { field, message: past });
                }
            }
        }
    }

    // The owner's mark is written together with other resource tags, if there are any.
    let is_missing =
        |(key, value): &(String, String)| observed.resource_tags.get(key) != Some(value);
    let Some((key, value)) = claimant.mark().filter(is_missing) else { return };
    match plan.actions.first_mut() {
        Some(Action::TagRepository { tags }) => {
            tags.insert(key, value);
        }
        _ => plan.actions.insert(0, Action::TagRepository { tags: [(key, value)].into() }),
    }
}

fn plan_artifacts(desired: &Desired, observed: Option<&ObservedRepository>, plan: &mut Plan) {
    // Settings are written before tags, so the planned mutability counts.
    let planned = plan.actions.iter().find_map(|action| match action {
        Action::SetMutability { wanted, .. } => Some(wanted.clone()),
        _ => None,
    });
    let mutability =
        planned.or_else(|| observed.map(|observed| observed.repository.mutability.clone()));

    for artifact in &desired.artifacts {
        let other = desired.artifacts.iter().find(|other| other.kind != artifact.kind);
        for (tag, wanted) in &artifact.tags {
            let decision = if other.is_some_and(|other| other.tags.contains_key(tag)) {
                Decision::Settled(TagState::Failed(collision(tag)))
            } else {
                let current = observed.and_then(|observed| observed.images.tags.get(tag));
                plan_tag(artifact, tag, wanted, current, mutability.as_ref())
            };
            let decision = match observed {
                Some(observed) => {
                    with_observed(artifact.kind, tag, wanted, observed, desired.restore, decision)
                }
                None => decision,
            };

            match decision {
                Decision::Settled(state) => {
                    plan.settled.insert((artifact.kind, tag.clone()), state);
                }
                Decision::Do(action) => plan.actions.push(action),
            }
        }
    }
}

/// The decision about one tag.
enum Decision {
    Settled(TagState),
    Do(Action),
}

/// Decides by the source, the current digest and the mutability.
fn plan_tag(
    artifact: &DesiredArtifact,
    tag: &Tag,
    wanted: &WantedTag,
    current: Option<&Digest>,
    mutability: Option<&Mutability>,
) -> Decision {
    let source = match (&wanted.source, current) {
        // The pinned digest is in ECR, so the source does not matter.
        (_, Some(digest)) if wanted.pin.as_ref() == Some(digest) => {
            return Decision::Settled(TagState::Synced(digest.clone()));
        }
        (Err(failure), Some(digest)) => {
            return Decision::Settled(TagState::Unverified {
                digest: digest.clone(),
                failure: failure.clone(),
            });
        }
        (Err(failure), None) => return Decision::Settled(TagState::Failed(failure.clone())),
        (Ok(source), _) => source,
    };
    plan_content(artifact, tag, source, current, mutability)
}

/// Decides by the content of the source.
fn plan_content(
    artifact: &DesiredArtifact,
    tag: &Tag,
    source: &SourceTag,
    current: Option<&Digest>,
    mutability: Option<&Mutability>,
) -> Decision {
    let copy = |digest: Option<&Digest>| {
        Decision::Do(Action::CopyTag {
            kind: artifact.kind,
            tag: tag.clone(),
            source: source.label.clone(),
            digest: digest.cloned(),
            replaces: current.cloned(),
        })
    };
    let keep = |digest: &Digest, message: String| {
        let failure = Failure::new(Class::SourceChanged, message);
        Decision::Settled(TagState::Kept { digest: digest.clone(), failure })
    };

    match (&source.content, current) {
        (SourceContent::Manifest(digest), Some(current)) if digest == current => {
            Decision::Settled(TagState::Synced(current.clone()))
        }
        (SourceContent::Manifest(digest), Some(current)) if artifact.keep => keep(
            current,
            format!(
                "{} is now {digest}; the version in ECR is kept (onSourceChange: Overwrite \
                 replaces it)",
                source.label
            ),
        ),
        (SourceContent::Manifest(digest), Some(current))
            if mutability.is_some_and(|mutability| !mutability.may_move(tag.as_str())) =>
        {
            Decision::Settled(TagState::Failed(immutable(tag, current, digest)))
        }
        (SourceContent::Manifest(digest), _) => copy(Some(digest)),
        (SourceContent::Archive { digest, derived: Some(derived) }, Some(current))
            if derived.manifest == *current
                && derived.provenance == has_provenance(artifact)
                && digest.as_ref().is_none_or(|digest| *digest == derived.archive) =>
        {
            Decision::Settled(TagState::Synced(current.clone()))
        }
        // The index has another digest of the archive: it need not be read to keep the version.
        (
            SourceContent::Archive { digest: Some(digest), derived: Some(derived) },
            Some(current),
        ) if artifact.keep && derived.manifest == *current && *digest != derived.archive => keep(
            current,
            format!(
                "{} was replaced in the source (archive {digest}); the version in ECR is kept \
                 (chart.onSourceChange: Overwrite replaces it)",
                source.label
            ),
        ),
        (SourceContent::Archive { .. }, _) => copy(None),
    }
}

/// Changes the decision for an incomplete index, an archived tag, and a tag that expires again and
/// again.
fn with_observed(
    kind: ArtifactKind,
    tag: &Tag,
    wanted: &WantedTag,
    observed: &ObservedRepository,
    restore: bool,
    decision: Decision,
) -> Decision {
    let decision = with_incomplete_index(kind, tag, wanted, observed, decision);
    let decision = match observed.archived.get(tag) {
        Some(archived) => with_archived(kind, tag, archived, restore, decision),
        None => decision,
    };

    let expired = observed.expired.get(tag).and_then(|expired| expired.verdict(tag));
    match (decision, expired) {
        (Decision::Do(Action::CopyTag { replaces: None, .. }), Some(failure)) => {
            Decision::Settled(TagState::Failed(failure))
        }
        (decision, _) => decision,
    }
}

/// Copies an index again if ECR has its digest but lacks some of its children. Only the missing
/// ones are sent.
fn with_incomplete_index(
    kind: ArtifactKind,
    tag: &Tag,
    wanted: &WantedTag,
    observed: &ObservedRepository,
    decision: Decision,
) -> Decision {
    match (&decision, &wanted.source) {
        (Decision::Settled(TagState::Synced(digest)), Ok(source))
            if observed.incomplete.contains(digest) =>
        {
            Decision::Do(Action::CopyTag {
                kind,
                tag: tag.clone(),
                source: source.label.clone(),
                digest: Some(digest.clone()),
                replaces: Some(digest.clone()),
            })
        }
        _ => decision,
    }
}

/// Handles a tag in the archive, which is neither missing nor can be pulled. `decision` is for a
/// missing tag.
fn with_archived(
    kind: ArtifactKind,
    tag: &Tag,
    archived: &Archived,
    restore: bool,
    decision: Decision,
) -> Decision {
    let Archived { digest, activating } = archived;

    match &decision {
        // The source has another digest now: it is copied, and the tag moves to it.
        Decision::Do(Action::CopyTag { digest: Some(wanted), .. }) if wanted != digest => decision,
        Decision::Settled(TagState::Failed(failure)) if failure.class == Class::TagCollision => {
            decision
        }
        _ if *activating => Decision::Settled(TagState::Synced(digest.clone())),
        _ if restore => {
            Decision::Do(Action::RestoreTag { kind, tag: tag.clone(), digest: digest.clone() })
        }
        _ => Decision::Settled(TagState::Archived {
            digest: digest.clone(),
            failure: Failure::new(
                Class::LifecycleConflict,
                format!(
                    "tag {tag} is in ECR's archive and cannot be pulled: set archivedImages: \
                     Restore to restore it; a rule of the lifecycle policy archived it"
                ),
            ),
        }),
    }
}

fn has_provenance(artifact: &DesiredArtifact) -> bool {
    matches!(artifact.source, Source::Charts { provenance: true, .. })
}

fn collision(tag: &Tag) -> Failure {
    Failure::new(
        Class::TagCollision,
        format!(
            "image and chart both want tag {tag}: narrow one of the selectors, or exclude the tag"
        ),
    )
}

fn immutable(tag: &Tag, current: &Digest, wanted: &Digest) -> Failure {
    Failure::new(
        Class::TagImmutable,
        format!(
            "tag {tag} is immutable and points to {current}, but the source has {wanted}: delete \
             the tag in ECR, remove it from the spec, or exclude it from immutability"
        ),
    )
}

#[cfg(test)]
mod tests;
