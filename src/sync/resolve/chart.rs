//! The chart: versions of a classic HTTP repository or of an OCI registry.
//!
//! `pullUrl` can be read in more than one way (with or without the chart's name at its end). The
//! readings are tried in order; the one that worked last time, which the status keeps, comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::CONCURRENT_TAGS;
use super::image::{offered, source_tag};
use crate::api::v1alpha1::{Chart, OnSourceChange, VersionSelector};
use crate::class::Class;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{Reference, Tag};
use crate::selection::{self, Selector, tag_of, version_of};
use crate::spec;
use crate::sync::artifact::{
    ArtifactKind, DesiredArtifact, Source, SourceContent, SourceTag, WantedTag,
};
use crate::sync::job::{Access, Job};
use crate::sync::origin::Origin;
use crate::sync::pass::Pass;

/// Resources that are due together share one look at an index.
const INDEX_AGE: Duration = Duration::from_secs(30);

/// One reading of `pullUrl` as an HTTP repository.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    repository: String,
    chart: String,
}

impl Reading {
    /// As status and messages show it.
    fn name(&self) -> String {
        format!("{} (chart {})", self.repository, self.chart)
    }
}

/// The readings of an HTTP `pullUrl`, best first.
fn http_readings(pull_url: &str, name: Option<&str>, repository: &str) -> Vec<Reading> {
    let url = pull_url.trim_end_matches('/');
    let whole = |chart: &str| Reading { repository: url.to_owned(), chart: chart.to_owned() };
    // A host is no folder: the scheme's slashes do not separate segments.
    let (parent, last) = match url.rsplit_once('/') {
        Some((parent, last)) if !parent.ends_with('/') => (Some(parent), last),
        _ => (None, ""),
    };
    let in_parent =
        parent.map(|parent| Reading { repository: parent.to_owned(), chart: last.to_owned() });
    let own_name = repository.rsplit('/').next().unwrap_or_default();
    match name {
        Some(name) => {
            std::iter::once(whole(name)).chain(in_parent.filter(|_| last == name)).collect()
        }
        None => in_parent.into_iter().chain([whole(own_name)]).collect(),
    }
}

/// The readings of an `oci://` `pullUrl`, best first.
fn oci_readings(pull_url: &str, name: Option<&str>, repository: &str) -> Vec<String> {
    let path = pull_url.trim_start_matches("oci://").trim_end_matches('/');
    let own_name = name.or_else(|| repository.rsplit('/').next()).unwrap_or_default();
    vec![path.to_owned(), format!("{path}/{own_name}")]
}

/// Whether another reading may be the right one.
fn is_elsewhere(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::SourceNotFound | Class::AuthenticationFailed | Class::AccessDenied
    )
}

fn artifact(name: String, keep: bool) -> DesiredArtifact {
    DesiredArtifact { keep, ..DesiredArtifact::new(ArtifactKind::Chart, name) }
}

impl Pass<'_> {
    pub(super) async fn resolve_chart(&self, chart: &Chart) -> Result<DesiredArtifact, Failure> {
        let job = self.job;
        let keep = chart.on_source_change == OnSourceChange::Keep;
        let selector = chart.version_selector.as_ref().map(compile).transpose()?;
        let access = match &job.access.chart {
            Ok(access) => access,
            Err(failure) => return unknown(artifact(chart.pull_url.clone(), keep), chart, failure),
        };
        let (name, repository) = (chart.name.as_deref(), job.repository_name());
        if chart.pull_url.starts_with("oci://") {
            let mut readings = oci_readings(&chart.pull_url, name, repository);
            prefer(&mut readings, job, |reading| format!("oci://{reading}"));
            let mut first = None;
            for reading in readings {
                let found =
                    self.oci_chart(chart, access, &reading, keep, selector.as_ref()).await?;
                if !nothing_found(&found) {
                    return Ok(found);
                }
                first.get_or_insert(found);
            }
            return first.ok_or_else(|| Failure::new(Class::InvalidSpec, "chart.pullUrl is empty"));
        }
        let mut readings = http_readings(&chart.pull_url, name, repository);
        prefer(&mut readings, job, Reading::name);
        let mut failures = Vec::new();
        for reading in readings {
            match self.http_chart(chart, access, &reading, keep, selector.as_ref()).await {
                Ok(found) => return Ok(found),
                Err((failure, true)) => failures.push(failure),
                Err((failure, false)) => {
                    return unknown(artifact(reading.name(), keep), chart, &failure);
                }
            }
        }
        // All readings failed: the first is the most likely, the others are told too.
        let text: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
        let class = failures.first().map_or(Class::SourceNotFound, |failure| failure.class);
        let failure = Failure::new(class, text.join("; and read otherwise: "));
        unknown(artifact(chart.pull_url.clone(), keep), chart, &failure)
    }

    /// One reading as an HTTP repository; with an error, whether another reading may be the right
    /// one.
    async fn http_chart(
        &self,
        chart: &Chart,
        access: &Access,
        reading: &Reading,
        keep: bool,
        selector: Option<&Selector>,
    ) -> Result<DesiredArtifact, (Failure, bool)> {
        let fatal = |failure: Failure| (failure, false);
        let transport =
            self.engine.transport(&access.transport).map_err(|error| fatal(error.into()))?;
        let mut reach =
            helm::Access::new(transport, access.transport.clone(), access.credential.clone());
        reach.hosts = access.hosts.clone();
        if let Some(host) = reading.repository.split('/').nth(2) {
            reach.limits = self.engine.host_limits(host);
        }
        let repository =
            helm::Repository::new(&reading.repository, reach, self.engine.indexes.clone())
                .map_err(|error| fatal(error.into()))?;
        let versions = repository.versions(&reading.chart, INDEX_AGE).await.map_err(|error| {
            let elsewhere = error.is_elsewhere();
            (Failure::from(error), elsewhere)
        })?;
        let selected = selector
            .map(|selector| selector.select(versions.versions.iter().map(|e| e.version.as_str())));
        let count = selected.as_ref().map(Vec::len);
        let wanted = selection::union(
            chart.tags.iter().map(String::as_str),
            selected.into_iter().flatten(),
            self.engine.limits.max_tags,
        )
        .map_err(|error| fatal(Failure::new(Class::InvalidSpec, format!("chart: {error}"))))?;
        let mut found = artifact(reading.name(), keep);
        found.selected = count;
        let mut entries = BTreeMap::new();
        for version in wanted {
            let Ok(tag) = tag_of(version).parse::<Tag>() else { continue };
            let source = match versions.get(version) {
                Some(entry) => {
                    entries.insert(tag.clone(), entry.clone());
                    let derived = self.job.derived.get(&tag).cloned();
                    let content = SourceContent::Archive { digest: entry.digest.clone(), derived };
                    Ok(SourceTag {
                        label: format!("{} {version} of {}", reading.chart, reading.repository),
                        content,
                    })
                }
                None => Err(missing(&versions, version, &repository.index_url())),
            };
            found.tags.insert(tag, WantedTag { pin: None, source });
        }
        if self.prunes() {
            let all = versions.versions.iter();
            found.offered = Some(Ok(all
                .filter_map(|entry| {
                    Some((tag_of(&entry.version).parse().ok()?, Some(entry.clone())))
                })
                .collect()));
        }
        found.source = Source::Charts {
            repository: Box::new(repository),
            entries,
            provenance: chart.provenance,
        };
        Ok(found)
    }

    async fn oci_chart(
        &self,
        chart: &Chart,
        access: &Access,
        path: &str,
        keep: bool,
        selector: Option<&Selector>,
    ) -> Result<DesiredArtifact, Failure> {
        let reference: Reference = path.parse()?;
        let mut found = artifact(format!("oci://{}", reference.name()), keep);
        let client = match self.engine.source_client(access, &reference, chart.insecure).await {
            Ok(client) => client,
            Err(failure) => return unknown(found, chart, &failure),
        };
        let all = match selector.is_some() || self.prunes() {
            true => client.tags(&reference.repository).await.map_err(Failure::from),
            false => Ok(Vec::new()),
        };
        found.listing = all.as_ref().err().filter(|_| selector.is_some()).cloned();
        found.offered = self.prunes().then(|| all.as_deref().map(offered).map_err(Clone::clone));
        let all = all.unwrap_or_default();
        let versions: Vec<_> = all.iter().map(|tag| version_of(tag)).collect();
        let selected = selector.map(|selector| selector.select(versions.iter().map(AsRef::as_ref)));
        found.selected = selected.as_ref().map(Vec::len);
        let listed = chart.tags.iter().map(String::as_str);
        let wanted =
            selection::union(listed, selected.into_iter().flatten(), self.engine.limits.max_tags)
                .map_err(|error| Failure::new(Class::InvalidSpec, format!("chart: {error}")))?;
        let tags: Vec<Tag> =
            wanted.into_iter().filter_map(|version| tag_of(version).parse().ok()).collect();
        let origin = Origin::new(client, reference.repository.clone());
        let seen = self.tags_in_ecr(tags.iter()).await?;
        found.tags = stream::iter(tags)
            .map(|tag| async {
                let source =
                    source_tag(&origin, &reference, &tag, self.how_to_ask(&seen, &tag), None).await;
                (tag, WantedTag { pin: None, source })
            })
            .buffer_unordered(CONCURRENT_TAGS)
            .collect()
            .await;
        found.source = Source::Registry(origin);
        Ok(found)
    }
}

/// Whether nothing of a reading could be read, and it looks as if it were the wrong one.
fn nothing_found(found: &DesiredArtifact) -> bool {
    let failures = || {
        found.tags.values().filter_map(|wanted| wanted.source.as_ref().err()).chain(&found.listing)
    };
    let any = found.tags.values().any(|wanted| wanted.source.is_ok());
    !any && failures().next().is_some() && failures().all(is_elsewhere)
}

/// Puts the reading first that the status names.
fn prefer<T>(readings: &mut [T], job: &Job, name: impl Fn(&T) -> String) {
    let known = readings.iter().position(|reading| Some(name(reading)) == job.chart_source);
    if let Some(known) = known {
        readings[..=known].rotate_right(1);
    }
}

/// The listed versions, none of which can be had.
fn unknown(
    mut artifact: DesiredArtifact,
    chart: &Chart,
    failure: &Failure,
) -> Result<DesiredArtifact, Failure> {
    for version in &chart.tags {
        let source = Err(failure.clone());
        artifact.tags.insert(tag_of(version).parse()?, WantedTag { pin: None, source });
    }
    artifact.listing = chart.version_selector.as_ref().map(|_| failure.clone());
    artifact.offered = Some(Err(failure.clone()));
    Ok(artifact)
}

fn missing(versions: &helm::ChartVersions, version: &str, index: &str) -> Failure {
    let problem =
        versions.problems.iter().find(|problem| problem.version.as_deref() == Some(version));
    match problem {
        Some(problem) => Failure::new(Class::SourceInvalid, format!("{index}: {problem}")),
        None => Failure::new(
            Class::SourceNotFound,
            format!(
                "{index} has no version {version} of {} ({} others)",
                versions.name,
                versions.versions.len()
            ),
        ),
    }
}

fn compile(selector: &VersionSelector) -> Result<Selector, Failure> {
    spec::compile_versions(selector).map_err(|problem| {
        Failure::new(Class::InvalidSpec, format!("chart.versionSelector.{problem}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(pull_url: &str, name: Option<&str>) -> Vec<String> {
        http_readings(pull_url, name, "platform/nginx").iter().map(Reading::name).collect()
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
            oci_readings("oci://quay.io/jetstack", Some("cert-manager"), "x"),
            ["quay.io/jetstack", "quay.io/jetstack/cert-manager"]
        );
        assert_eq!(
            oci_readings("oci://r.example/charts/nginx", None, "platform/nginx"),
            ["r.example/charts/nginx", "r.example/charts/nginx/nginx"]
        );
    }
}
