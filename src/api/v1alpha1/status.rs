//! The status of an EcrRepositorySync. Losing it costs requests, never correctness.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition types.
pub mod condition {
    /// Everything in the spec is in ECR.
    pub const READY: &str = "Ready";
    /// Work is under way or will be retried (present only while true).
    pub const RECONCILING: &str = "Reconciling";
    /// A person has to act (present only while true).
    pub const STALLED: &str = "Stalled";
    /// The repository exists and is ours to manage.
    pub const REPOSITORY_READY: &str = "RepositoryReady";
    /// Settings, policies and resource tags are as written.
    pub const CONFIGURATION_SYNCED: &str = "ConfigurationSynced";
    /// Every wanted tag of the image is in ECR.
    pub const IMAGE_SYNCED: &str = "ImageSynced";
    /// Every wanted version of the chart is in ECR.
    pub const CHART_SYNCED: &str = "ChartSynced";
}

/// Results of the last pass.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrRepositorySyncStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Last value of the annotation ecr-sync.io/requestedAt or reconcile.fluxcd.io/requestedAt that
    /// was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// The repository in ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatus>,

    /// State of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ArtifactStatus>,

    /// State of the chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ArtifactStatus>,

    /// Cached results: the manifest built from each chart archive or platform-filtered index (at
    /// most 100), so that unchanged sources are not read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedTag>,

    /// Wanted tags that disappeared from ECR, most likely through a lifecycle rule (at most 20).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<ExpiredTag>,

    /// Keys of the resource tags that the operator set. Only these are removed from ECR when they
    /// are removed from the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_tag_keys: Vec<String>,

    /// Hash (16 digits) of the settings, policies and resource tags that were applied last. A later
    /// difference in ECR is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,

    /// The last drift check, while it is still true that ECR was as specified after it. With it,
    /// the first check after a restart of the operator needs no full comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_check: Option<DriftCheck>,

    /// In a dry run: the changes that would be made (at most 20 lines).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,

    /// Last changes in ECR, newest first (at most 5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,

    /// Ready, Reconciling, Stalled, RepositoryReady, ConfigurationSynced, ImageSynced, ChartSynced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Whether the operator created the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ownership {
    /// The operator created the repository.
    Created,
    /// The repository existed before.
    Adopted,
}

/// The repository in ECR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Name of the repository.
    pub name: String,
    /// ARN of the repository.
    pub arn: String,
    /// Value for a pod's `image:`, without a tag.
    pub uri: String,
    /// AWS account.
    pub registry_id: String,
    /// AWS region.
    pub region: String,
    /// Created by the operator, or Adopted.
    pub ownership: Ownership,
}

/// State of an image or chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Source that is read: the one in the spec, or one of the operator's mirrors.
    pub source: String,
    /// Source in the spec, if `source` is a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// `synced/desired`.
    pub summary: String,
    /// Number of wanted tags.
    pub desired: i64,
    /// Number of wanted tags that are in ECR with the source's digest.
    pub synced: i64,
    /// Number of wanted tags that failed.
    pub failed: i64,
    /// Number of wanted tags that are in ECR's archive and cannot be pulled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub archived: i64,
    /// Digest of all synced tags and their digests. Equal revisions have equal content.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Signatures and other artifacts that refer to the synced tags, if `referrers` is All.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<ReferrersStatus>,
    /// Some of the synced tags (at most 10).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<SyncedTag>,
    /// Some of the failures (at most 10).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TagFailure>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// State of the artifacts that refer to images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersStatus {
    /// Number of artifacts in the source.
    pub found: i64,
    /// Number of artifacts that could not be read or copied.
    pub failed: i64,
    /// The first failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A comparison of settings, policies and resource tags with ECR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftCheck {
    /// End of the check. If nothing else changes, it is written once per driftInterval.
    pub time: Time,
    /// Hash (16 digits) of the options of the operator on which the check depends.
    pub basis: String,
}

/// A pass that changed something in ECR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// End of the pass.
    pub time: Time,
    /// Generation of the spec.
    pub generation: i64,
    /// Changes in ECR.
    pub changes: String,
}

/// A chart archive or an index, and the manifest built from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DerivedTag {
    /// Tag in ECR.
    pub tag: String,
    /// Digest of the archive, with `+provenance` if the manifest includes the provenance file; or
    /// digest of the index in the source, with `+` and the wanted platforms.
    pub source: String,
    /// Digest of the manifest.
    pub target: String,
}

/// A wanted tag that disappeared from ECR. After two more copies, it is left alone until the spec
/// or the policy changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpiredTag {
    /// The tag.
    pub tag: String,
    /// Digest of the tag's manifest; empty if it is not known before a copy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Number of times that the tag disappeared.
    pub times: u32,
}

/// A tag and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncedTag {
    /// The tag.
    pub tag: String,
    /// Digest of the manifest, the same in source and ECR.
    pub digest: String,
}

/// A tag that could not be synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagFailure {
    /// The tag.
    pub tag: String,
    /// Kind of failure: one of the condition reasons.
    pub reason: String,
    /// Description of the failure.
    pub message: String,
}
