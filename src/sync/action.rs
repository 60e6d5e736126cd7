//! What there is to do: actions, what stays as it is, and what is to be removed.

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
    pub field: Field,
    /// What is there, what is wanted, and what to do.
    pub message: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// A value that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Hash of what was written.
    pub(super) wanted: u64,
    /// Hash of what was there before.
    pub(super) live: u64,
    /// How often it was written without being found again.
    pub(super) times: u32,
}

/// Values that were written and not found again, by field.
pub type Attempts = BTreeMap<Field, Attempt>;

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

/// What there is to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// One [`Action::PruneTag`] for each tag that goes.
    pub actions: Vec<Action>,
    /// More of them, for those of the first that ECR keeps for an index.
    pub reserve: Vec<Action>,
    /// How many may go at a time.
    pub allowed: usize,
    /// Tags that were not looked at.
    pub left: usize,
    /// How long an image must be unused.
    pub min_unpulled: Duration,
    /// Why nothing may be removed, or could be, or not all.
    pub blocked: Option<Failure>,
}

impl Pruning {
    /// Tags that the sources are asked for in one pass; with them go the batches of one
    /// BatchDeleteImage.
    pub(super) const MOST_CHECKS: usize = 100;
    /// When it is looked again where only something could not be asked.
    pub(super) const AGAIN: Duration = Duration::from_secs(30 * 60);

    /// Nothing goes. The same cause has the same text at every look.
    pub(super) fn blocked(why: impl std::fmt::Display) -> Self {
        let message = format!("tags that are no longer wanted stay: {why}");
        Self { blocked: Some(Failure::new(Class::PruneBlocked, message)), ..Self::default() }
    }

    /// The same for what may be otherwise in a while.
    pub(super) fn blocked_by(failure: &Failure) -> Self {
        let mut pruning = Self::blocked(failure);
        if let Some(blocked) = pruning.blocked.as_mut().filter(|_| failure.class.is_passing()) {
            blocked.retry_after = Some(Self::AGAIN);
        }
        pruning
    }

    /// What a person should know of it.
    pub(super) fn advice(&self) -> Option<String> {
        let Self { actions, allowed, left, blocked, .. } = self;
        match left {
            _ if blocked.is_some() => None,
            0 => None,
            left if actions.len() >= *allowed => Some(format!(
                "up to {left} more tags go later: prune.maxPercent allows {allowed} at a time"
            )),
            left => Some(format!(
                "{left} more tags are looked at later, whether they go: {} at a time",
                Self::MOST_CHECKS
            )),
        }
    }
}
