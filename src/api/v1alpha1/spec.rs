//! What a user writes.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::chart::Chart;
use super::image::Image;
use super::schema;
use super::status::EcrRepositorySyncStatus;

/// A lifecycle or permission policy: a JSON document as AWS documents it, kept as written.
pub type Policy = serde_json::Map<String, serde_json::Value>;

/// Desired state of one ECR repository: its settings, and the container image and Helm chart that
/// are copied into it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-sync.io",
    version = "v1alpha1",
    kind = "EcrRepositorySync",
    plural = "ecrrepositorysyncs",
    singular = "ecrrepositorysync",
    shortname = "ers",
    shortname = "ecrsync",
    category = "ecr-sync",
    namespaced,
    status = "EcrRepositorySyncStatus",
    derive = "PartialEq",
    selectable = ".spec.repositoryName",
    doc = "EcrRepositorySync is one Amazon ECR repository: its settings and policies, and the container image and Helm chart that are copied into it from other registries.",
    printcolumn(name = "Repository", type_ = "string", json_path = ".status.repository.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.conditions[?(@.type=='Ready')].lastTransitionTime"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image.summary"),
    printcolumn(name = "Chart", type_ = "string", json_path = ".status.chart.summary"),
    printcolumn(name = "Changed", type_ = "date", json_path = ".status.history[0].time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The first condition that is False: Ready's own message, or what is reported beside it
    // (drift). Ready stands first.
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.conditions[?(@.status=='False')].message"),
    printcolumn(name = "URI", type_ = "string", json_path = ".status.repository.uri", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = schema::name_grammar(),
    validation = schema::name_length(),
    validation = schema::name_is_immutable(),
    validation = schema::tags_and_versions_are_disjoint(),
    validation = schema::filters_go_with_exclusion()
)]
#[serde(rename_all = "camelCase")]
pub struct EcrRepositorySyncSpec {
    /// Name of the ECR repository, for example `platform/nginx`. Default: metadata.name. Cannot be
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub repository_name: Option<String>,

    /// Which ECR registry. Default: the operator's own account and region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,

    /// The container image to copy. Without it only the repository and its settings are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// The Helm chart to copy, beside the image or alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,

    /// ECR lifecycle policy as AWS documents it. Absent: not managed. `{rules: []}`: removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::lifecycle_policy")]
    pub lifecycle_policy: Option<Policy>,

    /// ECR repository policy (who may pull and push) as AWS documents it. Absent: not managed.
    /// `{Statement: []}`: removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::permission_policy")]
    pub permission_policy: Option<Policy>,

    /// AWS resource tags of the repository. Only the keys named here are touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resource_tags")]
    pub resource_tags: Option<BTreeMap<String, String>>,

    /// What to do with a wanted tag that a lifecycle rule has archived, so that it cannot be
    /// pulled. Keep: leave it there and say so. Restore: bring it back.
    #[serde(default)]
    pub archived_images: ArchivedImages,

    /// Whether a tag of the repository may be moved to another image: Mutable, Immutable, or one of
    /// the two with exceptions (imageTagMutabilityExclusionFilters). Absent: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,

    /// With MutableWithExclusion or ImmutableWithExclusion: the tags for which the other is true,
    /// one to five patterns in which `*` stands for any characters, for example `latest` or `1.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exclusion_filters")]
    pub image_tag_mutability_exclusion_filters: Vec<String>,

    /// Whether images are scanned for vulnerabilities when they are pushed. Absent: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,

    /// How images are encrypted at rest. AWS takes it at creation only: a repository that has
    /// another encryption is reported and left as it is. Absent: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// What to do with a repository that exists already and that the operator does not keep yet.
    /// Never: refuse it. IfUnowned: keep it, unless it has another owner. Always: keep it, whoever
    /// owns it (needs the operator's --allow-takeover).
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// What happens to the repository when this resource is deleted. Retain: it stays. Delete: it
    /// is deleted, if it is empty and ours. ForceDelete: it is deleted with its images, if the
    /// operator created it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Removal of tags that are no longer wanted, as far as the source still has them. Absent: they
    /// stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,

    /// How often the source and the repository are checked, for example `30m` or `1h30m`; at least
    /// 1m.
    #[serde(default = "default_interval")]
    #[schemars(schema_with = "schema::interval")]
    pub interval: String,

    /// How often settings, policies and resource tags are read back, for example `6h`; at least 1m.
    /// Between, a pass only looks whether the wanted tags are in place.
    #[serde(default = "default_drift_interval")]
    #[schemars(schema_with = "schema::drift_interval")]
    pub drift_interval: String,

    /// What to do when somebody else changes a setting, a policy or a resource tag that the spec
    /// names. Correct: write what the spec says. Report: say so and leave it.
    #[serde(default)]
    pub drift_policy: DriftPolicy,

    /// The longest time that a pass may go without progress (bytes or finished steps) before it is
    /// given up, for example `30m`. A pass that progresses is not cut.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "schema::timeout")]
    pub timeout: String,

    /// Stops all work on this resource while true. Nothing is removed.
    #[serde(default)]
    pub suspend: bool,

    /// Writes nothing to ECR while true: status.plan shows what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl EcrRepositorySyncSpec {
    /// Under which bounds tags that are no longer wanted are removed; `None` where they stay.
    #[must_use]
    pub fn pruning(&self) -> Option<&Prune> {
        self.prune.as_ref().filter(|prune| prune.enabled)
    }

    /// Name of the ECR repository of a resource that is called `name`.
    #[must_use]
    pub fn repository<'a>(&'a self, name: &'a str) -> &'a str {
        self.repository_name.as_deref().unwrap_or(name)
    }
}

impl EcrRepositorySync {
    /// Name of the ECR repository.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.spec.repository(self.metadata.name.as_deref().unwrap_or_default())
    }
}

/// As the API server fills in an empty spec.
impl Default for EcrRepositorySyncSpec {
    fn default() -> Self {
        Self {
            repository_name: None,
            registry: None,
            image: None,
            chart: None,
            lifecycle_policy: None,
            permission_policy: None,
            resource_tags: None,
            archived_images: ArchivedImages::default(),
            adoption_policy: AdoptionPolicy::default(),
            deletion_policy: DeletionPolicy::default(),
            image_tag_mutability: None,
            image_tag_mutability_exclusion_filters: Vec::new(),
            scan_on_push: None,
            encryption: None,
            prune: None,
            interval: default_interval(),
            drift_interval: default_drift_interval(),
            drift_policy: DriftPolicy::default(),
            timeout: default_timeout(),
            suspend: false,
            dry_run: false,
        }
    }
}

fn default_interval() -> String {
    "1h".to_owned()
}

fn default_drift_interval() -> String {
    "6h".to_owned()
}

fn default_timeout() -> String {
    "30m".to_owned()
}

/// An ECR registry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.accountId) || !has(oldSelf.accountId) || self.accountId == oldSelf.accountId")
        .message("registry.accountId cannot be changed: create another EcrRepositorySync for the other account"),
    validation = Rule::new("!has(self.region) || !has(oldSelf.region) || self.region == oldSelf.region")
        .message("registry.region cannot be changed: create another EcrRepositorySync for the other region")
)]
pub struct Registry {
    /// AWS account id, twelve digits in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{12}$')")
        .message("registry.accountId is the 12 digits of an AWS account, in quotes, for example \"123456789012\""))]
    pub account_id: Option<String>,

    /// AWS region, for example `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]{2,}(-[a-z]+)+-[0-9]+$')")
        .message("registry.region is an AWS region, for example eu-west-1"))]
    pub region: Option<String>,

    /// IAM role that is assumed for everything done in ECR; without `accountId` its account is
    /// meant. The external id comes from the operator's roles file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]*[A-Za-z0-9+=,.@_-]$')")
        .message("registry.roleArn is the ARN of an IAM role, for example arn:aws:iam::123456789012:role/ecr-sync"))]
    pub role_arn: Option<String>,

    /// ServiceAccount of the same namespace whose IAM role (annotation
    /// `eks.amazonaws.com/role-arn`) is used instead of the operator's identity; with `roleArn`,
    /// that one is assumed from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("registry.serviceAccountName is the name of a ServiceAccount"))]
    pub service_account_name: Option<String>,
}

/// What to do with a repository that exists already.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum AdoptionPolicy {
    /// Refuse it.
    Never,
    /// Keep it, unless it has another owner.
    #[default]
    IfUnowned,
    /// Keep it, whoever owns it.
    Always,
}

/// What becomes of the repository of a deleted resource.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted if it is empty.
    Delete,
    /// It is deleted with all its images.
    ForceDelete,
}

/// What to do with wanted tags in the archive.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum ArchivedImages {
    /// Leave them there, and say so.
    #[default]
    Keep,
    /// Bring them back.
    Restore,
}

/// What to do when somebody else changes the configuration.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum DriftPolicy {
    /// Write what the spec says.
    #[default]
    Correct,
    /// Say so and leave it.
    Report,
}

/// Whether tags may be moved to another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ImageTagMutability {
    /// All tags may.
    Mutable,
    /// None may.
    Immutable,
    /// All may but those that a filter matches.
    MutableWithExclusion,
    /// None may but those that a filter matches.
    ImmutableWithExclusion,
}

/// Kinds of encryption at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum EncryptionType {
    /// With keys of Amazon S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of AWS KMS.
    #[serde(rename = "KMS")]
    Kms,
    /// Twice, with a key of AWS KMS.
    #[serde(rename = "KMS_DSSE")]
    KmsDsse,
}

impl EncryptionType {
    /// As AWS spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
            Self::KmsDsse => "KMS_DSSE",
        }
    }
}

/// Encryption at rest.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::key_goes_with_kms())]
pub struct Encryption {
    /// AES256, KMS or KMS_DSSE.
    #[serde(rename = "type")]
    pub type_: EncryptionType,

    /// The KMS key, as alias (`alias/ecr`), id or ARN. Default: the key that AWS keeps for ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key: Option<String>,
}

/// Removal of tags that neither image nor chart wants any more. Only what can be had again is
/// removed: tags that the source still lists, with what it would give for them now.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prune {
    /// Whether tags are removed: once per driftInterval, on demand, and by each run of the command
    /// line.
    #[serde(default)]
    pub enabled: bool,

    /// How much of the repository is removed at a time, in per cent of its tags, from 1 to 100; one
    /// tag at least. The rest follows the next time.
    #[serde(default = "default_max_percent")]
    #[schemars(schema_with = "schema::max_percent")]
    pub max_percent: i64,

    /// How long an image must not have been pushed or pulled before a tag of it is removed, for
    /// example `720h`; `0s` removes at once. ECR notes the day of a pull, no more.
    #[serde(default = "default_min_unpulled")]
    #[schemars(schema_with = "schema::min_unpulled")]
    pub min_unpulled: String,
}

/// As the API server fills in an empty one.
impl Default for Prune {
    fn default() -> Self {
        Self {
            enabled: false,
            max_percent: default_max_percent(),
            min_unpulled: default_min_unpulled(),
        }
    }
}

const fn default_max_percent() -> i64 {
    25
}

fn default_min_unpulled() -> String {
    "720h".to_owned()
}

/// The name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LocalReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
