//! The conditions of a status, first of all `Ready` with `Reconciling` and `Stalled`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::{artifact, configuration};
use crate::api::v1alpha1::{EcrRepositorySyncStatus as Status, condition};
use crate::class::Class;
use crate::controller::conditions::{Conditions, Is, find};
use crate::controller::reason::Reason;
use crate::sync::{ArtifactKind, Report};

/// Returns the conditions after a pass.
pub(super) fn conditions(
    old: &Status,
    generation: i64,
    report: &Report,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    ready(&mut conditions, old, generation, report);
    repository_ready(&mut conditions, old, report);
    configuration::synced(&mut conditions, old, generation, report);

    for kind in [ArtifactKind::Image, ArtifactKind::Chart] {
        match report.artifact(kind) {
            Some(artifact) => artifact::synced(&mut conditions, artifact, report.dry_run),
            None if report.failure.is_some() => conditions.keep(artifact::condition_of(kind)),
            None => {}
        }
    }

    conditions.finish()
}

/// Whether the resource was Ready with this generation.
pub(in crate::controller) fn was_ready(old: &Status, generation: i64) -> bool {
    find(&old.conditions, condition::READY).is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == Some(generation)
    })
}

fn ready(conditions: &mut Conditions<'_>, old: &Status, generation: i64, report: &Report) {
    if report.dry_run && report.is_success() {
        let message = match report.changes.len() {
            0 => "dry run: no change would be made".to_owned(),
            changes => format!("dry run: {changes} changes would be made, see status.plan"),
        };
        conditions.set(condition::READY, Is::Unknown, Reason::DryRun, &message);
        return;
    }
    if report.is_success() {
        conditions.set(condition::READY, Is::True, Reason::Succeeded, &success(report));
        return;
    }
    if was_ready(old, generation) && may_be_complete(report) {
        conditions.keep(condition::READY);
        return;
    }

    let (reason, message) = first_problem(report);
    conditions.set(condition::READY, Is::False, reason, &message);
    if report.failures().all(|failure| failure.class.needs_a_person()) {
        conditions.set(condition::STALLED, Is::True, reason, &message);
    } else {
        conditions.set(condition::RECONCILING, Is::True, Reason::ProgressingWithRetry, &message);
    }
}

fn success(report: &Report) -> String {
    let repository = report.repository.as_ref();
    let uri = repository.map_or("the repository", |(repository, _)| &repository.uri);
    let counts: Vec<_> = report.artifacts.iter().map(artifact::summary).collect();
    match counts.as_slice() {
        [] => format!("{uri} is as specified"),
        counts => format!("{} in {uri}", counts.join(" and ")),
    }
}

/// Whether everything may still be in ECR although the pass failed.
fn may_be_complete(report: &Report) -> bool {
    report.failure.as_ref().is_none_or(|failure| failure.class.is_passing())
        && report.configuration.is_empty()
        && report.artifacts.iter().all(|artifact| {
            artifact.is_all_there()
                && artifact.listing.as_ref().is_none_or(|failure| failure.class.is_passing())
        })
}

fn first_problem(report: &Report) -> (Reason, String) {
    if let Some(failure) = &report.failure {
        return (Reason::Failed(failure.class), failure.message.clone());
    }
    if let Some((reason, message)) = configuration::problem(&report.configuration) {
        return (reason, message);
    }
    let mut problems = report
        .artifacts
        .iter()
        .filter(|artifact| artifact.listing.is_some() || artifact.failures().next().is_some());
    problems
        .next()
        .map_or_else(|| (Reason::Failed(Class::Internal), String::new()), artifact::problem)
}

fn repository_ready(conditions: &mut Conditions<'_>, old: &Status, report: &Report) {
    let type_ = condition::REPOSITORY_READY;
    if let Some((repository, _)) = &report.repository {
        conditions.set(type_, Is::True, Reason::Succeeded, &repository.arn);
    } else if let Some(failure) = &report.failure {
        let may_exist = old.repository.is_some() && failure.class != Class::RepositoryNotOwned;
        let is = if may_exist { Is::Unknown } else { Is::False };
        conditions.set(type_, is, Reason::Failed(failure.class), &failure.message);
    }
}
