//! The chart: versions of a classic HTTP repository or of an OCI registry.
//!
//! `pullUrl` can be read in more than one way ([`Address`]). The readings are tried in order; the
//! one that worked last time, which the status keeps, comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::CONCURRENT_TAGS;
use super::image::{offered, source_tag};
use crate::class::Class;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{Reference, Tag};
use crate::selection::{self, tag_of, version_of};
use crate::spec::{Address, Chart, HttpReading};
use crate::sync::artifact::{
    ArtifactKind, DesiredArtifact, Source, SourceContent, SourceTag, WantedTag,
};
use crate::sync::job::{Access, Job};
use crate::sync::origin::Origin;
use crate::sync::pass::Pass;

/// Resources that are due together share one look at an index.
const INDEX_AGE: Duration = Duration::from_secs(30);

/// Whether another reading may be the right one.
fn is_elsewhere(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::SourceNotFound | Class::AuthenticationFailed | Class::AccessDenied
    )
}

fn artifact(name: String, chart: &Chart) -> DesiredArtifact {
    DesiredArtifact { keep: chart.keep, ..DesiredArtifact::new(ArtifactKind::Chart, name) }
}

impl Pass<'_> {
    pub(super) async fn resolve_chart(&self, chart: &Chart) -> Result<DesiredArtifact, Failure> {
        let access = match &self.job.access.chart {
            Ok(access) => access,
            Err(failure) => {
                return Ok(unknown(artifact(chart.pull_url.clone(), chart), chart, failure));
            }
        };
        match &chart.address {
            Address::Oci { first, other } => {
                let readings = std::iter::once(first).chain(other).collect();
                self.best_oci_chart(chart, access, readings).await
            }
            Address::Http { readings, .. } => {
                self.best_http_chart(chart, access, readings.iter().collect()).await
            }
        }
    }

    async fn best_oci_chart(
        &self,
        chart: &Chart,
        access: &Access,
        mut readings: Vec<&Reference>,
    ) -> Result<DesiredArtifact, Failure> {
        prefer(&mut readings, self.job, |reading| oci_name(reading));
        let mut first = None;
        for reading in readings {
            let found = self.oci_chart(chart, access, reading).await?;
            if !nothing_found(&found) {
                return Ok(found);
            }
            first.get_or_insert(found);
        }
        first.ok_or_else(|| Failure::new(Class::InvalidSpec, "chart.pullUrl is empty"))
    }

    async fn best_http_chart(
        &self,
        chart: &Chart,
        access: &Access,
        mut readings: Vec<&HttpReading>,
    ) -> Result<DesiredArtifact, Failure> {
        prefer(&mut readings, self.job, |reading| reading.name());
        let mut failures = Vec::new();
        for reading in readings {
            match self.http_chart(chart, access, reading).await {
                Ok(found) => return Ok(found),
                Err((failure, true)) => failures.push(failure),
                Err((failure, false)) => {
                    return Ok(unknown(artifact(reading.name(), chart), chart, &failure));
                }
            }
        }

        // The first reading is the most likely one, but any of them may be the right one.
        let text: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
        let class = failures.first().map_or(Class::SourceNotFound, |failure| failure.class);
        let failure = Failure::new(class, text.join("; and read otherwise: "));
        Ok(unknown(artifact(chart.pull_url.clone(), chart), chart, &failure))
    }

    /// One reading as an HTTP repository; with an error, whether another reading may be the right
    /// one.
    async fn http_chart(
        &self,
        chart: &Chart,
        access: &Access,
        reading: &HttpReading,
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
        let selected = chart
            .selector
            .as_ref()
            .map(|selector| selector.select(versions.versions.iter().map(|e| e.version.as_str())));
        let count = selected.as_ref().map(Vec::len);
        let wanted = selection::union(
            chart.versions.iter().map(|(version, _)| version.as_str()),
            selected.into_iter().flatten(),
            self.engine.bounds.max_tags,
        )
        .map_err(|error| fatal(Failure::new(Class::InvalidSpec, format!("chart: {error}"))))?;
        let mut found = artifact(reading.name(), chart);
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
        reference: &Reference,
    ) -> Result<DesiredArtifact, Failure> {
        let selector = chart.selector.as_ref();
        let mut found = artifact(oci_name(reference), chart);
        let client = match self.engine.source_client(access, reference, chart.insecure).await {
            Ok(client) => client,
            Err(failure) => return Ok(unknown(found, chart, &failure)),
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
        let listed = chart.versions.iter().map(|(version, _)| version.as_str());
        let wanted =
            selection::union(listed, selected.into_iter().flatten(), self.engine.bounds.max_tags)
                .map_err(|error| Failure::new(Class::InvalidSpec, format!("chart: {error}")))?;
        let tags: Vec<Tag> =
            wanted.into_iter().filter_map(|version| tag_of(version).parse().ok()).collect();
        let origin = Origin::new(client, reference.repository.clone());
        let seen = self.tags_in_ecr(tags.iter()).await?;
        found.tags = stream::iter(tags)
            .map(|tag| async {
                let source =
                    source_tag(&origin, reference, &tag, self.how_to_ask(&seen, &tag), None).await;
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
fn unknown(mut artifact: DesiredArtifact, chart: &Chart, failure: &Failure) -> DesiredArtifact {
    let wanted = |tag: &Tag| (tag.clone(), WantedTag { pin: None, source: Err(failure.clone()) });
    artifact.tags = chart.versions.iter().map(|(_, tag)| wanted(tag)).collect();
    artifact.listing = chart.selector.as_ref().map(|_| failure.clone());
    artifact.offered = Some(Err(failure.clone()));
    artifact
}

/// The text for status and messages.
fn oci_name(reference: &Reference) -> String {
    format!("oci://{}", reference.name())
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
