//! `spec.chart`.
//!
//! `pullUrl` can be read in more than one way, with or without the chart's name at its end. The
//! readings stand in the order in which they are tried.

use std::collections::BTreeSet;

use reqwest::Url;

use super::{Secrets, Violations};
use crate::api::v1alpha1::{self, MAX_TAGS, OnSourceChange, TagSelector, VersionSelector};
use crate::registry::{Reference, Tag, authority};
use crate::selection::{Pin, Selector, tag_of};

/// A chart to copy.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// `pullUrl` as it is written, for messages.
    pub(crate) pull_url: String,
    /// The chart in its source.
    pub(crate) address: Address,
    /// Wanted versions as they are written, with their tags in ECR.
    pub(crate) versions: Vec<(String, Tag)>,
    /// Selects more versions among those of the source.
    pub(crate) selector: Option<Selector>,
    /// Whether the archive in ECR is kept when the source replaces it.
    pub(crate) keep: bool,
    /// Whether provenance files are copied.
    pub(crate) provenance: bool,
    /// Secrets with login, certificates and proxy.
    pub(crate) secrets: Secrets,
    /// Whether an OCI registry is read over plain HTTP.
    pub(crate) insecure: bool,
}

/// Readings of `pullUrl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A chart repository over HTTP.
    Http {
        /// Chart repository and chart, best reading first.
        readings: Vec<HttpReading>,
        /// The host, with its port if it has one.
        host: String,
        /// The place that a login is looked up for.
        login: Reference,
    },
    /// A repository of an OCI registry.
    Oci {
        /// The best reading.
        first: Reference,
        /// The other one, on the same host.
        other: Option<Reference>,
    },
}

/// One reading of an HTTP `pullUrl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpReading {
    /// The chart repository.
    pub(crate) repository: String,
    /// The chart in it.
    pub(crate) chart: String,
}

impl Chart {
    /// Whether the source is read over plain HTTP.
    pub(crate) fn is_plain_http(&self) -> bool {
        self.insecure || self.pull_url.starts_with("http://")
    }
}

impl HttpReading {
    /// The text for status and messages.
    pub(crate) fn name(&self) -> String {
        format!("{} (chart {})", self.repository, self.chart)
    }
}

impl Address {
    /// The place that a login is looked up for: its host, and as much of its path as a reference
    /// can hold.
    pub(crate) fn login(&self) -> &Reference {
        match self {
            Self::Http { login, .. } => login,
            Self::Oci { first, .. } => first,
        }
    }

    /// The host that is read from.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Http { host, .. } => host,
            Self::Oci { first, .. } => &first.host,
        }
    }

    /// The best reading as an OCI repository.
    pub(crate) fn oci(&self) -> Option<&Reference> {
        match self {
            Self::Http { .. } => None,
            Self::Oci { first, .. } => Some(first),
        }
    }
}

pub(super) fn parse(
    chart: &v1alpha1::Chart,
    repository: &str,
    image: Option<&v1alpha1::Image>,
    violations: &mut Violations,
) -> Option<Chart> {
    let own_name = repository.rsplit('/').next().unwrap_or_default();
    let address = address(&chart.pull_url, chart.name.as_deref(), own_name)
        .map_err(|message| violations.push("chart.pullUrl", message));
    if chart.tags.is_empty() && chart.version_selector.is_none() {
        violations.push(
            "chart.tags",
            "no version is named: write tags: [\"15.0.2\"] or versionSelector: {latest: 3}",
        );
    }
    let versions = versions(&chart.tags, image, violations);
    let selector = chart
        .version_selector
        .as_ref()
        .map(|selector| violations.selector("chart.versionSelector", &tag_selector(selector)));

    Some(Chart {
        pull_url: chart.pull_url.clone(),
        address: address.ok()?,
        versions,
        selector: super::all(selector)?,
        keep: chart.on_source_change == OnSourceChange::Keep,
        provenance: chart.provenance,
        secrets: Secrets::of_chart(chart),
        insecure: chart.insecure,
    })
}

fn address(pull_url: &str, name: Option<&str>, own_name: &str) -> Result<Address, String> {
    let rest = ["https://", "http://", "oci://"]
        .iter()
        .find_map(|scheme| pull_url.strip_prefix(scheme))
        .filter(|rest| !rest.is_empty() && !rest.contains(['@', ' ']))
        .ok_or_else(|| {
            format!(
                "{pull_url:?} is not the address of a chart: write \
                 https://charts.example.com/bitnami/nginx or \
                 oci://registry.example.com/charts/nginx"
            )
        })?;
    let path = rest.trim_end_matches('/');
    if pull_url.starts_with("oci://") {
        return oci(path, name.unwrap_or(own_name));
    }

    let url = Url::parse(pull_url).ok().filter(Url::has_host);
    let url = url.ok_or_else(|| format!("{pull_url:?} is not a URL with a host"))?;
    Ok(Address::Http {
        readings: http_readings(pull_url, name, own_name),
        host: authority(&url),
        login: http_login(&url),
    })
}

/// The place of a chart repository among logins. Its host is the one that is asked: read as a short
/// name, `charts.example.com` would get the login of Docker Hub.
fn http_login(url: &Url) -> Reference {
    // Paths of chart repositories may hold what no image name does.
    let folder = format!("localhost/{}", url.path().trim_matches('/')).parse::<Reference>();
    let repository = folder.map_or_else(|_| "charts".to_owned(), |folder| folder.repository);
    Reference { host: authority(url), repository, tag: None, digest: None }
}

/// The readings of an HTTP `pullUrl`.
fn http_readings(pull_url: &str, name: Option<&str>, own_name: &str) -> Vec<HttpReading> {
    let url = pull_url.trim_end_matches('/');
    let whole = |chart: &str| HttpReading { repository: url.to_owned(), chart: chart.to_owned() };
    // A host is not a folder: the scheme's slashes do not separate segments.
    let (parent, last) = match url.rsplit_once('/') {
        Some((parent, last)) if !parent.ends_with('/') => (Some(parent), last),
        _ => (None, ""),
    };
    let in_parent =
        parent.map(|parent| HttpReading { repository: parent.to_owned(), chart: last.to_owned() });

    match name {
        Some(name) => {
            std::iter::once(whole(name)).chain(in_parent.filter(|_| last == name)).collect()
        }
        None => in_parent.into_iter().chain([whole(own_name)]).collect(),
    }
}

/// The readings of the path of an `oci://` `pullUrl`.
fn oci(path: &str, chart: &str) -> Result<Address, String> {
    let parse = |text: &str| text.parse::<Reference>().map_err(|error| error.to_string());
    let below = parse(&format!("{path}/{chart}"));
    // A host alone is not a short name of Docker Hub, whose login must not reach another host.
    if !path.contains('/') && (path.contains(['.', ':']) || path == "localhost") {
        return Ok(Address::Oci { first: below?, other: None });
    }
    Ok(Address::Oci { first: parse(path)?, other: below.ok() })
}

fn versions(
    texts: &[String],
    image: Option<&v1alpha1::Image>,
    violations: &mut Violations,
) -> Vec<(String, Tag)> {
    if texts.len() > MAX_TAGS {
        let message = format!("{} versions: at most {MAX_TAGS} are allowed", texts.len());
        violations.push("chart.tags", message);
    }
    let image_tags: BTreeSet<_> =
        image.iter().flat_map(|image| &image.tags).map(|tag| Pin::parse(tag).tag).collect();

    let mut versions = Vec::new();
    let mut tags_before = BTreeSet::new();
    for (index, version) in texts.iter().enumerate() {
        let path = format!("chart.tags[{index}]");
        let tag = tag_of(version);
        match tag.parse() {
            Ok(tag) => versions.push((version.clone(), tag)),
            Err(_) => violations.push(
                &path,
                format!("{version:?} is not a chart version: write for example 15.0.2"),
            ),
        }
        if !tags_before.insert(tag.to_string()) {
            let message = format!("{version:?} is named twice (as a tag it is {tag})");
            violations.push(&path, message);
        }
        if image_tags.contains(tag.as_ref()) {
            let message =
                format!("{version:?} is a tag of the image too: one repository has one of each");
            violations.push(&path, message);
        }
    }
    versions
}

fn tag_selector(selector: &VersionSelector) -> TagSelector {
    let VersionSelector { latest, semver } = selector.clone();
    TagSelector { latest, semver, ..TagSelector::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(pull_url: &str, name: Option<&str>) -> Vec<String> {
        http_readings(pull_url, name, "nginx").iter().map(HttpReading::name).collect()
    }

    fn oci_readings(path: &str, chart: &str) -> Vec<Reference> {
        let Ok(Address::Oci { first, other }) = oci(path, chart) else { panic!("{path}") };
        std::iter::once(first).chain(other).collect()
    }

    fn oci_names(path: &str, chart: &str) -> Vec<String> {
        oci_readings(path, chart).iter().map(Reference::name).collect()
    }

    #[test]
    fn a_name_makes_pull_url_the_repository_first() {
        assert_eq!(
            http("https://c.example/bitnami", Some("nginx")),
            ["https://c.example/bitnami (chart nginx)"]
        );
        assert_eq!(
            http("https://c.example/bitnami/nginx/", Some("nginx")),
            [
                "https://c.example/bitnami/nginx (chart nginx)",
                "https://c.example/bitnami (chart nginx)"
            ]
        );
    }

    #[test]
    fn without_a_name_the_last_segment_is_the_chart_first() {
        assert_eq!(
            http("https://c.example/bitnami/redis", None),
            [
                "https://c.example/bitnami (chart redis)",
                "https://c.example/bitnami/redis (chart nginx)"
            ]
        );
        assert_eq!(
            http("https://charts.example.com", None),
            ["https://charts.example.com (chart nginx)"]
        );
    }

    #[test]
    fn an_oci_path_is_taken_as_it_is_first() {
        assert_eq!(
            oci_names("quay.io/jetstack", "cert-manager"),
            ["quay.io/jetstack", "quay.io/jetstack/cert-manager"]
        );
        assert_eq!(
            oci_names("r.example/charts/nginx", "nginx"),
            ["r.example/charts/nginx", "r.example/charts/nginx/nginx"]
        );
    }

    #[test]
    fn all_readings_of_an_oci_address_have_one_host() {
        assert_eq!(oci_names("registry.example.com", "nginx"), ["registry.example.com/nginx"]);
        assert_eq!(oci_names("localhost:5000", "nginx"), ["localhost:5000/nginx"]);
        for path in ["bitnami/nginx", "localhost/charts", "r.example:5000/a/b"] {
            let readings = oci_readings(path, "nginx");
            assert_eq!(readings[0].host, readings[1].host, "{path}");
        }
    }

    #[test]
    fn the_host_of_a_chart_is_the_one_that_will_be_asked() {
        for (url, host) in [
            ("https://charts.example.com/stable", Some("charts.example.com")),
            ("https://charts.example.com:8443/stable", Some("charts.example.com:8443")),
            ("https://Charts.Example.com/", Some("charts.example.com")),
            ("https://evil.com\\allowed.com/x", Some("evil.com")),
            ("oci://registry.example.com/charts/nginx", Some("registry.example.com")),
            ("oci://registry.example.com", Some("registry.example.com")),
            ("https://allowed.com@evil.com/x", None),
            ("https://evil.com\\@allowed.com/x", None),
            ("not a url", None),
            ("https://", None),
        ] {
            let address = address(url, None, "nginx").ok();
            assert_eq!(address.as_ref().map(Address::host), host, "{url}");
            assert_eq!(address.as_ref().map(|address| &*address.login().host), host, "{url}");
        }
    }

    #[test]
    fn the_login_of_a_chart_repository_is_looked_up_by_host_and_path() {
        for (url, login) in [
            ("https://charts.example.com", "charts.example.com/charts"),
            ("http://chartmuseum/team", "chartmuseum/team"),
            ("https://charts.example.com:8443/Team/x", "charts.example.com:8443/charts"),
            ("https://charts.example.com/bitnami/nginx/", "charts.example.com/bitnami/nginx"),
        ] {
            assert_eq!(http_login(&Url::parse(url).expect("a URL")).name(), login);
        }
    }
}
