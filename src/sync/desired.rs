//! What a spec wants of a repository, checked, and with what the sources have now.

use std::collections::BTreeMap;

use super::artifact::{ArtifactKind, DesiredArtifact, Source};
use super::defaults::Documents;
use crate::api::v1alpha1::{DriftPolicy, Policy};
use crate::ecr::Settings;
use crate::ecr::policy::{self, Kind, Wanted};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::selection;

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

/// What a spec itself says.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) lifecycle: Wanted,
    pub(super) permission: Wanted,
    pub(super) resource_tags: BTreeMap<String, String>,
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
    /// With what the sources have.
    pub(super) fn with(self, artifacts: Vec<DesiredArtifact>) -> Self {
        Self { warnings: warnings(&self.repository, &artifacts), artifacts, ..self }
    }
}

impl Desired {
    /// Makes the defaults part of what is wanted. A repository of our making, or one that is yet to
    /// be made, gets all of them; one that was there before only what it has not: what it has,
    /// somebody wrote.
    pub(super) fn given(mut self, there: Option<Has<'_>>) -> Self {
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
        self
    }
}

/// The configuration in sixteen digits. Of all that is wanted, whatever is there: it changes when
/// somebody changes the spec or a default, and never by what happens in ECR.
pub(super) fn revision(settings: &Settings, own: &Own, defaults: &Documents) -> String {
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

/// A mirror that was passed over, and what Helm will stumble over.
fn warnings(repository: &str, artifacts: &[DesiredArtifact]) -> Vec<String> {
    let mut warnings: Vec<_> =
        artifacts.iter().filter_map(|artifact| artifact.passed_over.clone()).collect();
    let of = |kind| artifacts.iter().find(move |artifact| artifact.kind == kind);
    let Some(chart) = of(ArtifactKind::Chart) else { return warnings };
    let last_segment = repository.rsplit('/').next().unwrap_or_default();
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
