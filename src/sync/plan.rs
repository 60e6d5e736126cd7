//! [`Desired`] x [`Observed`] -> [`Plan`]. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::configuration::{Difference, Verdict};
use super::prune::PRUNE;
use super::{
    ArtifactKind, Attempts, Before, Claimant, Desired, DesiredArtifact, Failure, Observed,
    ObservedRepository, Pruning, Source, SourceContent, TagState, WantedTag, configuration,
};
use crate::api::v1alpha1::Policy;
use crate::class::Class;
use crate::ecr::policy::{Kind, Wanted};
use crate::ecr::{Archived, CREATED_TAG, Mutability, Settings};
use crate::registry::{Digest, Tag};

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The repository was there before us.
    pub adopted: bool,
    /// The actions.
    pub actions: Vec<Action>,
    /// Wanted tags that need no action: in sync, or impossible.
    pub settled: BTreeMap<(ArtifactKind, Tag), TagState>,
    /// What is not as wanted and stays so.
    pub drift: Vec<Drift>,
    /// What somebody else changed and the actions put right.
    pub corrected: Vec<Drift>,
    /// Values that are written, with those of earlier passes that were not found again.
    pub attempts: Attempts,
    /// What there is to remove, where that was looked for.
    pub pruning: Option<Pruning>,
}

impl Plan {
    /// Takes in what there is to remove: the last of all actions.
    pub(super) fn take_pruning(&mut self, pruning: Pruning) {
        self.actions.extend(pruning.actions.iter().cloned());
        self.pruning = Some(pruning);
    }

    /// Whether nothing is to be done, and nothing fails by what a longer look at ECR might show to
    /// be otherwise.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let depends = |state: &TagState| matches!(state, TagState::Failed(failure) if failure.class == Class::TagImmutable);
        self.actions.is_empty() && !self.settled.values().any(depends)
    }
}

/// A field of the configuration that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The field of the spec.
    pub field: &'static str,
    /// What is there, what is wanted, and what to do.
    pub message: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the repository with these resource tags and settings.
    CreateRepository {
        /// Its name.
        name: String,
        /// Resource tags, ours included.
        tags: BTreeMap<String, String>,
        /// Settings.
        settings: Settings,
    },
    /// Set these resource tags on the repository.
    TagRepository {
        /// Those that are missing or differ.
        tags: BTreeMap<String, String>,
    },
    /// Remove these resource tags.
    UntagRepository {
        /// Their keys.
        keys: Vec<String>,
    },
    /// Say anew whether tags may move.
    SetMutability {
        /// As it shall be.
        wanted: Mutability,
        /// As it is.
        replaces: Mutability,
    },
    /// Say anew whether images are scanned when they are pushed.
    SetScanOnPush {
        /// As it shall be.
        wanted: bool,
    },
    /// Write a policy.
    PutPolicy {
        /// Which.
        kind: Kind,
        /// The document.
        document: Policy,
        /// Whether another one is there.
        replaces: bool,
    },
    /// Remove a policy.
    DeletePolicy {
        /// Which.
        kind: Kind,
    },
    /// Bring a wanted image back from the archive.
    RestoreTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// What it points to.
        digest: Digest,
    },
    /// Copy an artifact and point a tag to it.
    CopyTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// Where it comes from, for people: `docker.io/library/nginx:1.27`.
        source: String,
        /// The digest to copy; `None` for a chart archive, of which a manifest is yet to be made.
        digest: Option<Digest>,
        /// What the tag points to now.
        replaces: Option<Digest>,
    },
    /// Remove a tag that nobody wants and that the source still has.
    PruneTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// What it points to; if it does so no longer, it stays.
        digest: Digest,
        /// Whether that is an index.
        is_index: bool,
        /// Where it can be had again, for people.
        source: String,
    },
}

impl Action {
    /// What of the repository it changes, for metrics.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::CreateRepository { .. } => "repository",
            Self::TagRepository { .. } | Self::UntagRepository { .. } => "resourceTags",
            Self::SetMutability { .. } => "imageTagMutability",
            Self::SetScanOnPush { .. } => "scanOnPush",
            Self::PutPolicy { kind, .. } | Self::DeletePolicy { kind } => kind.field(),
            Self::CopyTag { kind: ArtifactKind::Image, .. }
            | Self::RestoreTag { kind: ArtifactKind::Image, .. } => "imageTag",
            Self::CopyTag { kind: ArtifactKind::Chart, .. }
            | Self::RestoreTag { kind: ArtifactKind::Chart, .. } => "chartTag",
            Self::PruneTag { .. } => PRUNE,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRepository { name, .. } => write!(f, "create repository {name}"),
            Self::TagRepository { tags } => {
                let tags: Vec<_> =
                    tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "set resource tags {}", tags.join(", "))
            }
            Self::UntagRepository { keys } => write!(f, "remove resource tags {}", keys.join(", ")),
            Self::SetMutability { wanted, replaces } => {
                write!(f, "set imageTagMutability to {wanted}, which is {replaces}")
            }
            Self::SetScanOnPush { wanted } => write!(f, "set scanOnPush to {wanted}"),
            Self::PutPolicy { kind, replaces: false, .. } => write!(f, "set {}", kind.field()),
            Self::PutPolicy { kind, replaces: true, .. } => {
                write!(f, "replace {}, which differs", kind.field())
            }
            Self::DeletePolicy { kind } => write!(f, "remove {}", kind.field()),
            Self::PruneTag { tag, digest, source, .. } => {
                write!(f, "prune tag {tag} ({digest}), which {source} still has")
            }
            Self::RestoreTag { tag, digest, .. } => {
                write!(f, "restore tag {tag} ({digest}) from the archive")
            }
            Self::CopyTag { tag, source, digest, replaces, .. } => {
                match (digest, replaces) {
                    (Some(digest), Some(there)) if digest == there => {
                        return write!(
                            f,
                            "complete tag {tag}, an index that lacks some of its images, from {source} ({digest})"
                        );
                    }
                    (Some(digest), _) => write!(f, "copy {source} ({digest}) to tag {tag}")?,
                    (None, None) => write!(f, "copy {source} to tag {tag}")?,
                    (None, Some(_)) => write!(f, "compare {source} with tag {tag}")?,
                }
                replaces.iter().try_for_each(|old| write!(f, ", which points to {old}"))
            }
        }
    }
}

/// Compares what is wanted with what is there.
///
/// # Errors
/// When the repository belongs to somebody else: then nothing may be done at all.
pub fn plan(
    desired: &Desired,
    observed: &Observed,
    claimant: &Claimant,
    before: &Before,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let there = observed.repository.as_ref();
    match there {
        None => plan_new(desired, claimant, &mut plan),
        Some(there) if !there.is_whole => {
            plan.adopted = before.look.as_ref().is_some_and(|look| !look.is_ours)
        }
        Some(there) => {
            let (repository, tags) = (&there.repository, &there.resource_tags);
            claimant.may_keep(&desired.repository, &repository.arn, tags, there.owner_is_gone)?;
            plan.adopted = !claimant.created(&repository.arn, tags);
            plan_configuration(desired, there, claimant, before, &mut plan);
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
    before: &Before,
    plan: &mut Plan,
) {
    let drifted = before.configuration.as_ref() == Some(&desired.revision);
    for difference in configuration::differences(desired, there, before) {
        let Difference { field, actions, detail, .. } = &difference;
        let attempt = before.attempts.get(field);
        match difference.verdict(drifted, desired.drift_policy, attempt) {
            Verdict::Leave(why) => {
                plan.drift.push(Drift { field, message: format!("{detail}{why}") });
                plan.attempts.extend(attempt.map(|attempt| (*field, *attempt)));
            }
            Verdict::Write(attempt) => {
                plan.actions.extend(actions.iter().cloned());
                plan.attempts.insert(field, attempt);
                if drifted {
                    plan.corrected.push(Drift { field, message: detail.clone() });
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
            let step = if collides {
                Step::Settled(TagState::Failed(collision(tag)))
            } else {
                plan_tag(artifact, tag, wanted, current, mutability.as_ref())
            };
            let step = match there {
                Some(there) => plan_hollow(artifact.kind, tag, wanted, &there.hollow, step),
                None => step,
            };
            let step = match there.and_then(|there| there.archived.get(tag)) {
                Some(archived) => {
                    plan_archived(artifact.kind, tag, archived, desired.restore, step)
                }
                None => step,
            };
            let gone_again = there.and_then(|there| there.vanished.get(tag)?.verdict(tag));
            let step = match (step, gone_again) {
                (Step::Do(Action::CopyTag { replaces: None, .. }), Some(failure)) => {
                    Step::Settled(TagState::Failed(failure))
                }
                (step, _) => step,
            };
            match step {
                Step::Settled(state) => {
                    plan.settled.insert((artifact.kind, tag.clone()), state);
                }
                Step::Do(action) => plan.actions.push(action),
            }
        }
    }
}

enum Step {
    Settled(TagState),
    Do(Action),
}

fn plan_tag(
    artifact: &DesiredArtifact,
    tag: &Tag,
    wanted: &WantedTag,
    current: Option<&Digest>,
    mutability: Option<&Mutability>,
) -> Step {
    let (source, current) = match (&wanted.source, current) {
        // What is pinned is there: whatever became of it in the source.
        (_, Some(digest)) if wanted.pin.as_ref() == Some(digest) => {
            return Step::Settled(TagState::Synced(digest.clone()));
        }
        (Err(failure), Some(digest)) => {
            return Step::Settled(TagState::Unverified {
                digest: digest.clone(),
                failure: failure.clone(),
            });
        }
        (Err(failure), None) => return Step::Settled(TagState::Failed(failure.clone())),
        (Ok(source), current) => (source, current),
    };
    let copy = |digest: Option<&Digest>| {
        Step::Do(Action::CopyTag {
            kind: artifact.kind,
            tag: tag.clone(),
            source: source.label.clone(),
            digest: digest.cloned(),
            replaces: current.cloned(),
        })
    };
    match (&source.content, current) {
        (SourceContent::Manifest(digest), Some(current)) if digest == current => {
            Step::Settled(TagState::Synced(current.clone()))
        }
        (SourceContent::Manifest(digest), Some(current)) if artifact.keep => {
            Step::Settled(TagState::Kept {
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
            Step::Settled(TagState::Failed(immutable(tag, current, digest)))
        }
        (SourceContent::Manifest(digest), _) => copy(Some(digest)),
        (SourceContent::Archive { digest, derived: Some(derived) }, Some(current))
            if derived.manifest == *current
                && derived.provenance == has_provenance(artifact)
                && digest.as_ref().is_none_or(|digest| *digest == derived.archive) =>
        {
            Step::Settled(TagState::Synced(current.clone()))
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
            Step::Settled(TagState::Kept { digest: current.clone(), failure })
        }
        (SourceContent::Archive { .. }, _) => copy(None),
    }
}

/// An index that is what the source has, but lacks something in ECR: copied again, which brings no
/// more than that.
fn plan_hollow(
    kind: ArtifactKind,
    tag: &Tag,
    wanted: &WantedTag,
    hollow: &BTreeSet<Digest>,
    step: Step,
) -> Step {
    match (&step, &wanted.source) {
        (Step::Settled(TagState::Synced(digest)), Ok(source)) if hollow.contains(digest) => {
            Step::Do(Action::CopyTag {
                kind,
                tag: tag.clone(),
                source: source.label.clone(),
                digest: Some(digest.clone()),
                replaces: Some(digest.clone()),
            })
        }
        _ => step,
    }
}

/// A tag in the archive: neither missing nor to be pulled. `step` is what would be done if it were
/// missing.
fn plan_archived(
    kind: ArtifactKind,
    tag: &Tag,
    archived: &Archived,
    restore: bool,
    step: Step,
) -> Step {
    let Archived { digest, activating } = archived;
    match &step {
        // The source has something else by now: that is copied, and the tag moves to it.
        Step::Do(Action::CopyTag { digest: Some(wanted), .. }) if wanted != digest => step,
        Step::Settled(TagState::Failed(failure)) if failure.class == Class::TagCollision => step,
        _ if *activating => Step::Settled(TagState::Synced(digest.clone())),
        _ if restore => {
            Step::Do(Action::RestoreTag { kind, tag: tag.clone(), digest: digest.clone() })
        }
        _ => Step::Settled(TagState::Archived {
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
