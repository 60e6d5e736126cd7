//! The status of a resource after a pass: the one place where a report becomes a status. Pure.
//!
//! Meaning of `Ready`:
//! - True: everything wanted is in ECR. `Ready` stays True when a later check fails because a
//!   source or AWS is down: then `ImageSynced` or `RepositoryReady` is Unknown with the reason.
//! - Unknown, with `Reconciling`: a new generation before its first pass has ended.
//! - False, with `Reconciling`: something is missing and a retry may succeed.
//! - False, with `Stalled`: a person must act. Retries go on, slowly.
//! - Absent: suspended, and not Ready before.

mod artifact;
mod configuration;
mod drift_check;
mod ready;
mod results;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{Timestamp, Unit};

use super::conditions::{Conditions, Is, MAX_LINE, truncated};
use super::reason::Reason;
use crate::api::v1alpha1::{
    ArtifactStatus, EcrRepositorySyncStatus as Status, HistoryEntry, Ownership, RepositoryStatus,
    condition,
};
use crate::ecr::Repository;
use crate::sync::{ArtifactKind, Report, Snapshot};

pub(super) use drift_check::{basis, look};
pub(super) use ready::was_ready;
pub(super) use results::{earlier_expired, known, rebuilt};

/// Lines of a dry run's plan.
const MAX_PLAN: usize = 20;
/// Passes in `history`.
const MAX_HISTORY: usize = 5;

/// The circumstances of a pass, which its report does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamp {
    /// Generation of the spec.
    pub(super) generation: i64,
    /// Region of the repository.
    pub(super) region: String,
    /// Value of a requestedAt annotation that the pass answers.
    pub(super) handled: Option<String>,
    /// Hash of the operator's options on which a drift check depends.
    pub(super) basis: String,
    /// Time between two drift checks.
    pub(super) drift_interval: Duration,
}

/// Returns the status of a generation whose first pass has begun. The generation counts as observed
/// only when that pass has ended.
pub(super) fn progressing(old: &Status, generation: i64, now: Timestamp) -> Status {
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    let message = "working on the new specification";
    conditions.set(condition::READY, Is::Unknown, Reason::Progressing, message);
    conditions.set(condition::RECONCILING, Is::True, Reason::Progressing, message);

    for type_ in [
        condition::REPOSITORY_READY,
        condition::CONFIGURATION_SYNCED,
        condition::IMAGE_SYNCED,
        condition::CHART_SYNCED,
    ] {
        conditions.keep(type_);
    }
    Status { conditions: conditions.finish(), ..old.clone() }
}

/// Returns the status while a pass copies for long: the message of `Reconciling` has the progress.
/// Nothing changes without `Reconciling`: a periodic check does not make a resource unready.
pub(super) fn copying(old: &Status, snapshot: &Snapshot) -> Status {
    let mut status = old.clone();
    let mut conditions = status.conditions.iter_mut();
    if let Some(reconciling) = conditions.find(|each| each.type_ == condition::RECONCILING) {
        reconciling.message = format!("copying: {snapshot}");
    }
    status
}

/// Returns the status of a suspended resource. Its generation counts as observed, and no condition
/// says that work will follow, so that nobody waits for a pass that does not come. The other
/// conditions still speak of the last pass and its generation.
pub(super) fn suspended(old: &Status, generation: i64) -> Status {
    let is_over = |each: &Condition| match each.type_.as_str() {
        condition::RECONCILING | condition::STALLED => true,
        condition::READY => each.status != Is::True.as_str(),
        _ => false,
    };
    let conditions = old.conditions.iter().filter(|each| !is_over(each));
    Status {
        observed_generation: Some(generation),
        conditions: conditions.cloned().collect(),
        ..old.clone()
    }
}

/// Returns the status after a pass.
pub(super) fn finished(old: &Status, stamp: &Stamp, report: &Report, now: Timestamp) -> Status {
    let generation = stamp.generation;
    let repository = report
        .repository
        .as_ref()
        .map(|(repository, ownership)| repository_status(repository, &stamp.region, *ownership));

    let was_ready = was_ready(old, generation);
    let artifact = |kind, old: &Option<ArtifactStatus>| match report.artifact(kind) {
        // Without the list of tags the counts would be wrong. The old counts are better.
        Some(artifact) if artifact.listing.is_some() && old.is_some() => old.clone(),
        Some(artifact) => Some(artifact::status(artifact, was_ready)),
        // The pass ended before it looked at the tags.
        None if report.failure.is_some() => old.clone(),
        None => None,
    };

    let status = Status {
        observed_generation: Some(generation),
        last_handled_reconcile_at: stamp
            .handled
            .clone()
            .or_else(|| old.last_handled_reconcile_at.clone()),
        repository: repository.or_else(|| old.repository.clone()),
        image: artifact(ArtifactKind::Image, &old.image),
        chart: artifact(ArtifactKind::Chart, &old.chart),
        derived: results::derived(old, report),
        expired: results::expired(old, report),
        managed_tag_keys: match &report.managed_tag_keys {
            Some(keys) => keys.iter().cloned().collect(),
            None => old.managed_tag_keys.clone(),
        },
        configuration: report.configuration_revision.clone().or_else(|| old.configuration.clone()),
        drift_check: None,
        plan: if report.dry_run { plan(&report.changes) } else { Vec::new() },
        history: history(old, generation, report, now),
        conditions: ready::conditions(old, generation, report, now),
    };
    drift_check::recorded(status, old, stamp, report, now)
}

fn repository_status(
    repository: &Repository,
    region: &str,
    ownership: Ownership,
) -> RepositoryStatus {
    RepositoryStatus {
        name: repository.name.clone(),
        arn: repository.arn.clone(),
        uri: repository.uri.clone(),
        registry_id: repository.registry_id.clone(),
        region: region.to_owned(),
        ownership,
    }
}

fn plan(changes: &[String]) -> Vec<String> {
    let mut lines: Vec<_> =
        changes.iter().take(MAX_PLAN).map(|line| truncated(line, MAX_LINE)).collect();
    if changes.len() > MAX_PLAN {
        lines.push(format!("and {} more", changes.len() - MAX_PLAN));
    }
    lines
}

/// Returns the history. A pass adds an entry only if it changed something.
fn history(old: &Status, generation: i64, report: &Report, now: Timestamp) -> Vec<HistoryEntry> {
    if report.dry_run || report.changes.is_empty() {
        return old.history.clone();
    }

    // Kubernetes stores whole seconds: a fraction would be lost and make a difference later.
    let time = Time(now.round(Unit::Second).unwrap_or(now));
    let entry = HistoryEntry { time, generation, changes: truncated(&report.summary(), MAX_LINE) };
    // The entry was written before, but the answer of the API server was lost.
    if old.history.first() == Some(&entry) {
        return old.history.clone();
    }
    std::iter::once(entry).chain(old.history.iter().cloned()).take(MAX_HISTORY).collect()
}

#[cfg(test)]
mod tests;
