//! The desired state of a repository: the spec, the operator's defaults, and the sources' content.

use std::collections::BTreeMap;

use super::artifact::{ArtifactKind, DesiredArtifact, Source};
use super::defaults::Documents;
use crate::api::v1alpha1::{DriftPolicy, Policy};
use crate::ecr::Settings;
use crate::ecr::policy::{self, Kind, Wanted};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::selection;

/// The desired state of a repository, with digests.
#[derive(Debug, Default)]
pub(super) struct Desired {
    /// Name of the repository.
    pub(super) repository: String,
    /// Mutability, scanning, encryption.
    pub(super) settings: Settings,
    /// The lifecycle policy.
    pub(super) lifecycle: Wanted,
    /// The permission policy.
    pub(super) permission: Wanted,
    /// The spec's policies and resource tags, without defaults.
    pub(super) own: Own,
    /// Hash of the desired configuration, defaults included.
    pub(super) revision: String,
    /// Whether drift is corrected.
    pub(super) drift_policy: DriftPolicy,
    /// Policies of the spec that are not valid.
    pub(super) refused: Vec<Failure>,
    /// The operator's defaults. Which of them apply depends on the repository.
    pub(super) defaults: Documents,
    /// The resource tags to set. Other keys are left alone.
    pub(super) resource_tags: BTreeMap<String, String>,
    /// Whether wanted tags are restored from the archive.
    pub(super) restore: bool,
    /// Whether artifacts that refer to the images are copied.
    pub(super) referrers: bool,
    /// Whether tags that are no longer wanted are removed.
    pub(super) prunes: bool,
    /// The image and the chart, if they are wanted.
    pub(super) artifacts: Vec<DesiredArtifact>,
    /// Advice for a person: nothing is wrong.
    pub(super) warnings: Vec<String>,
}

/// The policies and resource tags of the spec itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) lifecycle: Wanted,
    pub(super) permission: Wanted,
    pub(super) resource_tags: BTreeMap<String, String>,
}

impl Desired {
    /// Returns the policies that the repository should have.
    pub(super) fn policies(&self) -> impl Iterator<Item = (Kind, &Policy)> {
        let policies = [(Kind::Lifecycle, &self.lifecycle), (Kind::Permission, &self.permission)];
        policies.into_iter().filter_map(|(kind, wanted)| match wanted {
            Wanted::Document(document) => Some((kind, document)),
            Wanted::Unmanaged | Wanted::None => None,
        })
    }

    /// Adds the content of the sources.
    pub(super) fn with(self, artifacts: Vec<DesiredArtifact>) -> Self {
        Self { warnings: warnings(&self.repository, &artifacts), artifacts, ..self }
    }
}

/// Returns a hash of the desired configuration, in 16 digits. It depends on the spec and the
/// defaults only, never on the content of ECR.
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

/// Warns about a mirror that failed, and about names that Helm will not find.
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
            "the repository's last segment is {last_segment}, but the chart's name is {}: \
             dependencies in Chart.yaml will not find the chart",
            entry.chart
        ));
    }

    if let Some(image) = of(ArtifactKind::Image) {
        let is_version =
            |tag: &Tag| selection::Version::parse(tag.as_str()).is_some_and(|v| v.is_strict());
        if let Some(tag) = image.tags.keys().find(|tag| is_version(tag)) {
            warnings.push(format!(
                "image tag {tag} is a version, and the repository also has a chart: Helm may take \
                 the image for the chart if it gets a version range or no version"
            ));
        }
    }
    warnings
}
