//! [`Desired`] x [`Observed`] -> [`Plan`]. Pure: no I/O, no clock.

use super::action::{Action, Drift, Plan};
use super::artifact::{DesiredArtifact, Source, SourceContent, SourceTag, TagState, WantedTag};
use super::configuration::{self, Difference, Verdict};
use super::desired::Desired;
use super::earlier::Earlier;
use super::observed::{Observed, ObservedRepository};
use super::ownership::Claimant;
use crate::class::Class;
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
    let mut tags = desired.resource_tags.clone();
    if let Some((key, value)) = claimant.mark() {
        tags.insert(key, value);
        tags.insert(CREATED_TAG.to_owned(), "true".to_owned());
    }
    let name = desired.repository.clone();
    let settings = desired.settings.clone();
    plan.actions.push(Action::CreateRepository { name, tags, settings });

    for (kind, document) in desired.policies() {
        let document = document.clone();
        plan.attempts.insert(kind.into(), configuration::created(kind, &document));
        plan.actions.push(Action::PutPolicy { kind, document, replaces: false });
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
            let current = observed.and_then(|observed| observed.images.tags.get(tag));
            let tag_plan =
                TagPlan { artifact, tag, wanted, current, mutability: mutability.as_ref() };
            let decision = if other.is_some_and(|other| other.tags.contains_key(tag)) {
                Decision::Settled(TagState::Failed(collision(tag)))
            } else {
                tag_plan.by_source()
            };
            let decision = match observed {
                Some(observed) => tag_plan.with_observed(observed, desired.restore, decision),
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

/// One wanted tag.
struct TagPlan<'a> {
    artifact: &'a DesiredArtifact,
    tag: &'a Tag,
    wanted: &'a WantedTag,
    /// The current digest of the tag in ECR.
    current: Option<&'a Digest>,
    mutability: Option<&'a Mutability>,
}

impl TagPlan<'_> {
    fn copy(&self, source: &SourceTag, digest: Option<&Digest>) -> Decision {
        Decision::Do(Action::CopyTag {
            kind: self.artifact.kind,
            tag: self.tag.clone(),
            source: source.label.clone(),
            digest: digest.cloned(),
            replaces: self.current.cloned(),
        })
    }

    /// Decides by the source, the current digest and the mutability.
    fn by_source(&self) -> Decision {
        match (&self.wanted.source, self.current) {
            // The pinned digest is in ECR, so the source does not matter.
            (_, Some(digest)) if self.wanted.pin.as_ref() == Some(digest) => {
                Decision::Settled(TagState::Synced(digest.clone()))
            }
            (Err(failure), Some(digest)) => Decision::Settled(TagState::Unverified {
                digest: digest.clone(),
                failure: failure.clone(),
            }),
            (Err(failure), None) => Decision::Settled(TagState::Failed(failure.clone())),
            (Ok(source), _) => self.by_content(source),
        }
    }

    /// Decides by the content of the source.
    fn by_content(&self, source: &SourceTag) -> Decision {
        let Self { artifact, tag, mutability, .. } = self;
        let provenance = matches!(artifact.source, Source::Charts { provenance: true, .. });
        let keep = |digest: &Digest, message: String| {
            let failure = Failure::new(Class::SourceChanged, message);
            Decision::Settled(TagState::Kept { digest: digest.clone(), failure })
        };

        match (&source.content, self.current) {
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
            (SourceContent::Manifest(digest), _) => self.copy(source, Some(digest)),
            (SourceContent::Archive { digest, derived: Some(derived) }, Some(current))
                if derived.manifest == *current
                    && derived.provenance == provenance
                    && digest.as_ref().is_none_or(|digest| *digest == derived.archive) =>
            {
                Decision::Settled(TagState::Synced(current.clone()))
            }
            // The index has another digest of the archive: it need not be read to keep the version.
            (
                SourceContent::Archive { digest: Some(digest), derived: Some(derived) },
                Some(current),
            ) if artifact.keep && derived.manifest == *current && *digest != derived.archive => {
                keep(
                    current,
                    format!(
                        "{} was replaced in the source (archive {digest}); the version in ECR is \
                         kept (chart.onSourceChange: Overwrite replaces it)",
                        source.label
                    ),
                )
            }
            (SourceContent::Archive { .. }, _) => self.copy(source, None),
        }
    }

    /// Changes the decision for an incomplete index, an archived tag, and a tag that expires again
    /// and again.
    fn with_observed(
        &self,
        observed: &ObservedRepository,
        restore: bool,
        decision: Decision,
    ) -> Decision {
        let decision = match (&decision, &self.wanted.source) {
            // ECR has the index but lacks some of its children: only the missing ones are sent.
            (Decision::Settled(TagState::Synced(digest)), Ok(source))
                if observed.incomplete.contains(digest) =>
            {
                self.copy(source, Some(digest))
            }
            _ => decision,
        };
        let decision = match observed.archived.get(self.tag) {
            Some(archived) => self.with_archived(archived, restore, decision),
            None => decision,
        };

        let expired = observed.expired.get(self.tag).and_then(|expired| expired.verdict(self.tag));
        match (decision, expired) {
            (Decision::Do(Action::CopyTag { replaces: None, .. }), Some(failure)) => {
                Decision::Settled(TagState::Failed(failure))
            }
            (decision, _) => decision,
        }
    }

    /// Handles a tag in the archive, which is neither missing nor can be pulled. `decision` is for a
    /// missing tag.
    fn with_archived(&self, archived: &Archived, restore: bool, decision: Decision) -> Decision {
        let Archived { digest, activating } = archived;
        let tag = self.tag;

        match &decision {
            // The source has another digest now: it is copied, and the tag moves to it.
            Decision::Do(Action::CopyTag { digest: Some(wanted), .. }) if wanted != digest => {
                decision
            }
            Decision::Settled(TagState::Failed(failure))
                if failure.class == Class::TagCollision =>
            {
                decision
            }
            _ if *activating => Decision::Settled(TagState::Synced(digest.clone())),
            _ if restore => {
                let kind = self.artifact.kind;
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
