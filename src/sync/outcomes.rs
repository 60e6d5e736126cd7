//! The outcomes of the actions of a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Drift, Plan};
use super::artifact::{ArtifactKind, Derived, TagState};
use super::field::Field;
use super::progress::Progress;
use crate::ecr::{Mutability, Repository};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// The outcomes of the actions of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Reports each action when it ends.
    progress: Progress,
    /// The repository, if this pass created it.
    pub(super) created: Option<Repository>,
    /// The failure to create the repository. Nothing else could be done then.
    pub(super) failure: Option<Failure>,
    /// Policies and resource tags that could not be set.
    pub(super) configuration: Vec<Failure>,
    /// Tags that had an action.
    pub(super) tags: BTreeMap<(ArtifactKind, Tag), TagState>,
    /// Number of tags that were written.
    pub(super) copied: BTreeMap<ArtifactKind, usize>,
    /// Manifests that were built from chart archives.
    pub(super) derived: BTreeMap<Tag, Derived>,
    /// Fields that could not be written.
    pub(super) unwritten: BTreeSet<Field>,
    /// Policies that ECR stored in another form than they were written.
    pub(super) rewritten: Vec<Drift>,
    /// The repository's mutability, if it was written.
    pub(super) mutability: Option<Mutability>,
    /// Keys of resource tags that were set.
    pub(super) tagged: BTreeSet<String>,
    /// Keys of resource tags that were removed.
    pub(super) untagged: BTreeSet<String>,
    /// Artifacts that refer to the images, if they are wanted.
    pub(super) referrers: Option<ReferrersReport>,
    /// Advice for a person: nothing is wrong.
    pub(super) warnings: Vec<String>,
    /// The reason why tags that should be removed still exist.
    pub(super) pruning_blocked: Option<Failure>,
    /// The changes, in words.
    pub(super) changes: Vec<String>,
    /// [`Action::field`] of each action that was carried out.
    pub(super) fields: Vec<Field>,
}

impl Outcomes {
    /// No outcomes yet. Each of them is reported to `progress`.
    pub(super) fn new(progress: &Progress) -> Self {
        Self { progress: progress.clone(), ..Self::default() }
    }

    /// The outcomes of a dry run.
    pub(super) fn planned(plan: &Plan) -> Self {
        let mut outcomes = Self::default();
        for action in &plan.actions {
            outcomes.changes.push(action.to_string());
            outcomes.record(action);
            if let Action::CopyTag { kind, tag, .. } | Action::RestoreTag { kind, tag, .. } = action
            {
                outcomes.tags.insert((*kind, tag.clone()), TagState::Planned);
            }
        }
        outcomes
    }

    /// Records an action that was carried out.
    pub(super) fn done(&mut self, action: &Action) {
        let change = action.past();
        self.progress.report(action.field(), Ok(change.clone()));
        self.changes.push(change);
        self.record(action);
    }

    /// Reports an action that failed.
    pub(super) fn failed(&self, field: Field, failure: &Failure) {
        self.progress.report(field, Err(failure.clone()));
    }

    fn record(&mut self, action: &Action) {
        self.fields.push(action.field());
        match action {
            Action::CreateRepository { tags, .. } | Action::TagRepository { tags } => {
                self.tagged.extend(tags.keys().cloned());
            }
            Action::SetMutability { wanted, .. } => self.mutability = Some(wanted.clone()),
            Action::UntagRepository { keys } => self.untagged.extend(keys.iter().cloned()),
            _ => {}
        }
    }

    /// Records a tag that was copied.
    pub(super) fn copied(&mut self, kind: ArtifactKind, tag: Tag, digest: Digest) {
        let noun = if kind == ArtifactKind::Chart { "chart" } else { "tag" };
        let change = format!("copied {noun} {tag} ({digest})");
        self.progress.report(kind.into(), Ok(change.clone()));
        self.progress.ended_tag();

        self.changes.push(change);
        self.fields.push(kind.into());
        *self.copied.entry(kind).or_default() += 1;
        self.tags.insert((kind, tag), TagState::Synced(digest));
    }

    /// Records a tag that should have been copied and was not.
    pub(super) fn not_copied(&mut self, kind: ArtifactKind, tag: Tag, state: TagState) {
        self.settled(kind, tag, state);
        self.progress.ended_tag();
    }

    /// Records the state of a tag that was not copied.
    pub(super) fn settled(&mut self, kind: ArtifactKind, tag: Tag, state: TagState) {
        if let TagState::Failed(failure) = &state {
            self.progress.report(kind.into(), Err(failure.clone()));
        }
        self.tags.insert((kind, tag), state);
    }
}

/// Artifacts that refer to the images, such as signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersReport {
    /// Number of them in the source, as far as it could be asked.
    pub found: usize,
    /// Number of them that this pass copied.
    pub copied: usize,
    /// Failures.
    pub failures: Vec<Failure>,
}
