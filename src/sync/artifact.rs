//! The image and the chart: their wanted tags, their sources, and the state of each tag.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::origin::Origin;
use crate::failure::Failure;
use crate::helm;
use crate::memory_budget::Results;
use crate::registry::{Digest, Tag};

/// Image or chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// The container image.
    Image,
    /// The Helm chart.
    Chart,
}

impl ArtifactKind {
    /// `image` or `chart`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Chart => "chart",
        }
    }
}

/// An artifact in its source.
#[derive(Debug)]
pub(super) struct DesiredArtifact {
    /// Image or chart.
    pub(super) kind: ArtifactKind,
    /// The repository or chart that is read, for people: `docker.io/library/nginx`.
    pub(super) name: String,
    /// The original repository, if a mirror is read.
    pub(super) original: Option<String>,
    /// Warning that the mirror failed and the original registry is read instead.
    pub(super) passed_over: Option<String>,
    /// The original repository, for content that the mirror lacks, if it may be read.
    pub(super) original_origin: Option<Origin>,
    /// The source to copy from.
    pub(super) source: Source,
    /// Whether a tag in ECR is kept when the source replaces its content.
    pub(super) keep: bool,
    /// The wanted tags in the target.
    pub(super) tags: BTreeMap<Tag, WantedTag>,
    /// The failure to list the source's tags. The selected tags are then not known.
    pub(super) listing: Option<Failure>,
    /// The number of tags that the selector finds, if there is a selector and the list was read.
    pub(super) selected: Option<usize>,
    /// All tags that the source lists, if pruning needs them.
    pub(super) offered: Option<Result<Offered, Failure>>,
    /// The memory of `offered` in the budget.
    pub(super) memory: Option<Arc<Results>>,
}

/// Tags that a source lists. Those of a chart repository have an entry of its index.
pub(super) type Offered = BTreeMap<Tag, Option<Box<helm::Entry>>>;

/// The source of an artifact.
#[derive(Debug)]
pub(super) enum Source {
    /// An OCI registry: manifests are copied as they are.
    Registry(Origin),
    /// A classic chart repository: archives become artifacts.
    Charts {
        /// The repository.
        repository: Box<helm::Repository>,
        /// Tag in ECR -> entry of the index.
        entries: BTreeMap<Tag, helm::Entry>,
        /// Whether the provenance file is part of the artifact.
        provenance: bool,
    },
    /// No source could be read; every tag has the reason.
    Unknown,
}

/// A tag that the target should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedTag {
    /// The only allowed digest.
    pub(super) pin: Option<Digest>,
    /// The tag in the source, or why it is not known.
    pub(super) source: Result<SourceTag, Failure>,
}

/// A tag of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceTag {
    /// The tag, for people: `docker.io/library/nginx:1.27`.
    pub(super) label: String,
    /// The content that it points to.
    pub(super) content: SourceContent,
}

/// The content of a tag in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceContent {
    /// A manifest, which is copied as it is.
    Manifest(Digest),
    /// A chart archive, from which a manifest is built.
    Archive {
        /// The archive's digest, if the index has it.
        digest: Option<Digest>,
        /// The manifest that an earlier pass built from it.
        derived: Option<Derived>,
    },
}

/// The manifest that was built from a chart archive. With it, an unchanged archive is not
/// downloaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Digest of the archive.
    pub archive: Digest,
    /// Whether a provenance file is part of the manifest.
    pub provenance: bool,
    /// Digest of the manifest.
    pub manifest: Digest,
}

/// The state of one wanted tag at the end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagState {
    /// In ECR, with the source's digest.
    Synced(Digest),
    /// In ECR, but the source could not be asked whether its digest is still the same.
    Unverified {
        /// Digest in ECR.
        digest: Digest,
        /// The failure of the source.
        failure: Failure,
    },
    /// In ECR. The source has replaced it since, and the spec says to keep it.
    Kept {
        /// Digest in ECR.
        digest: Digest,
        /// The content of the source instead.
        failure: Failure,
    },
    /// In ECR's archive because of a lifecycle rule. It cannot be pulled from there.
    Archived {
        /// Digest in the archive.
        digest: Digest,
        /// The consequence.
        failure: Failure,
    },
    /// Not in ECR, or not with the source's digest.
    Failed(Failure),
    /// A dry run would copy it.
    Planned,
}

impl DesiredArtifact {
    /// An artifact about which nothing is known yet.
    pub(super) fn new(kind: ArtifactKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            original: None,
            passed_over: None,
            original_origin: None,
            source: Source::Unknown,
            keep: false,
            tags: BTreeMap::new(),
            listing: None,
            selected: None,
            offered: None,
            memory: None,
        }
    }

    /// The artifact with the same failure for all its listed tags and for its selector, if it has
    /// one.
    pub(super) fn failed(
        self,
        listed: impl Iterator<Item = (Tag, Option<Digest>)>,
        has_selector: bool,
        failure: &Failure,
    ) -> Self {
        let wanted = |pin| WantedTag { pin, source: Err(failure.clone()) };
        Self {
            tags: listed.map(|(tag, pin)| (tag, wanted(pin))).collect(),
            listing: has_selector.then(|| failure.clone()),
            offered: Some(Err(failure.clone())),
            ..self
        }
    }

    /// The manifest that an earlier pass built from the archive of a version.
    pub(super) fn derived(&self, tag: &Tag) -> Option<Derived> {
        match &self.tags.get(tag)?.source {
            Ok(SourceTag { content: SourceContent::Archive { derived, .. }, .. }) => {
                derived.clone()
            }
            _ => None,
        }
    }

    /// Whether a mirror is read.
    pub(super) const fn is_mirrored(&self) -> bool {
        self.original.is_some() && self.passed_over.is_none()
    }

    /// The original repository, for content that the mirror did not give. It is asked by digest, so
    /// the content is the same.
    pub(super) fn fallback(&self) -> Option<&Origin> {
        let (Some(original), Source::Registry(mirror)) = (&self.original_origin, &self.source)
        else {
            return None;
        };

        // A smaller index is built from the same index in both places.
        let digests = self.tags.values().filter_map(WantedTag::manifest);
        for rebuilt in digests.filter_map(|digest| mirror.rebuilt(digest)) {
            original.remember(&rebuilt);
        }
        Some(original)
    }
}

impl WantedTag {
    /// The manifest in the source, if it is known and need not be built from an archive.
    pub(super) fn manifest(&self) -> Option<&Digest> {
        match &self.source {
            Ok(SourceTag { content: SourceContent::Manifest(digest), .. }) => Some(digest),
            _ => None,
        }
    }
}
