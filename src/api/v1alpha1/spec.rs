//! The spec of an EcrRepositorySync.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
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
    doc = "EcrRepositorySync is one Amazon ECR repository: its settings and policies, and the \
           container image and Helm chart that are copied into it from other registries.",
    printcolumn(name = "Repository", type_ = "string", json_path = ".status.repository.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.conditions[?(@.type=='Ready')].lastTransitionTime"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    // Read from the spec: true at once, also without an operator.
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image.summary"),
    printcolumn(name = "Chart", type_ = "string", json_path = ".status.chart.summary"),
    printcolumn(name = "Changed", type_ = "date", json_path = ".status.history[0].time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The first condition that is not True: Ready's own message, or what is reported beside it
    // (drift, a source that cannot be read). Ready stands first.
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.conditions[?(@.status!='True')].message"),
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
#[serde(rename_all = "camelCase", default = "EcrRepositorySyncSpec::default")]
pub struct EcrRepositorySyncSpec {
    /// Name of the ECR repository, for example `platform/nginx`. Default: metadata.name. Cannot be
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub repository_name: Option<String>,

    /// ECR registry. Default: the operator's own account and region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,

    /// Container image to copy. Without image and chart, only the repository and its settings are
    /// managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// Helm chart to copy, alone or together with an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,

    /// ECR lifecycle policy, as documented by AWS. Absent: not managed. `{rules: []}`: removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::lifecycle_policy")]
    pub lifecycle_policy: Option<Policy>,

    /// ECR repository policy (who may pull and push), as documented by AWS. Absent: not managed.
    /// `{Statement: []}`: removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::permission_policy")]
    pub permission_policy: Option<Policy>,

    /// AWS resource tags of the repository. Other keys are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resource_tags")]
    pub resource_tags: Option<BTreeMap<String, String>>,

    /// Handling of wanted tags that a lifecycle rule has archived, so that they cannot be pulled.
    /// Keep: leave them in the archive and report them. Restore: restore them.
    pub archived_images: ArchivedImages,

    /// Whether tags may be moved to another image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,

    /// Exceptions for MutableWithExclusion and ImmutableWithExclusion: one to five patterns of
    /// tags, in which `*` matches any characters, for example `latest` or `1.*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exclusion_filters")]
    pub image_tag_mutability_exclusion_filters: Vec<String>,

    /// Whether images are scanned for vulnerabilities when they are pushed. Absent: not managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,

    /// Encryption of the images at rest. AWS sets it only when a repository is created: if an
    /// existing repository has a different encryption, that is reported and not changed. Absent:
    /// not managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Handling of an existing repository that the operator does not manage yet. Never: refuse it.
    /// IfUnowned: manage it if it has no owner and the operator allows its adoption (--adoption,
    /// tenants). Always: manage it, whoever owns it (requires the operator's --allow-takeover).
    pub adoption_policy: AdoptionPolicy,

    /// Handling of the repository when this resource is deleted. Retain: keep it. Delete: delete it
    /// if it is empty and owned by this resource. ForceDelete: delete it with its images if the
    /// operator created it.
    pub deletion_policy: DeletionPolicy,

    /// Removal of tags that are no longer wanted and that the source still has. Absent: such tags
    /// are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,

    /// Time between two checks of the source and the repository, for example `30m` or `1h30m`; at
    /// least 1m.
    #[schemars(schema_with = "schema::interval")]
    pub interval: String,

    /// Time between two checks of settings, policies and resource tags, for example `6h`; at least
    /// 1m. The passes in between only check that the wanted tags are in place.
    #[schemars(schema_with = "schema::drift_interval")]
    pub drift_interval: String,

    /// Handling of a setting, policy or resource tag of the spec that something else changed in
    /// ECR. Correct: write the value of the spec. Report: report the difference and leave it.
    pub drift_policy: DriftPolicy,

    /// Longest time that a pass may run without progress (bytes or finished steps) before it is
    /// stopped, for example `30m`. A pass that makes progress is never stopped.
    #[schemars(schema_with = "schema::timeout")]
    pub timeout: String,

    /// Stops all work on this resource while true. Nothing is removed.
    pub suspend: bool,

    /// Writes nothing to ECR while true. status.plan shows the changes that would be made.
    pub dry_run: bool,
}

impl EcrRepositorySyncSpec {
    /// Bounds of the removal of unwanted tags; `None` where they are kept.
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

/// The defaults of the API server for an empty spec.
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
            interval: "1h".to_owned(),
            drift_interval: "6h".to_owned(),
            drift_policy: DriftPolicy::default(),
            timeout: "30m".to_owned(),
            suspend: false,
            dry_run: false,
        }
    }
}

/// An ECR registry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.accountId) || !has(oldSelf.accountId) || \
                            self.accountId == oldSelf.accountId")
        .message("registry.accountId cannot be changed: create another EcrRepositorySync for the \
                  other account"),
    validation = Rule::new("!has(self.region) || !has(oldSelf.region) || \
                            self.region == oldSelf.region")
        .message("registry.region cannot be changed: create another EcrRepositorySync for the \
                  other region")
)]
pub struct Registry {
    /// AWS account ID: twelve digits, in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{12}$')")
        .message("registry.accountId is the 12 digits of an AWS account, in quotes, for example \
                  \"123456789012\""))]
    pub account_id: Option<String>,

    /// AWS region, for example `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]{2,}(-[a-z]+)+-[0-9]+$')")
        .message("registry.region is an AWS region, for example eu-west-1"))]
    pub region: Option<String>,

    /// IAM role that is assumed for all work in ECR. Without `accountId`, the account of the role
    /// is used. The external ID comes from the operator's roles file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/\
                                     [A-Za-z0-9+=,.@_/-]*[A-Za-z0-9+=,.@_-]$')")
        .message("registry.roleArn is the ARN of an IAM role, for example \
                  arn:aws:iam::123456789012:role/ecr-sync"))]
    pub role_arn: Option<String>,

    /// ServiceAccount in the same namespace whose IAM role (annotation
    /// `eks.amazonaws.com/role-arn`) replaces the operator's identity. With `roleArn`, that role is
    /// assumed from the role of the ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("registry.serviceAccountName is the name of a ServiceAccount"))]
    pub service_account_name: Option<String>,
}

/// Handling of an existing repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Refuse it.
    Never,
    /// Manage it if it has no owner, and the operator allows its adoption.
    #[default]
    IfUnowned,
    /// Manage it, whoever owns it.
    Always,
}

/// Handling of the repository of a deleted resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Keep it.
    #[default]
    Retain,
    /// Delete it if it is empty.
    Delete,
    /// Delete it with all its images.
    ForceDelete,
}

/// Handling of wanted tags in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArchivedImages {
    /// Leave them there and report them.
    #[default]
    Keep,
    /// Restore them.
    Restore,
}

/// Handling of configuration that something else changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// Write the value of the spec.
    #[default]
    Correct,
    /// Report the difference and leave it.
    Report,
}

/// Whether a tag may be moved to another image: Mutable, Immutable, or one of the two with
/// exceptions (imageTagMutabilityExclusionFilters). Absent: not managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageTagMutability {
    /// All tags may be moved.
    Mutable,
    /// No tag may be moved.
    Immutable,
    /// All tags may be moved, except those that a filter matches.
    MutableWithExclusion,
    /// No tag may be moved, except those that a filter matches.
    ImmutableWithExclusion,
}

/// Kinds of encryption at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[derive(strum::Display, strum::EnumString)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum EncryptionType {
    /// With keys of Amazon S3.
    Aes256,
    /// With a key of AWS KMS.
    Kms,
    /// Twice, with a key of AWS KMS.
    KmsDsse,
}

/// Encryption at rest.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::key_goes_with_kms())]
pub struct Encryption {
    /// AES256, KMS or KMS_DSSE.
    #[serde(rename = "type")]
    pub type_: EncryptionType,

    /// KMS key, as alias (`alias/ecr`), ID or ARN. Default: the key that AWS manages for ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key: Option<String>,
}

/// Removal of tags that neither image nor chart wants any more. A tag is removed only if it can be
/// copied again: the source still lists it, and a copy would give the same digest.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Prune::default")]
pub struct Prune {
    /// Whether tags are removed: once per driftInterval, when a full check is forced, and by each run
    /// of the command line.
    pub enabled: bool,

    /// Largest share of the repository's tags that one pass removes, in per cent, from 1 to 100; at
    /// least one tag. The rest follows in later passes.
    #[schemars(schema_with = "schema::max_percent")]
    pub max_percent: i64,

    /// Time since the last push or pull of an image after which its tags may be removed, for example
    /// `720h`; `0s`: at once. ECR records at least one pull per 24 hours, not every pull.
    #[schemars(schema_with = "schema::min_unpulled")]
    pub min_unpulled: String,
}

/// The defaults of the API server.
impl Default for Prune {
    fn default() -> Self {
        Self { enabled: false, max_percent: 25, min_unpulled: "720h".to_owned() }
    }
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
