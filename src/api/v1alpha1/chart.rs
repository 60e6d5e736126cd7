//! The Helm chart that a user wants, and its versions.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::spec::LocalReference;

/// What to do when the source replaces the archive of a version that is in ECR.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum OnSourceChange {
    /// Keep what is in ECR, and say so.
    #[default]
    Keep,
    /// Take the new one.
    Overwrite,
}

/// A rule that selects versions of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionSelector {
    /// How many of the newest versions; 0 is all that match.
    #[schemars(range(min = 0, max = 10000))]
    pub latest: i64,

    /// A version constraint as Helm writes it: `^15`, `>=1.2 <2`. Pre-releases only where the
    /// constraint names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub semver: Option<String>,
}

/// A Helm chart with its versions.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::chart_has_a_version())]
pub struct Chart {
    /// Where the chart is: `https://charts.example.com/bitnami/nginx` (a chart repository and the
    /// chart in it), `https://charts.example.com/bitnami` (a chart repository; the chart is `name`,
    /// or the last segment of the ECR repository), or `oci://registry.example.com/charts/nginx` (an
    /// OCI registry, likewise).
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches(r'^(https?|oci)://[^/\\s@]+(/[^\\s@]*)?$')")
        .message("chart.pullUrl is the address of a chart: write https://charts.example.com/bitnami/nginx or oci://registry.example.com/charts/nginx, and put a login into a Secret"))]
    pub pull_url: String,

    /// Name of the chart, where pullUrl does not end in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    pub name: Option<String>,

    /// Versions to keep in ECR. In tags, `+` becomes `_`, as Helm does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::versions")]
    pub tags: Vec<String>,

    /// Versions to keep in ECR besides `tags`, by a rule over all versions of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_selector: Option<VersionSelector>,

    /// What to do when the source replaces the archive of a version that is in ECR: Keep or
    /// Overwrite.
    #[serde(default)]
    pub on_source_change: OnSourceChange,

    /// Copies the provenance file of each version too, where there is one (chart repositories over
    /// HTTP only).
    #[serde(default)]
    pub provenance: bool,

    /// Secret of type kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson in the same
    /// namespace, with the credential for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with the certificates for the source: `ca.crt`, `tls.crt`,
    /// `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with a proxy for the source: `address`, `username`, `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,

    /// Reads an OCI registry over plain HTTP. A chart repository is read as its address says.
    #[serde(default)]
    pub insecure: bool,
}
