//! The container image that a user wants, and its tags.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::spec::LocalReference;

/// How the tags of the target get their content.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TagStrategy {
    /// Each tag is copied from the same tag of the source.
    #[default]
    Mirror,
    /// The tag in pullUrl is pushed as every tag in `tags`.
    Retag,
}

/// What "newest" means.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum SortBy {
    /// Versions; a tag that is no version is dropped.
    #[default]
    Semver,
    /// Numbers; a tag that is no number is dropped.
    Numeric,
    /// Text.
    Alphabetical,
}

/// A rule that selects tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagSelector {
    /// How many of the newest tags; 0 is all that match.
    #[schemars(range(min = 0, max = 10000))]
    pub latest: i64,

    /// A version constraint as Helm and Flux write it: `>=1.25 <2`, `~1.27`, `1.x || 2.x`.
    /// Pre-releases only where the constraint names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub semver: Option<String>,

    /// Regular expressions (RE2), one of which must match. Default: every tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::patterns")]
    pub include: Vec<String>,

    /// Regular expressions (RE2), none of which may match, for example `-rc` or `[.]sig$`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::patterns")]
    pub exclude: Vec<String>,

    /// What "newest" means: Semver, Numeric or Alphabetical.
    #[serde(default)]
    pub sort_by: SortBy,
}

/// A container image with its tags.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = schema::image_has_a_tag(),
    validation = schema::retag_needs_both()
)]
pub struct Image {
    /// Where the image is pulled from: `docker.io/library/nginx`, or with a tag
    /// `docker.io/library/nginx:1.27`, which is the wanted tag when `tags` is empty.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.contains('://')")
            .message("image.pullUrl is an image reference without a scheme: write docker.io/library/nginx, not https://docker.io/library/nginx"),
        validation = Rule::new("!self.contains('@')")
            .message("image.pullUrl may not carry a digest: write repository or repository:tag"),
        validation = Rule::new("self.matches('^[^\\\\s]+$') && !self.endsWith('/') && !self.endsWith(':')")
            .message("image.pullUrl is not an image reference: write for example docker.io/library/nginx or docker.io/library/nginx:1.27")
    )]
    pub pull_url: String,

    /// Tags to keep in ECR. A tag may be pinned to a digest: `1.26@sha256:…`; then nothing else is
    /// ever copied under it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tags")]
    pub tags: Vec<String>,

    /// Tags to keep in ECR besides `tags`, by a rule over all tags of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_selector: Option<TagSelector>,

    /// Mirror: each tag from the source's same tag. Retag: pullUrl's tag is pushed as every tag in
    /// `tags`.
    #[serde(default)]
    pub tag_strategy: TagStrategy,

    /// Platforms to copy, for example `linux/amd64`, `linux/arm/v7` or `windows/amd64:10.0.20348`;
    /// without any, all. Of an index with others besides, a smaller one is made: it has another
    /// digest than the source's, and status.derived has both. An image that is no index is copied
    /// as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::platforms")]
    pub platforms: Vec<String>,

    /// Always: every pass asks the source whether a tag has moved. IfNotPresent: a tag that is in
    /// ECR is taken as it is, and the source is not asked.
    #[serde(default)]
    pub check_policy: CheckPolicy,

    /// All: signatures, attestations and other artifacts that refer to the wanted images are copied
    /// too, as far as the source gives them (referrers, and cosign's `sha256-….sig` tags). What
    /// goes wrong with them is told in status.image.referrers and is no failure of the image.
    #[serde(default)]
    pub referrers: Referrers,

    /// Secret of type kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth in the same
    /// namespace, with the credential for the source registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with the certificates for the source registry: `ca.crt`
    /// (authorities to trust besides the usual ones), `tls.crt` and `tls.key` (a client
    /// certificate).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with a proxy for the source registry: `address`, and `username`
    /// and `password` where the proxy asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,

    /// Reads the source over plain HTTP. For registries inside a trusted network only.
    #[serde(default)]
    pub insecure: bool,
}

/// When the source is asked for a tag that is in ECR.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum CheckPolicy {
    /// At every pass.
    #[default]
    Always,
    /// Never.
    IfNotPresent,
}

/// Which artifacts that refer to an image are copied with it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Referrers {
    /// None.
    #[default]
    None,
    /// All that the source gives.
    All,
}
