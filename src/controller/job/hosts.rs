//! The hosts that a pass reads from, as the queue tells them apart.

use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::registry::Reference;
use crate::spec::Secrets;

/// Returns the hosts of image and chart, without duplicates. With a Secret of its namespace, a
/// resource reads a host with a login, a certificate or a proxy of its own: what goes wrong there
/// does not concern other namespaces. A source that cannot be parsed is left out: its pass reads
/// nothing.
pub(super) fn of(namespace: &str, spec: &EcrRepositorySyncSpec) -> Vec<String> {
    let image = spec.image.as_ref().and_then(|image| {
        let reference: Reference = image.pull_url.parse().ok()?;
        Some((reference.host, Secrets::of_image(image)))
    });
    let chart = spec.chart.as_ref().and_then(|chart| {
        let (_, rest) = chart.pull_url.split_once("://")?;
        let host = rest.split('/').next().unwrap_or_default();
        Some((host.to_owned(), Secrets::of_chart(chart)))
    });

    let key = |(host, secrets): (String, Secrets)| match secrets == Secrets::default() {
        true => host,
        false => format!("{host} of {namespace}"),
    };
    let mut hosts: Vec<_> = image.into_iter().chain(chart).map(key).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{Chart, Image, LocalReference};

    #[test]
    fn hosts_are_told_apart_by_name_and_by_secrets_of_a_namespace() {
        let spec = |image: &str, chart: &str, secret: Option<&str>| {
            let secret = secret.map(|name| LocalReference { name: name.to_owned() });
            EcrRepositorySyncSpec {
                image: (!image.is_empty()).then(|| Image {
                    pull_url: image.to_owned(),
                    secret_ref: secret.clone(),
                    ..Image::default()
                }),
                chart: (!chart.is_empty())
                    .then(|| Chart { pull_url: chart.to_owned(), ..Chart::default() }),
                ..EcrRepositorySyncSpec::default()
            }
        };

        for (spec, hosts) in [
            (spec("", "", None), vec![]),
            (spec("nginx:1", "", None), vec!["docker.io"]),
            (spec("ghcr.io/a/b", "oci://ghcr.io/charts/b", None), vec!["ghcr.io"]),
            (
                spec("ghcr.io/a/b", "https://charts.example.com:8443/b", None),
                vec!["charts.example.com:8443", "ghcr.io"],
            ),
            (
                spec("ghcr.io/a/b", "oci://ghcr.io/b", Some("login")),
                vec!["ghcr.io", "ghcr.io of team"],
            ),
            (spec("not a reference", "", None), vec![]),
        ] {
            assert_eq!(of("team", &spec), hosts);
        }
    }
}
