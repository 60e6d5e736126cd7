//! The parts of a repository that a pass changes.

use serde::Serialize;
use strum::{Display, IntoStaticStr, VariantArray};

use super::artifact::ArtifactKind;
use crate::ecr::policy::Kind;

/// A part of a repository, as metric labels, reports and messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "camelCase")]
pub enum Field {
    /// The repository itself.
    Repository,
    /// Resource tags.
    ResourceTags,
    /// Whether tags may move.
    ImageTagMutability,
    /// Whether images are scanned when they are pushed.
    ScanOnPush,
    /// Encryption, which cannot be changed.
    Encryption,
    /// The lifecycle policy.
    LifecyclePolicy,
    /// The permission policy.
    PermissionPolicy,
    /// A tag of the image.
    ImageTag,
    /// A version of the chart.
    ChartTag,
    /// A tag that is removed because nobody wants it any more.
    Prune,
}

impl Field {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name in metric labels, reports and messages: the field of the spec where there is one.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it is a setting, a policy or the resource tags of a repository that exists.
    #[must_use]
    pub const fn is_configuration(self) -> bool {
        !matches!(self, Self::Repository | Self::ImageTag | Self::ChartTag | Self::Prune)
    }
}

impl From<Kind> for Field {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Lifecycle => Self::LifecyclePolicy,
            Kind::Permission => Self::PermissionPolicy,
        }
    }
}

impl From<ArtifactKind> for Field {
    fn from(kind: ArtifactKind) -> Self {
        match kind {
            ArtifactKind::Image => Self::ImageTag,
            ArtifactKind::Chart => Self::ChartTag,
        }
    }
}
