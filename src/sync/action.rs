//! The work of a pass: the plan, its actions, drift, and tags to remove.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::artifact::{ArtifactKind, TagState};
use super::field::Field;
use crate::api::v1alpha1::Policy;
use crate::class::Class;
use crate::ecr::policy::Kind;
use crate::ecr::{Mutability, Settings};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// The actions of a pass, in the order in which they are carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Whether the repository existed before us.
    pub(super) adopted: bool,
    /// The actions.
    pub(super) actions: Vec<Action>,
    /// Wanted tags that need no action: in sync, or impossible.
    pub(super) settled: BTreeMap<(ArtifactKind, Tag), TagState>,
    /// Differences from the spec that are left alone.
    pub(super) drift: Vec<Drift>,
    /// Changes by others that the actions correct.
    pub(super) corrected: Vec<Drift>,
    /// Writes of this pass, and those of earlier passes after which ECR returned another value.
    pub(super) attempts: Attempts,
    /// Tags to remove, if this pass looked for them.
    pub(super) pruning: Option<Pruning>,
}

/// The tag of an [`Action::CopyTag`], the digest in its source and the one that it replaces.
pub(super) type PlannedCopy<'a> = (&'a Tag, Option<&'a Digest>, Option<&'a Digest>);

impl Plan {
    /// Returns the copies for one kind of artifact.
    pub(super) fn copies(&self, artifact: ArtifactKind) -> impl Iterator<Item = PlannedCopy<'_>> {
        self.actions.iter().filter_map(move |action| match action {
            Action::CopyTag { kind, tag, digest, replaces, .. } if *kind == artifact => {
                Some((tag, digest.as_ref(), replaces.as_ref()))
            }
            _ => None,
        })
    }

    /// Adds the tags to remove, as the last actions.
    pub(super) fn add_pruning(&mut self, pruning: Pruning) {
        self.actions.extend(pruning.actions.iter().cloned());
        self.pruning = Some(pruning);
    }

    /// Whether nothing is to be done. An immutable tag is not settled: its mutability may have been
    /// changed in ECR, and only the full survey reads that.
    pub(super) fn is_settled(&self) -> bool {
        let is_immutable = |state: &TagState| match state {
            TagState::Failed(failure) => failure.class == Class::TagImmutable,
            _ => false,
        };
        self.actions.is_empty() && !self.settled.values().any(is_immutable)
    }
}

/// A field whose value in ECR differs from the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The field of the spec.
    pub field: Field,
    /// The value in ECR, the wanted value, and what to do.
    pub message: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// The writes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Hash of the value that was written.
    pub(super) wanted: u64,
    /// Hash of the value in ECR before the write.
    pub(super) live: u64,
    /// Writes after which ECR returned another value.
    pub(super) times: u32,
}

/// Writes after which ECR returned another value, by field.
pub(crate) type Attempts = BTreeMap<Field, Attempt>;

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Creates the repository.
    CreateRepository {
        /// Name of the repository.
        name: String,
        /// Resource tags, ours included.
        tags: BTreeMap<String, String>,
        /// Settings.
        settings: Settings,
    },
    /// Sets resource tags.
    TagRepository {
        /// Tags that are missing or differ.
        tags: BTreeMap<String, String>,
    },
    /// Removes resource tags.
    UntagRepository {
        /// Keys of the tags.
        keys: Vec<String>,
    },
    /// Sets the tag mutability. Replaces the exclusion filters.
    SetMutability {
        /// The desired value.
        wanted: Mutability,
        /// The value in ECR.
        replaces: Mutability,
    },
    /// Sets whether images are scanned when they are pushed.
    SetScanOnPush {
        /// The desired value.
        wanted: bool,
    },
    /// Writes a policy.
    PutPolicy {
        /// Lifecycle or permission policy.
        kind: Kind,
        /// The document.
        document: Policy,
        /// Whether ECR has another document.
        replaces: bool,
    },
    /// Deletes a policy.
    DeletePolicy {
        /// Lifecycle or permission policy.
        kind: Kind,
    },
    /// Restores a wanted image from the archive.
    RestoreTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// Digest of the tag.
        digest: Digest,
    },
    /// Copies an artifact and points a tag to it.
    CopyTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// The source, for people: `docker.io/library/nginx:1.27`.
        source: String,
        /// The digest to copy; `None` for a chart archive whose manifest is not built yet.
        digest: Option<Digest>,
        /// The current digest of the tag.
        replaces: Option<Digest>,
    },
    /// Removes a tag that is not wanted and that the source still has.
    PruneTag {
        /// Image or chart.
        kind: ArtifactKind,
        /// The tag in ECR.
        tag: Tag,
        /// Digest of the tag. If the tag has moved by then, it is kept.
        digest: Digest,
        /// Whether the digest is of an index.
        is_index: bool,
        /// The source that still has it, for people.
        source: String,
    },
}

impl Action {
    /// The part of the repository that it changes.
    #[must_use]
    pub fn field(&self) -> Field {
        match self {
            Self::CreateRepository { .. } => Field::Repository,
            Self::TagRepository { .. } | Self::UntagRepository { .. } => Field::ResourceTags,
            Self::SetMutability { .. } => Field::ImageTagMutability,
            Self::SetScanOnPush { .. } => Field::ScanOnPush,
            Self::PutPolicy { kind, .. } | Self::DeletePolicy { kind } => (*kind).into(),
            Self::CopyTag { kind, .. } | Self::RestoreTag { kind, .. } => (*kind).into(),
            Self::PruneTag { .. } => Field::Prune,
        }
    }

    /// The action in the past tense: `created repository nginx`.
    pub(super) fn past(&self) -> String {
        let text = self.to_string();
        let Some((verb, rest)) = text.split_once(' ') else { return text };
        let past = match verb {
            "set" => "set".to_owned(),
            "copy" => "copied".to_owned(),
            verb if verb.ends_with('e') => format!("{verb}d"),
            verb => format!("{verb}ed"),
        };
        format!("{past} {rest}")
    }
}

impl fmt::Display for Action {
    /// The action as a plan shows it: `create repository nginx`.
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
                write!(f, "change imageTagMutability from {replaces} to {wanted}")
            }
            Self::SetScanOnPush { wanted } => write!(f, "set scanOnPush to {wanted}"),
            Self::PutPolicy { kind, replaces: false, .. } => write!(f, "set {}", kind.field()),
            Self::PutPolicy { kind, replaces: true, .. } => write!(f, "replace {}", kind.field()),
            Self::DeletePolicy { kind } => write!(f, "remove {}", kind.field()),
            Self::PruneTag { tag, digest, source, .. } => {
                write!(f, "prune tag {tag} ({digest}), which {source} still has")
            }
            Self::RestoreTag { tag, digest, .. } => {
                write!(f, "restore tag {tag} ({digest}) from the archive")
            }
            Self::CopyTag { tag, source, digest, replaces, .. } => {
                match (digest, replaces) {
                    (Some(digest), Some(current)) if digest == current => {
                        return write!(
                            f,
                            "complete tag {tag}, an index that lacks some of its images, from \
                             {source} ({digest})"
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

impl From<Failure> for Pruning {
    /// Removes nothing.
    fn from(blocked: Failure) -> Self {
        Self { blocked: Some(blocked), ..Self::default() }
    }
}

/// Tags to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// One [`Action::PruneTag`] for each tag that is removed.
    pub actions: Vec<Action>,
    /// Spare actions. They replace those whose tag ECR keeps for an index.
    pub reserve: Vec<Action>,
    /// The most tags that one pass removes.
    pub allowed: usize,
    /// Tags that were not checked.
    pub left: usize,
    /// The time for which an image must be unused.
    pub min_unpulled: Duration,
    /// The reason why nothing is removed, or not everything.
    pub blocked: Option<Failure>,
}

impl Pruning {
    /// Tags that the sources are asked for in one pass, and tags in one BatchDeleteImage.
    pub(super) const MOST_CHECKS: usize = 100;
    /// The wait before the next check after a failure that may pass.
    pub(super) const RECHECK: Duration = Duration::from_secs(30 * 60);

    /// The failure if nothing is removed. The same cause has the same text at every check.
    pub(super) fn blocked(why: impl fmt::Display) -> Failure {
        Failure::new(Class::PruneBlocked, format!("nothing was pruned: {why}"))
    }

    /// The failure if nothing is removed because of `failure`. If that may pass, the check is
    /// repeated soon.
    pub(super) fn blocked_by(failure: &Failure) -> Failure {
        let retry_after = failure.class.is_passing().then_some(Self::RECHECK);
        Failure { retry_after, ..Self::blocked(failure) }
    }

    /// The same if some tags are removed all the same.
    pub(super) fn partly_blocked_by(failure: &Failure) -> Failure {
        let message = format!("some tags were not pruned: {failure}");
        Failure { message, ..Self::blocked_by(failure) }
    }

    /// Advice for a person: the tags that are left for later passes.
    pub(super) fn advice(&self) -> Option<String> {
        let Self { actions, allowed, left, blocked, .. } = self;
        if blocked.is_some() || *left == 0 {
            return None;
        }
        Some(if actions.len() >= *allowed {
            format!(
                "up to {left} more tags will be pruned in later passes (prune.maxPercent allows \
                 {allowed} per pass)"
            )
        } else {
            format!(
                "{left} more tags will be checked in later passes ({} per pass)",
                Self::MOST_CHECKS
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_will_be_done_and_an_event_what_was_done() {
        let policy = |replaces| Action::PutPolicy {
            kind: Kind::Lifecycle,
            document: Policy::new(),
            replaces,
        };
        let digest = Digest::sha256_of(b"image");
        let copy = |replaces| Action::CopyTag {
            kind: ArtifactKind::Image,
            tag: "1".parse().expect("a tag"),
            source: "q.io/app:1".to_owned(),
            digest: Some(digest.clone()),
            replaces,
        };
        let mutability =
            Action::SetMutability { wanted: Mutability::Immutable, replaces: Mutability::Mutable };

        let table = [
            (policy(false), "set lifecyclePolicy", "set lifecyclePolicy"),
            (policy(true), "replace lifecyclePolicy", "replaced lifecyclePolicy"),
            (
                mutability,
                "change imageTagMutability from Mutable to Immutable",
                "changed imageTagMutability from Mutable to Immutable",
            ),
            (Action::DeletePolicy { kind: Kind::Permission }, "remove", "removed"),
            (copy(None), "copy q.io/app:1", "copied q.io/app:1"),
            (copy(Some(digest.clone())), "complete tag 1", "completed tag 1"),
        ];

        for (action, plan, event) in table {
            assert!(action.to_string().starts_with(plan), "{action}");
            assert!(action.past().starts_with(event), "{}", action.past());
        }
    }
}
