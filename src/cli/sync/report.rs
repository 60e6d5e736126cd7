//! The result of a run as JSON: `--output json`, `--report FILE`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::advice::advice;
use super::diff::{self, Totals};
use super::ledger::Record;
use super::outcome::{Outcome, State};
use super::summary::{Counts, Span, warnings};
use crate::sync::{ArtifactReport, TagState};

/// A run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run<'a> {
    version: &'static str,
    dry_run: bool,
    /// Whether the run was stopped before its end.
    interrupted: bool,
    start_time: Timestamp,
    end_time: Timestamp,
    duration_seconds: f64,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a Counts>,
    /// Only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Totals>,
    repositories: Vec<Repository<'a>>,
    actions: &'a [Record],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Repository<'a> {
    name: &'a str,
    /// Position in a file: `repositories/app.yaml:3:5`.
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
    /// Repository or URL that is read.
    source: &'a str,
    /// Source in the spec, if a mirror is read instead.
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

    /// Returns the JSON text, with a line end.
    pub(super) fn text(&self) -> String {
        // All map keys are strings, so serialising cannot fail.
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
        place: outcome.entry.written.position.to_string(),
        status: outcome.state,
        uri: report
            .and_then(|report| report.repository.as_ref())
            .map(|(repository, _)| repository.uri.as_str()),
        image: artifact(crate::sync::ArtifactKind::Image),
        chart: artifact(crate::sync::ArtifactKind::Chart),
        changes: report.map_or(&[], |report| report.changes.as_slice()),
        diff: diff.map(|(mark, line)| format!("{} {line}", mark.sign())).collect(),
        failures: failures.collect(),
        warnings: outcome.entry.written.notes.iter().cloned().chain(warnings(outcome)).collect(),
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

/// Returns the folder of a file if it does not exist.
pub(super) fn missing_folder(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
}

/// Writes a temporary file and renames it, so that a reader never sees half a report.
///
/// # Errors
/// The message for the user.
pub(super) async fn write(file: PathBuf, text: String) -> Result<(), String> {
    let name = file.display().to_string();
    let result = tokio::task::spawn_blocking(move || {
        // A pipe or a device is written to, not replaced.
        if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return std::fs::write(&file, text);
        }
        let mut temporary = file.clone().into_os_string();
        temporary.push(".new");
        let written = std::fs::write(&temporary, text);
        let written = written.and_then(|()| std::fs::rename(&temporary, &file));
        if written.is_err() {
            let _absent = std::fs::remove_file(&temporary);
        }
        written
    });

    match result.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot write the report {name}: {error}")),
        Err(_) => Err(format!("cannot write the report {name}")),
    }
}
