//! What the operator reports. Losing it costs requests, never correctness.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Condition types.
pub mod condition {
    /// Everything that the spec wants is in ECR.
    pub const READY: &str = "Ready";
    /// Work is under way or will be retried (present only while true).
    pub const RECONCILING: &str = "Reconciling";
    /// A person must act (present only while true).
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

/// What the operator found and did, as of its last pass.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrRepositorySyncStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The last value of the annotation ecr-sync.io/requestedAt or reconcile.fluxcd.io/requestedAt
    /// that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// The repository in ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatus>,

    /// The image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ArtifactStatus>,

    /// The chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ArtifactStatus>,

    /// What was made of chart archives, and of indexes of which only some platforms are wanted, at
    /// most a hundred: known, they need not be read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedTag>,

    /// Wanted tags that were in ECR and vanished from it, most likely by a lifecycle rule; at most
    /// twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<ExpiredTag>,

    /// Keys of resource tags that were set by the operator: it removes them when they leave the
    /// spec, and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_tag_keys: Vec<String>,

    /// Sixteen digits of the hash of the settings, policies and resource tags that were last
    /// brought into place: what differs from them since was changed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,

    /// In a dry run: what would be done, at most twenty lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,

    /// The last changes that were made in ECR, newest first, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,

    /// Ready, Reconciling, Stalled, RepositoryReady, ConfigurationSynced, ImageSynced, ChartSynced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Whether the repository was made by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Ownership {
    /// The operator created it.
    Created,
    /// It was there before.
    Adopted,
}

/// The repository as ECR names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What to write in a pod's `image:`, without a tag.
    pub uri: String,
    /// The account.
    pub registry_id: String,
    /// The region.
    pub region: String,
    /// Whether the operator created it.
    pub ownership: Ownership,
}

/// How far one artifact is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Where it is read from: its own place, or a mirror of the operator's.
    pub source: String,
    /// Its own place, where `source` is a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// `synced/desired`.
    pub summary: String,
    /// Wanted tags.
    pub desired: i64,
    /// Wanted tags that are in ECR with the source's digest.
    pub synced: i64,
    /// Wanted tags that failed.
    pub failed: i64,
    /// Wanted tags that are in ECR's archive and cannot be pulled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub archived: i64,
    /// Digest over all synced tags and their digests: the same revision is the same content.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Signatures and other artifacts that refer to the synced tags, where `referrers` wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<ReferrersStatus>,
    /// Some of the synced tags, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<SyncedTag>,
    /// Some of the failures, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TagFailure>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How far the artifacts are that refer to images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersStatus {
    /// How many the source has.
    pub found: i64,
    /// How many could not be found or copied.
    pub failed: i64,
    /// What went wrong first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A pass that changed something in ECR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryEntry {
    /// When it ended.
    pub time: Time,
    /// The generation of the spec that it worked on.
    pub generation: i64,
    /// What it did.
    pub changes: String,
}

/// A chart archive, or an index, and the manifest that was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DerivedTag {
    /// The tag in ECR.
    pub tag: String,
    /// Digest of the archive, with `+provenance` where the provenance file is part of the manifest;
    /// or digest of the index in the source, with `+` and the wanted platforms.
    pub source: String,
    /// Digest of the manifest.
    pub target: String,
}

/// A wanted tag that was in ECR and vanished. Copied again twice, it is left alone until the spec
/// or the policy changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExpiredTag {
    /// The tag.
    pub tag: String,
    /// What it pointed to; empty where that is not known before a copy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// How often it vanished.
    pub times: u32,
}

/// A tag and what it points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncedTag {
    /// The tag.
    pub tag: String,
    /// Digest of its manifest, the same in source and target.
    pub digest: String,
}

/// A tag that could not be synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TagFailure {
    /// The tag.
    pub tag: String,
    /// The kind of failure, one of the condition reasons.
    pub reason: String,
    /// What happened.
    pub message: String,
}
