//! [`Desired`] x [`Observed`] -> [`Plan`]. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use super::action::{Action, Drift, Plan};
use super::artifact::{ArtifactKind, DesiredArtifact, Source, SourceContent, TagState, WantedTag};
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

/// Compares what is wanted with what is there.
///
/// # Errors
/// When the repository belongs to somebody else: then nothing may be done at all.
pub fn plan(
    desired: &Desired,
    observed: &Observed,
    claimant: &Claimant,
    earlier: &Earlier,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let there = observed.repository.as_ref();
    match there {
        None => plan_new(desired, claimant, &mut plan),
        Some(there) if !there.configuration_read => {
            plan.adopted = earlier.look.as_ref().is_some_and(|look| !look.is_ours)
        }
        Some(there) => {
            let (repository, tags) = (&there.repository, &there.resource_tags);
            claimant.may_keep(&desired.repository, &repository.arn, tags, there.owner_is_gone)?;
            plan.adopted = !claimant.created(&repository.arn, tags);
            plan_configuration(desired, there, claimant, earlier, &mut plan);
        }
    }
    plan_artifacts(desired, there, &mut plan);
    Ok(plan)
}

fn plan_new(desired: &Desired, claimant: &Claimant, plan: &mut Plan) {
    plan.actions.push(create(desired, claimant));
    plan.attempts = configuration::created(desired);
    for (kind, wanted) in
        [(Kind::Lifecycle, &desired.lifecycle), (Kind::Permission, &desired.permission)]
    {
        if let Wanted::Document(document) = wanted {
            plan.actions.push(Action::PutPolicy {
                kind,
                document: document.clone(),
                replaces: false,
            });
        }
    }
}

fn plan_configuration(
    desired: &Desired,
    there: &ObservedRepository,
    claimant: &Claimant,
    earlier: &Earlier,
    plan: &mut Plan,
) {
    let drifted = earlier.configuration.as_ref() == Some(&desired.revision);
    for difference in configuration::differences(desired, there, earlier) {
        let Difference { field, actions, detail, .. } = &difference;
        let attempt = earlier.attempts.get(field);
        match difference.verdict(drifted, desired.drift_policy, attempt) {
            Verdict::Leave(why) => {
                plan.drift.push(Drift { field: *field, message: format!("{detail}{why}") });
                plan.attempts.extend(attempt.map(|attempt| (*field, *attempt)));
            }
            Verdict::Write(attempt) => {
                plan.actions.extend(actions.iter().cloned());
                plan.attempts.insert(*field, attempt);
                if drifted {
                    plan.corrected.push(Drift { field: *field, message: detail.clone() });
                }
            }
        }
    }
    // The mark of the owner goes along with other resource tags where there are some.
    let Some((key, value)) =
        claimant.mark().filter(|(key, value)| there.resource_tags.get(key) != Some(value))
    else {
        return;
    };
    match plan.actions.first_mut() {
        Some(Action::TagRepository { tags }) => {
            tags.insert(key, value);
        }
        _ => plan.actions.insert(0, Action::TagRepository { tags: [(key, value)].into() }),
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

fn plan_artifacts(desired: &Desired, there: Option<&ObservedRepository>, plan: &mut Plan) {
    // Settings are written before tags: what counts is what they will be.
    let planned = plan.actions.iter().find_map(|action| match action {
        Action::SetMutability { wanted, .. } => Some(wanted.clone()),
        _ => None,
    });
    let mutability = planned.or_else(|| there.map(|there| there.repository.mutability.clone()));
    for artifact in &desired.artifacts {
        let other = desired.artifacts.iter().find(|other| other.kind != artifact.kind);
        for (tag, wanted) in &artifact.tags {
            let current = there.and_then(|there| there.images.tags.get(tag));
            let collides = other.is_some_and(|other| other.tags.contains_key(tag));
            let decision = if collides {
                Decision::Settled(TagState::Failed(collision(tag)))
            } else {
                plan_tag(artifact, tag, wanted, current, mutability.as_ref())
            };
            let decision = match there {
                Some(there) => {
                    plan_incomplete(artifact.kind, tag, wanted, &there.incomplete, decision)
                }
                None => decision,
            };
            let decision = match there.and_then(|there| there.archived.get(tag)) {
                Some(archived) => {
                    plan_archived(artifact.kind, tag, archived, desired.restore, decision)
                }
                None => decision,
            };
            let gone_again = there.and_then(|there| there.expired.get(tag)?.verdict(tag));
            let decision = match (decision, gone_again) {
                (Decision::Do(Action::CopyTag { replaces: None, .. }), Some(failure)) => {
                    Decision::Settled(TagState::Failed(failure))
                }
                (decision, _) => decision,
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

enum Decision {
    Settled(TagState),
    Do(Action),
}

fn plan_tag(
    artifact: &DesiredArtifact,
    tag: &Tag,
    wanted: &WantedTag,
    current: Option<&Digest>,
    mutability: Option<&Mutability>,
) -> Decision {
    let (source, current) = match (&wanted.source, current) {
        // What is pinned is there: whatever became of it in the source.
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
        (Ok(source), current) => (source, current),
    };
    let copy = |digest: Option<&Digest>| {
        Decision::Do(Action::CopyTag {
            kind: artifact.kind,
            tag: tag.clone(),
            source: source.label.clone(),
            digest: digest.cloned(),
            replaces: current.cloned(),
        })
    };
    match (&source.content, current) {
        (SourceContent::Manifest(digest), Some(current)) if digest == current => {
            Decision::Settled(TagState::Synced(current.clone()))
        }
        (SourceContent::Manifest(digest), Some(current)) if artifact.keep => {
            Decision::Settled(TagState::Kept {
                digest: current.clone(),
                failure: Failure::new(
                    Class::SourceChanged,
                    format!(
                        "{} is now {digest}; what is in ECR is kept (onSourceChange: Overwrite takes the new one)",
                        source.label
                    ),
                ),
            })
        }
        (SourceContent::Manifest(digest), Some(current))
            if mutability.is_some_and(|m| !m.may_move(tag.as_str())) =>
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
        // The index says that the archive is another one: no need to read it to keep what is there.
        (
            SourceContent::Archive { digest: Some(digest), derived: Some(derived) },
            Some(current),
        ) if artifact.keep && derived.manifest == *current && *digest != derived.archive => {
            let failure = Failure::new(
                Class::SourceChanged,
                format!(
                    "{} was replaced in the source (archive {digest}); what is in ECR is kept (chart.onSourceChange: Overwrite takes the new one)",
                    source.label
                ),
            );
            Decision::Settled(TagState::Kept { digest: current.clone(), failure })
        }
        (SourceContent::Archive { .. }, _) => copy(None),
    }
}

/// An index that is what the source has, but lacks something in ECR: copied again, which brings no
/// more than that.
fn plan_incomplete(
    kind: ArtifactKind,
    tag: &Tag,
    wanted: &WantedTag,
    incomplete: &BTreeSet<Digest>,
    decision: Decision,
) -> Decision {
    match (&decision, &wanted.source) {
        (Decision::Settled(TagState::Synced(digest)), Ok(source))
            if incomplete.contains(digest) =>
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

/// A tag in the archive: neither missing nor to be pulled. `step` is what would be done if it were
/// missing.
fn plan_archived(
    kind: ArtifactKind,
    tag: &Tag,
    archived: &Archived,
    restore: bool,
    decision: Decision,
) -> Decision {
    let Archived { digest, activating } = archived;
    match &decision {
        // The source has something else by now: that is copied, and the tag moves to it.
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
                    "tag {tag} is in ECR's archive and cannot be pulled: archivedImages: Restore brings it back; the lifecycle \
                     policy has the rule that archived it"
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
            "tag {tag} is wanted by the image and by the chart: narrow one of the selectors, or exclude the tag"
        ),
    )
}

fn immutable(tag: &Tag, current: &Digest, wanted: &Digest) -> Failure {
    Failure::new(
        Class::TagImmutable,
        format!(
            "tag {tag} is immutable and points to {current}, the source has {wanted}: delete the tag in ECR, take it out of the \
             spec, or exclude it from immutability"
        ),
    )
}

#[cfg(test)]
mod tests;
