//! The chart: versions of a classic HTTP repository or of an OCI registry.
//!
//! `pullUrl` can be read in more than one way ([`Address`]). The readings are tried in order, first
//! the one that worked last time, which the status records.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::CONCURRENT_TAGS;
use super::image::{list, offered, source_tag};
use crate::class::Class;
use crate::failure::Failure;
use crate::helm::{self, ChartVersions};
use crate::registry::{Reference, Tag};
use crate::selection::{self, Selector, tag_of, version_of};
use crate::spec::{Address, Chart, HttpReading};
use crate::sync::artifact::{
    ArtifactKind, DesiredArtifact, Source, SourceContent, SourceTag, WantedTag,
};
use crate::sync::job::{Access, Job};
use crate::sync::pass::Pass;

/// Largest age of an index. Resources that are due together share one download of it.
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
    /// Resolves the chart with the reading that works.
    ///
    /// # Errors
    /// When ECR cannot be read, or more versions are wanted than are allowed.
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
            let artifact = self.oci_chart(chart, access, reading).await?;
            if !is_unreadable(&artifact) {
                return Ok(artifact);
            }
            first.get_or_insert(artifact);
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
                Ok(artifact) => return Ok(artifact),
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

    /// Resolves the chart in an HTTP repository. The error says whether another reading may be the
    /// right one.
    async fn http_chart(
        &self,
        chart: &Chart,
        access: &Access,
        reading: &HttpReading,
    ) -> Result<DesiredArtifact, (Failure, bool)> {
        let fatal = |failure: Failure| (failure, false);
        let repository = self.http_repository(access, reading).map_err(fatal)?;
        let versions = repository.versions(&reading.chart, INDEX_AGE).await.map_err(|error| {
            let is_elsewhere = error.is_elsewhere();
            (Failure::from(error), is_elsewhere)
        })?;

        let selector = chart.selector.clone();
        let select = move || {
            let all = versions.versions.iter().map(|entry| entry.version.as_str());
            (selector.map(|selector| owned(&selector.select(all))), versions)
        };
        let (selected, versions) = self.engine.select(select).await.map_err(fatal)?;
        let mut artifact = artifact(reading.name(), chart);
        artifact.selected = selected.as_ref().map(Vec::len);

        let mut entries = BTreeMap::new();
        let selected = selected.unwrap_or_default();
        let wanted = self.wanted_versions(chart, &selected).map_err(fatal)?;
        for version in wanted {
            let Ok(tag) = tag_of(version).parse::<Tag>() else { continue };
            let source = match versions.get(version) {
                Some(entry) => {
                    entries.insert(tag.clone(), entry.clone());
                    Ok(self.archive(&tag, version, entry, reading))
                }
                None => Err(missing(&versions, version, &repository.index_url())),
            };
            artifact.tags.insert(tag, WantedTag { pin: None, source });
        }

        if self.prunes() {
            let all = versions.versions.into_iter();
            let with_tag = |entry: helm::Entry| {
                Some((tag_of(&entry.version).parse().ok()?, Some(Box::new(entry))))
            };
            artifact.memory = versions.memory;
            artifact.offered = Some(Ok(all.filter_map(with_tag).collect()));
        }
        artifact.source = Source::Charts {
            repository: Box::new(repository),
            entries,
            provenance: chart.provenance,
        };
        Ok(artifact)
    }

    fn http_repository(
        &self,
        access: &Access,
        reading: &HttpReading,
    ) -> Result<helm::Repository, Failure> {
        let host = reading.repository.split('/').nth(2).unwrap_or_default();
        let mut reach = self.engine.chart_connection(&access.way, host)?;
        reach.hosts = access.hosts.clone();
        let indexes = self.engine.indexes.clone();
        Ok(helm::Repository::new(&reading.repository, reach, indexes)?)
    }

    /// Returns the tag of a version of an HTTP repository.
    fn archive(
        &self,
        tag: &Tag,
        version: &str,
        entry: &helm::Entry,
        reading: &HttpReading,
    ) -> SourceTag {
        let derived = self.job.derived.get(tag).cloned();
        SourceTag {
            label: format!("{} {version} of {}", reading.chart, reading.repository),
            content: SourceContent::Archive { digest: entry.digest.clone(), derived },
        }
    }

    /// Resolves the chart in an OCI registry.
    async fn oci_chart(
        &self,
        chart: &Chart,
        access: &Access,
        reference: &Reference,
    ) -> Result<DesiredArtifact, Failure> {
        let mut artifact = artifact(oci_name(reference), chart);
        let origin = match self.engine.origin(access, reference).await {
            Ok(origin) => origin,
            Err(failure) => return Ok(unknown(artifact, chart, &failure)),
        };

        let selector = chart.selector.as_ref();
        let all = match selector.is_some() || self.prunes() {
            true => list(&origin, &mut artifact).await,
            false => Ok(Vec::new()),
        };
        artifact.listing = all.as_ref().err().filter(|_| selector.is_some()).cloned();
        artifact.offered = self.prunes().then(|| all.clone().map(offered));

        let selector = selector.cloned();
        let select = move || {
            let all = all.unwrap_or_default();
            let versions: Vec<_> = all.iter().map(|tag| version_of(tag.as_str())).collect();
            let select =
                |selector: Selector| owned(&selector.select(versions.iter().map(AsRef::as_ref)));
            selector.map(select)
        };
        let selected = self.engine.select(select).await?;
        artifact.selected = selected.as_ref().map(Vec::len);
        artifact.memory.take_if(|_| !self.prunes());

        let selected = selected.unwrap_or_default();
        let wanted = self.wanted_versions(chart, &selected)?;
        let tags: Vec<Tag> =
            wanted.into_iter().filter_map(|version| tag_of(version).parse().ok()).collect();
        let in_ecr = self.tags_in_ecr(tags.iter()).await?;
        artifact.tags = stream::iter(tags)
            .map(|tag| async {
                let ask = self.how_to_ask(&in_ecr, &tag);
                let source = source_tag(&origin, reference, &tag, ask, None).await;
                (tag, WantedTag { pin: None, source })
            })
            .buffer_unordered(CONCURRENT_TAGS)
            .collect()
            .await;
        artifact.source = Source::Registry(origin);
        Ok(artifact)
    }

    /// Returns the versions of the spec and the selected ones.
    ///
    /// # Errors
    /// When more versions are wanted than are allowed.
    fn wanted_versions<'v>(
        &self,
        chart: &'v Chart,
        selected: &'v [String],
    ) -> Result<Vec<&'v str>, Failure> {
        let listed = chart.versions.iter().map(|(version, _)| version.as_str());
        let selected = selected.iter().map(String::as_str);
        selection::union(listed, selected, self.engine.bounds.max_tags)
            .map_err(|error| Failure::new(Class::InvalidSpec, format!("chart: {error}")))
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Whether no version could be read, in a way that suggests another reading.
fn is_unreadable(artifact: &DesiredArtifact) -> bool {
    let tags = &artifact.tags;
    let failures =
        || tags.values().filter_map(|wanted| wanted.source.as_ref().err()).chain(&artifact.listing);
    let any = tags.values().any(|wanted| wanted.source.is_ok());
    !any && failures().next().is_some() && failures().all(is_elsewhere)
}

/// Moves the reading that the status records to the front.
fn prefer<T>(readings: &mut [T], job: &Job, name: impl Fn(&T) -> String) {
    let recorded = readings.iter().position(|reading| Some(name(reading)) == job.chart_source);
    if let Some(recorded) = recorded {
        readings[..=recorded].rotate_right(1);
    }
}

/// Returns the chart with the same failure for all its versions.
fn unknown(artifact: DesiredArtifact, chart: &Chart, failure: &Failure) -> DesiredArtifact {
    let listed = chart.versions.iter().map(|(_, tag)| (tag.clone(), None));
    artifact.failed(listed, chart.selector.is_some(), failure)
}

/// Returns the text for status and messages.
fn oci_name(reference: &Reference) -> String {
    format!("oci://{}", reference.name())
}

fn missing(versions: &ChartVersions, version: &str, index: &str) -> Failure {
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
