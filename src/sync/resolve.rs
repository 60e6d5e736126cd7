//! spec -> [`Desired`]: what is wanted now, with what the sources have now.

mod chart;
mod image;
mod mirrored;

use std::collections::BTreeMap;

use super::defaults::Documents;
use super::origin::Ask;
use super::prune::prunes;
use super::target::{Seen, Target};
use super::{Engine, Failure, Job, Mode, Origin};
use crate::api::v1alpha1::{
    ArchivedImages, DriftPolicy, EcrRepositorySyncSpec, ImageTagMutability, Policy, Referrers,
};
use crate::ecr::policy::{self, Kind, Wanted};
use crate::ecr::{Encryption, Mutability, Settings};
use crate::helm;
use crate::registry::{Digest, Tag};
use crate::selection::{self, Pin, tag_of};
use crate::spec::validation;

pub use mirrored::Mirrored;

/// Tags of one source that are asked for at the same time; its host has its own limit for all
/// passes together.
const CONCURRENT_TAGS: usize = 32;

/// What a spec wants, checked and with digests.
#[derive(Debug, Default)]
pub struct Desired {
    /// Name of the repository.
    pub repository: String,
    /// Mutability, scanning, encryption.
    pub settings: Settings,
    /// The lifecycle policy.
    pub lifecycle: Wanted,
    /// The permission policy.
    pub permission: Wanted,
    /// The spec's policies and resource tags, without defaults.
    pub(super) own: Own,
    /// The hash of all that is wanted of the configuration, defaults included.
    pub revision: String,
    /// Whether what others change is put right.
    pub drift_policy: DriftPolicy,
    /// Policies of the spec that are no policies.
    pub refused: Vec<Failure>,
    /// What is wanted besides, depending on whose repository it is.
    pub defaults: Documents,
    /// Resource tags to hold; others are not ours.
    pub resource_tags: BTreeMap<String, String>,
    /// Whether wanted tags in the archive are brought back.
    pub restore: bool,
    /// Whether what refers to the images is wanted too.
    pub referrers: bool,
    /// Whether tags that are no longer wanted are to be removed.
    pub prunes: bool,
    /// The image and the chart, as far as they are wanted.
    pub artifacts: Vec<DesiredArtifact>,
    /// What a person should know, although nothing is wrong.
    pub warnings: Vec<String>,
}

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

impl WantedTag {
    /// The manifest that the source has, where it is known and not yet to be made of an archive.
    pub(super) fn manifest(&self) -> Option<&Digest> {
        match &self.source {
            Ok(SourceTag { content: SourceContent::Manifest(digest), .. }) => Some(digest),
            _ => None,
        }
    }
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

/// Checks the spec, before anything is asked of anybody.
///
/// # Errors
/// A spec that cannot be carried out.
pub(super) fn check(job: &Job) -> Result<(), Failure> {
    let violations = validation::validate(&job.name, &job.spec);
    if violations.is_empty() { Ok(()) } else { Err(Failure::invalid(&violations)) }
}

impl Engine {
    /// What a spec wants of the repository itself: no artifacts yet.
    pub(super) fn desired(&self, job: &Job) -> Desired {
        let spec = &job.spec;
        // A document that is wrong costs itself only: what is in ECR in its place stays, and all
        // else is done.
        let mut refused = Vec::new();
        let mut read = |kind, policy| match Wanted::read(kind, policy) {
            Ok(wanted) => wanted,
            Err(violations) => {
                refused.push(Failure::invalid(&violations));
                Wanted::Unmanaged
            }
        };
        let lifecycle = read(Kind::Lifecycle, spec.lifecycle_policy.as_ref());
        let permission = read(Kind::Permission, spec.permission_policy.as_ref());
        let (settings, defaults) = (settings(spec), self.defaults.current().for_spec(spec));
        let resource_tags = spec.resource_tags.clone().unwrap_or_default();
        let own = Own { lifecycle, permission, resource_tags };
        let revision = revision(&settings, &own, &defaults);
        Desired {
            repository: job.repository_name().to_owned(),
            settings,
            refused,
            revision,
            drift_policy: spec.drift_policy,
            defaults,
            lifecycle: own.lifecycle.clone(),
            permission: own.permission.clone(),
            resource_tags: own.resource_tags.clone(),
            own,
            restore: spec.archived_images == ArchivedImages::Restore,
            referrers: spec.image.as_ref().is_some_and(|image| image.referrers == Referrers::All),
            prunes: spec.pruning().is_some(),
            artifacts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Asks the sources for each wanted tag: for the manifest where `target` lacks the tag and it
    /// will be copied, for the digest alone elsewhere.
    ///
    /// # Errors
    /// When ECR cannot be asked, or more is wanted than is allowed. A tag that cannot be read is
    /// not an error here: it is in the result.
    pub(super) async fn artifacts(
        &self,
        job: &Job,
        target: &Target<'_>,
        mode: Mode,
    ) -> Result<Vec<DesiredArtifact>, Failure> {
        let spec = &job.spec;
        let looking = Looking { job, target, mode, lists: prunes(job, mode) };
        let image = async {
            match &spec.image {
                Some(image) => self.resolve_image(&looking, image).await.map(Some),
                None => Ok(None),
            }
        };
        let chart = async {
            match &spec.chart {
                Some(chart) => self.resolve_chart(&looking, chart).await.map(Some),
                None => Ok(None),
            }
        };
        let (image, chart) = tokio::try_join!(image, chart)?;
        Ok(image.into_iter().chain(chart).collect())
    }
}

impl Desired {
    /// With what the sources have.
    pub(super) fn with(self, job: &Job, artifacts: Vec<DesiredArtifact>) -> Self {
        Self { warnings: warnings(job, &artifacts), artifacts, ..self }
    }
}

/// What a spec itself says.
#[derive(Debug, Default)]
pub(super) struct Own {
    lifecycle: Wanted,
    permission: Wanted,
    resource_tags: BTreeMap<String, String>,
}

/// What a repository has of that which there are defaults for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has<'a> {
    /// We created it.
    pub(super) is_ours: bool,
    pub(super) lifecycle: bool,
    pub(super) permission: bool,
    pub(super) resource_tags: &'a BTreeMap<String, String>,
}

impl Desired {
    /// Makes the defaults part of what is wanted. A repository of our making, or one that is yet to
    /// be made, gets all of them; one that was there before only what it has not: what it has,
    /// somebody wrote.
    pub(super) fn take_defaults(&mut self, there: Option<Has<'_>>) {
        let theirs = there.filter(|there| !there.is_ours);
        let given = |default: &Option<Policy>, own: &Wanted, has: fn(Has<'_>) -> bool| match default
        {
            Some(policy) if theirs.is_none_or(|there| !has(there)) => {
                Wanted::Document(policy.clone())
            }
            _ => own.clone(),
        };
        self.lifecycle =
            given(&self.defaults.lifecycle, &self.own.lifecycle, |there| there.lifecycle);
        self.permission =
            given(&self.defaults.permission, &self.own.permission, |there| there.permission);
        let is_missing =
            |key: &String| theirs.is_none_or(|there| !there.resource_tags.contains_key(key));
        let missing = self.defaults.resource_tags.iter().filter(|(key, _)| is_missing(key));
        self.resource_tags.clone_from(&self.own.resource_tags);
        self.resource_tags.extend(missing.map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// The configuration in sixteen digits. Of all that is wanted, whatever is there: it changes when
/// somebody changes the spec or a default, and never by what happens in ECR.
fn revision(settings: &Settings, own: &Own, defaults: &Documents) -> String {
    let policy = |kind, wanted: &Wanted| match wanted {
        Wanted::Unmanaged => "unmanaged".to_owned(),
        Wanted::None => "none".to_owned(),
        Wanted::Document(document) => policy::canonical_text(kind, document),
    };
    let default = |kind, policy: &Option<Policy>| {
        policy.as_ref().map(|policy| policy::canonical_text(kind, policy))
    };
    let text = serde_json::json!([
        settings.mutability.as_ref().map(ToString::to_string),
        settings.scan_on_push,
        settings.encryption.as_ref().map(ToString::to_string),
        policy(Kind::Lifecycle, &own.lifecycle),
        policy(Kind::Permission, &own.permission),
        own.resource_tags,
        default(Kind::Lifecycle, &defaults.lifecycle),
        default(Kind::Permission, &defaults.permission),
        defaults.resource_tags,
    ]);
    Digest::sha256_of(text.to_string().as_bytes()).hex().chars().take(16).collect()
}

/// What the sources are asked for in one pass, and on account of what.
struct Looking<'a> {
    job: &'a Job,
    target: &'a Target<'a>,
    mode: Mode,
    /// All tags of the sources are asked for, whatever is selected.
    lists: bool,
}

impl Looking<'_> {
    /// What ECR has of the tags of an artifact. Those that the spec lists for the other one are
    /// asked for along with them, since batches are paid for, not tags.
    async fn seen(&self, tags: impl Iterator<Item = &Tag>) -> Result<Seen, Failure> {
        let spec = &self.job.spec;
        let image = spec
            .image
            .iter()
            .flat_map(|image| &image.tags)
            .map(|tag| Pin::parse(tag).tag.to_owned());
        let chart = spec
            .chart
            .iter()
            .flat_map(|chart| &chart.tags)
            .map(|version| tag_of(version).to_string());
        let listed = image.chain(chart).filter_map(|tag| tag.parse().ok());
        self.target.foreseen(&tags.cloned().chain(listed).collect()).await
    }

    /// How to ask the source for a tag.
    fn ask(&self, seen: &Seen, tag: &Tag) -> Ask {
        // A dry run copies nothing, and neither is a tag copied that was given up: some sources
        // count a GET as a pull.
        let given_up = || {
            self.job
                .before
                .vanished
                .get(tag)
                .is_some_and(|vanished| vanished.verdict(tag).is_some())
        };
        if self.mode == Mode::Apply && seen.lacks(tag) && !given_up() {
            Ask::Whole
        } else {
            Ask::Digest
        }
    }
}

fn settings(spec: &EcrRepositorySyncSpec) -> Settings {
    let filters = || spec.image_tag_mutability_exclusion_filters.clone();
    Settings {
        mutability: spec.image_tag_mutability.map(|mutability| match mutability {
            ImageTagMutability::Mutable => Mutability::Mutable,
            ImageTagMutability::Immutable => Mutability::Immutable,
            ImageTagMutability::MutableWithExclusion => Mutability::MutableExcept(filters()),
            ImageTagMutability::ImmutableWithExclusion => Mutability::ImmutableExcept(filters()),
        }),
        scan_on_push: spec.scan_on_push,
        encryption: spec.encryption.as_ref().map(|wanted| Encryption {
            kind: wanted.type_.as_str().to_owned(),
            key: wanted.kms_key.clone(),
        }),
    }
}

/// A mirror that was passed over, and what Helm will stumble over.
fn warnings(job: &Job, artifacts: &[DesiredArtifact]) -> Vec<String> {
    let mut warnings: Vec<_> =
        artifacts.iter().filter_map(|artifact| artifact.passed_over.clone()).collect();
    let of = |kind| artifacts.iter().find(move |artifact| artifact.kind == kind);
    let Some(chart) = of(ArtifactKind::Chart) else { return warnings };
    let last_segment = job.repository_name().rsplit('/').next().unwrap_or_default();
    if let Source::Charts { entries, .. } = &chart.source
        && let Some(entry) = entries.values().next()
        && entry.chart != last_segment
    {
        warnings.push(format!(
            "the repository's last segment is {last_segment}, the chart's name is {}: dependencies in Chart.yaml will not find it",
            entry.chart
        ));
    }
    if let Some(image) = of(ArtifactKind::Image) {
        let versions = image
            .tags
            .keys()
            .filter(|tag| selection::Version::parse(tag.as_str()).is_some_and(|v| v.is_strict()));
        if let Some(tag) = versions.map(Tag::as_str).next() {
            warnings.push(format!(
                "image tag {tag} is a strict version beside a chart: Helm may take it for the chart when no version, or a range, is asked for"
            ));
        }
    }
    warnings
}
