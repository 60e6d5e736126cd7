//! The container image and its tags.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::spec::LocalReference;

/// Origin of the content of the tags in ECR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TagStrategy {
    /// Each tag is copied from the source's tag of the same name.
    #[default]
    Mirror,
    /// The tag in pullUrl is pushed as every tag in `tags`.
    Retag,
}

/// Order that decides which tags are newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SortBy {
    /// By version; tags that are not versions are dropped.
    #[default]
    Semver,
    /// By number; tags that are not numbers are dropped.
    Numeric,
    /// By text.
    Alphabetical,
}

/// A rule that selects tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagSelector {
    /// Number of newest tags to select; 0 selects all that match.
    #[schemars(range(min = 0, max = 10000))]
    pub latest: i64,

    /// Version constraint in the syntax of Helm and Flux: `>=1.25 <2`, `~1.27`, `1.x || 2.x`.
    /// Pre-releases are selected only if the constraint names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub semver: Option<String>,

    /// Regular expressions (RE2); a tag must match at least one. Default: all tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::patterns")]
    pub include: Vec<String>,

    /// Regular expressions (RE2); a tag must match none, for example `-rc` or `[.]sig$`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::patterns")]
    pub exclude: Vec<String>,

    /// Order that decides which tags are newest: Semver, Numeric or Alphabetical.
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
    /// Reference of the image in its source: `docker.io/library/nginx`, or with a tag
    /// `docker.io/library/nginx:1.27`. Without `tags` and `tagSelector`, that tag is copied.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.contains('://')")
            .message("image.pullUrl is an image reference without a scheme: write \
                      docker.io/library/nginx, not https://docker.io/library/nginx"),
        validation = Rule::new("!self.contains('@')")
            .message("image.pullUrl may not carry a digest: write repository or repository:tag"),
        validation = Rule::new("self.matches('^[^\\\\s]+$') && !self.endsWith('/') && \
                                !self.endsWith(':')")
            .message("image.pullUrl is not an image reference: write for example \
                      docker.io/library/nginx or docker.io/library/nginx:1.27")
    )]
    pub pull_url: String,

    /// Tags to keep in ECR. A tag may be pinned to a digest: `1.26@sha256:…`; then no other content
    /// is ever copied under it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tags")]
    pub tags: Vec<String>,

    /// Rule that selects more tags to keep in ECR, among all tags of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_selector: Option<TagSelector>,

    /// Origin of the content. Mirror: each tag is copied from the source's tag of the same name.
    /// Retag: the tag in pullUrl is pushed as every tag in `tags`.
    #[serde(default)]
    pub tag_strategy: TagStrategy,

    /// Platforms to copy, for example `linux/amd64`, `linux/arm/v7` or `windows/amd64:10.0.20348`.
    /// Default: all. If an index has more platforms, a smaller index is built from it; its digest
    /// differs from the source's, and status.derived has both. An image that is not an index is
    /// copied unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::platforms")]
    pub platforms: Vec<String>,

    /// Checks of tags that are in ECR already. Always: every pass asks the source whether the tag
    /// has moved. IfNotPresent: the tag is left as it is, and the source is not asked.
    #[serde(default)]
    pub check_policy: CheckPolicy,

    /// Copies of signatures, attestations and other artifacts that refer to the wanted images.
    /// None: copy none. All: copy those that the source lists (referrers API, and cosign's
    /// `sha256-….sig` tags). Their failures are shown in status.image.referrers and do not fail the
    /// image.
    #[serde(default)]
    pub referrers: Referrers,

    /// Secret of type kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth in the same
    /// namespace, with the login for the source registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with certificates for the source registry: `ca.crt` (additional
    /// certificate authorities), `tls.crt` and `tls.key` (client certificate).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with the proxy for the source registry: `address`, and
    /// `username` and `password` if the proxy requires them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,

    /// Reads the source over plain HTTP. Only for registries in a trusted network.
    #[serde(default)]
    pub insecure: bool,
}

/// Checks of tags that are in ECR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckPolicy {
    /// At every pass.
    #[default]
    Always,
    /// Never.
    IfNotPresent,
}

/// Artifacts that refer to an image and are copied with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Referrers {
    /// None.
    #[default]
    None,
    /// All that the source lists.
    All,
}
