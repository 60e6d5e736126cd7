//! The image and the chart: the tags that are wanted of them, where they come from, and how they
//! stand.

use std::collections::BTreeMap;

use super::origin::Origin;
use crate::failure::Failure;
use crate::helm;
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
pub struct DesiredArtifact {
    /// Image or chart.
    pub kind: ArtifactKind,
    /// Where it is read from, for people: `docker.io/library/nginx`.
    pub name: String,
    /// Its own place, where it is read from a mirror.
    pub original: Option<String>,
    /// Why its mirror is not read after all.
    pub passed_over: Option<String>,
    /// Its own place, for what the mirror has not, if that may be read.
    pub(super) own: Option<Origin>,
    /// Where it is read from.
    pub source: Source,
    /// What is in ECR stays when the source replaced it.
    pub keep: bool,
    /// The wanted tags in the target.
    pub tags: BTreeMap<Tag, WantedTag>,
    /// Why the source's tags could not be listed: then the selected ones are not known.
    pub listing: Option<Failure>,
    /// How many tags the selector finds, if there is one and the list could be read.
    pub(super) selected: Option<usize>,
    /// All that the source lists, where pruning needs to know it.
    pub(super) offered: Option<Result<Offered, Failure>>,
}

/// Tags that a source lists; of a chart repository with their entries in the index.
pub(super) type Offered = BTreeMap<Tag, Option<helm::Entry>>;

/// Where an artifact is read from.
#[derive(Debug)]
pub enum Source {
    /// An OCI registry: copied as it is.
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
    /// It could not be found; every tag says why.
    Unknown,
}

/// A tag that the target shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTag {
    /// The only digest that it may have.
    pub pin: Option<Digest>,
    /// What the source has, or why it is not known.
    pub source: Result<SourceTag, Failure>,
}

/// A tag of the source and what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTag {
    /// For people: `docker.io/library/nginx:1.27`.
    pub label: String,
    /// What it points to.
    pub content: SourceContent,
}

/// What a tag of a source stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceContent {
    /// A manifest, which is copied as it is.
    Manifest(Digest),
    /// A chart archive, of which a manifest is made.
    Archive {
        /// The archive's digest, where the index has it.
        digest: Option<Digest>,
        /// What an earlier pass made of it.
        derived: Option<Derived>,
    },
}

/// What was made of a chart archive: known, it need not be downloaded again to see that nothing
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Digest of the archive.
    pub archive: Digest,
    /// Whether a provenance file is part of the manifest.
    pub provenance: bool,
    /// Digest of the manifest.
    pub manifest: Digest,
}

/// How one wanted tag stands at the end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagState {
    /// In ECR, with the source's digest.
    Synced(Digest),
    /// In ECR, but the source could not be asked whether it is still the same.
    Unverified {
        /// What ECR has.
        digest: Digest,
        /// Why the source could not be asked.
        failure: Failure,
    },
    /// In ECR; the source replaced it since, and it is kept as the spec says.
    Kept {
        /// What ECR has.
        digest: Digest,
        /// What the source has instead.
        failure: Failure,
    },
    /// In ECR's archive, from where it cannot be pulled, as a lifecycle rule wants it.
    Archived {
        /// What the archive has.
        digest: Digest,
        /// What that means.
        failure: Failure,
    },
    /// Not in ECR, or with another digest than the source's.
    Failed(Failure),
    /// A dry run would copy it.
    Planned,
}

impl DesiredArtifact {
    /// An artifact of which nothing is known yet.
    pub(super) fn new(kind: ArtifactKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            original: None,
            passed_over: None,
            own: None,
            source: Source::Unknown,
            keep: false,
            tags: BTreeMap::new(),
            listing: None,
            selected: None,
            offered: None,
        }
    }

    /// What an earlier pass made of the archive of a version.
    pub(super) fn derived(&self, tag: &Tag) -> Option<Derived> {
        match &self.tags.get(tag)?.source {
            Ok(SourceTag { content: SourceContent::Archive { derived, .. }, .. }) => {
                derived.clone()
            }
            _ => None,
        }
    }
}

impl DesiredArtifact {
    /// Whether it is read from its mirror.
    pub(in crate::sync) const fn is_mirrored(&self) -> bool {
        self.original.is_some() && self.passed_over.is_none()
    }

    /// Where to read what could not be copied from the mirror; it is asked for by digest, so that
    /// it is the same there.
    pub(in crate::sync) fn elsewhere(&self) -> Option<&Origin> {
        let (Some(own), Source::Registry(mirror)) = (&self.own, &self.source) else { return None };
        let digests = self.tags.values().filter_map(WantedTag::manifest);
        // What is made of an index is made of the same one there.
        digests
            .filter_map(|digest| mirror.rebuilt(digest))
            .for_each(|rebuilt| own.remember(&rebuilt));
        Some(own)
    }
}

impl WantedTag {
    /// The manifest that the source has, where it is known and not yet to be made of an archive.
    pub(super) fn manifest(&self) -> Option<&Digest> {
        match &self.source {
            Ok(SourceTag { content: SourceContent::Manifest(digest), .. }) => Some(digest),
            _ => None,
        }
    }
}
