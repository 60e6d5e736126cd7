//! A run as JSON: `--output json`, `--report FILE`.

use jiff::Timestamp;
use serde::Serialize;

use super::advice::advice;
use super::diff::{self, Totals};
use super::ledger::Record;
use super::outcome::{Outcome, State};
use super::summary::{Counts, Span, warnings};
use crate::sync::{ArtifactReport, TagState};

/// The run as a whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run<'a> {
    version: &'static str,
    dry_run: bool,
    /// Whether it came to its end.
    interrupted: bool,
    start_time: Timestamp,
    end_time: Timestamp,
    duration_seconds: f64,
    /// Of a run that writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a Counts>,
    /// Of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Totals>,
    repositories: Vec<Repository<'a>>,
    actions: &'a [Record],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Repository<'a> {
    name: &'a str,
    /// Where it is described: `repositories/app.yaml:3:5`.
    place: String,
    status: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Artifact<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chart: Option<Artifact<'a>>,
    changes: &'a [String],
    /// The lines of a dry run's diff.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diff: Vec<String>,
    failures: Vec<Failed>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact<'a> {
    /// Where it is read from.
    source: &'a str,
    /// Its own place, where a mirror is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    desired: usize,
    synced: usize,
    copied: usize,
    tags: std::collections::BTreeMap<&'a str, Tag<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tag<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    /// `image tag 1.27`; empty for the repository as a whole.
    what: String,
    reason: &'static str,
    message: String,
    advice: &'static str,
}

impl<'a> Run<'a> {
    /// What came of a run.
    pub(super) fn new(
        outcomes: &'a [Outcome],
        actions: &'a [Record],
        counts: &'a Counts,
        span: &Span,
        (dry_run, interrupted): (bool, bool),
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            dry_run,
            interrupted,
            start_time: span.start,
            end_time: span.end,
            duration_seconds: span.seconds(),
            summary: (!dry_run).then_some(counts),
            plan: dry_run.then(|| Totals::new(outcomes)),
            repositories: outcomes.iter().map(repository).collect(),
            actions,
        }
    }

    /// The text of it, with a line end.
    pub(super) fn text(&self) -> String {
        // Maps have strings for keys, and nothing here can fail to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn repository(outcome: &Outcome) -> Repository<'_> {
    let report = outcome.report.as_ref();
    let artifact = |kind| {
        report
            .and_then(|report| report.artifacts.iter().find(|artifact| artifact.kind == kind))
            .map(artifact)
    };
    let failures = outcome.failures().into_iter().map(|(what, failure)| Failed {
        what,
        reason: failure.class.reason(),
        message: failure.message.clone(),
        advice: advice(failure.class),
    });
    let diff = outcome.preview.iter().flat_map(|_| diff::lines(outcome));
    Repository {
        name: outcome.entry.repository(),
        place: outcome.entry.place.to_string(),
        status: outcome.state,
        uri: report
            .and_then(|report| report.repository.as_ref())
            .map(|(repository, _)| repository.uri.as_str()),
        image: artifact(crate::sync::ArtifactKind::Image),
        chart: artifact(crate::sync::ArtifactKind::Chart),
        changes: report.map_or(&[], |report| report.changes.as_slice()),
        diff: diff.map(|(mark, line)| format!("{} {line}", mark.sign())).collect(),
        failures: failures.collect(),
        warnings: outcome.entry.notes.iter().cloned().chain(warnings(outcome)).collect(),
    }
}

fn artifact(artifact: &ArtifactReport) -> Artifact<'_> {
    let status = |state: &TagState| match state {
        TagState::Synced(_) => "synced",
        TagState::Unverified { .. } => "unverified",
        TagState::Kept { .. } => "kept",
        TagState::Archived { .. } => "archived",
        TagState::Failed(_) => "failed",
        TagState::Planned => "planned",
    };
    Artifact {
        source: &artifact.source,
        original: artifact.original.as_deref(),
        desired: artifact.tags.len(),
        synced: artifact.synced().count(),
        copied: artifact.copied,
        tags: artifact
            .tags
            .iter()
            .map(|(name, state)| {
                (name.as_str(), Tag { status: status(state), digest: digest_of(state) })
            })
            .collect(),
    }
}

fn digest_of(state: &TagState) -> Option<&str> {
    match state {
        TagState::Synced(digest)
        | TagState::Unverified { digest, .. }
        | TagState::Kept { digest, .. }
        | TagState::Archived { digest, .. } => Some(digest.as_str()),
        TagState::Failed(_) | TagState::Planned => None,
    }
}
