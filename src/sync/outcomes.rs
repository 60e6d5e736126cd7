//! What came of a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Drift, Plan};
use super::artifact::{ArtifactKind, Derived, TagState};
use super::field::Field;
use super::progress::Progress;
use crate::ecr::{Mutability, Repository};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// The repository, if this pass created it.
    pub(super) created: Option<Repository>,
    /// Why nothing more could be done: no repository.
    pub(super) failure: Option<Failure>,
    /// Policies and resource tags that could not be set.
    pub(super) configuration: Vec<Failure>,
    /// Tags that an action was for.
    pub(super) tags: BTreeMap<(ArtifactKind, Tag), TagState>,
    /// Tags that were written.
    pub(super) copied: BTreeMap<ArtifactKind, usize>,
    /// What was made of chart archives.
    pub(super) derived: BTreeMap<Tag, Derived>,
    /// Fields that could not be written.
    pub(super) unwritten: BTreeSet<Field>,
    /// What was written and is kept by ECR as something else.
    pub(super) rewritten: Vec<Drift>,
    /// The repository's mutability, if it was written.
    pub(super) mutability: Option<Mutability>,
    /// Keys of resource tags that were set.
    pub(super) tagged: BTreeSet<String>,
    /// Keys of resource tags that were removed.
    pub(super) untagged: BTreeSet<String>,
    /// What became of the artifacts that refer to the images, where they are wanted.
    pub(super) referrers: Option<ReferrersReport>,
    /// What a person should know, although nothing is wrong.
    pub(super) warnings: Vec<String>,
    /// Why tags that should go are still there.
    pub(super) pruning_blocked: Option<Failure>,
    /// What was done, in words.
    pub(super) changes: Vec<String>,
    /// What was changed: [`Action::field`] of each action that was carried out.
    pub(super) fields: Vec<Field>,
}

impl Outcomes {
    /// What would come of `plan`.
    pub(super) fn planned(plan: &Plan) -> Self {
        let mut outcomes = Self::default();
        for action in &plan.actions {
            outcomes.did(action);
            if let Action::CopyTag { kind, tag, .. } | Action::RestoreTag { kind, tag, .. } = action
            {
                outcomes.tags.insert((*kind, tag.clone()), TagState::Planned);
            }
        }
        outcomes
    }

    /// Notes an action that was carried out.
    pub(super) fn done(&mut self, action: &Action, progress: &Progress) {
        self.did(action);
        progress.did(action.field(), action.to_string());
    }

    /// Notes an action that was carried out, or would be.
    fn did(&mut self, action: &Action) {
        self.changes.push(action.to_string());
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

    pub(super) fn copied(
        &mut self,
        kind: ArtifactKind,
        tag: Tag,
        digest: Digest,
        progress: &Progress,
    ) {
        let change = format!(
            "copied {} {tag} ({digest})",
            if kind == ArtifactKind::Chart { "chart" } else { "tag" }
        );
        progress.did(kind.into(), change.clone());
        progress.ended_tag();
        self.changes.push(change);
        self.fields.push(kind.into());
        *self.copied.entry(kind).or_default() += 1;
        self.tags.insert((kind, tag), TagState::Synced(digest));
    }

    /// Notes how a tag came to stand that was not copied.
    pub(super) fn settled(
        &mut self,
        kind: ArtifactKind,
        tag: Tag,
        state: TagState,
        progress: &Progress,
    ) {
        if let TagState::Failed(failure) = &state {
            progress.failed(kind.into(), failure);
        }
        self.tags.insert((kind, tag), state);
    }
}

/// What became of the artifacts that refer to the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersReport {
    /// How many the source has, as far as it could be asked.
    pub found: usize,
    /// How many of them this pass copied.
    pub copied: usize,
    /// What went wrong.
    pub failures: Vec<Failure>,
}
