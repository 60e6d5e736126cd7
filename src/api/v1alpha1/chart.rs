//! The Helm chart and its versions.
#![allow(unreachable_pub, reason = "KubeSchema's expansion repeats the structs inside functions")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::spec::LocalReference;

/// Handling of a version in ECR whose archive the source replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnSourceChange {
    /// Keep the version in ECR and report it.
    #[default]
    Keep,
    /// Copy the new archive.
    Overwrite,
}

/// A rule that selects versions of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionSelector {
    /// Number of newest versions to select; 0 selects all that match.
    #[schemars(range(min = 0, max = 10000))]
    pub latest: i64,

    /// Version constraint in the syntax of Helm: `^15`, `>=1.2 <2`. Pre-releases are selected only
    /// if the constraint names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub semver: Option<String>,
}

/// A Helm chart with its versions.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::chart_has_a_version())]
pub struct Chart {
    /// Address of the chart: `https://charts.example.com/bitnami/nginx` (chart repository and
    /// chart), `https://charts.example.com/bitnami` (chart repository; the chart is `name`, or the
    /// last segment of the ECR repository), or `oci://registry.example.com/charts/nginx` (OCI
    /// registry, with the same rules).
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches(r'^(https?|oci)://[^/\\s@]+(/[^\\s@]*)?$')")
        .message("chart.pullUrl is the address of a chart: write \
                  https://charts.example.com/bitnami/nginx or \
                  oci://registry.example.com/charts/nginx, and put a login into a Secret"))]
    pub pull_url: String,

    /// Name of the chart, if pullUrl does not end in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    pub name: Option<String>,

    /// Versions to keep in ECR. In tags, `+` becomes `_`, as with Helm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::versions")]
    pub tags: Vec<String>,

    /// Rule that selects more versions to keep in ECR, among all versions of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_selector: Option<VersionSelector>,

    /// Handling of a version in ECR whose archive the source replaced. Keep: keep the version in
    /// ECR and report it. Overwrite: copy the new archive.
    #[serde(default)]
    pub on_source_change: OnSourceChange,

    /// Copies the provenance file of each version too, if there is one (only from chart
    /// repositories over HTTP).
    #[serde(default)]
    pub provenance: bool,

    /// Secret of type kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson in the same
    /// namespace, with the login for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with certificates for the source: `ca.crt`, `tls.crt`,
    /// `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalReference>,

    /// Secret in the same namespace with the proxy for the source: `address`, `username`,
    /// `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,

    /// Reads an OCI registry over plain HTTP. For a chart repository, the scheme in pullUrl
    /// decides.
    #[serde(default)]
    pub insecure: bool,
}
