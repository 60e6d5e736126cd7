//! Publication of results: status, events, series of metrics, log lines.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};

use super::api::in_time;
use super::conditions::{find, truncated};
use super::error::Error;
use super::events::{self, Note};
use super::reason::Reason;
use super::status::{self, Stamp};
use super::subject::Subject;
use crate::api::v1alpha1::{EcrRepositorySync, EcrRepositorySyncStatus as Status, condition};
use crate::class::Class;
use crate::failure::Failure;
use crate::sync::{Field, Report};

/// Field manager of the status.
const MANAGER: &str = "ecr-sync";
/// Longest note that the API server accepts.
const MAX_NOTE: usize = 1024;

/// Turns the report of a pass that ended at `time` into status and events, and writes the changes.
///
/// # Errors
/// The answer of the API server, if it did not take the status.
pub(super) async fn write(
    subject: &Subject<'_>,
    report: &Report,
    time: Timestamp,
) -> Result<(), Error> {
    if report.failure.as_ref().is_some_and(|failure| failure.class == Class::Cancelled) {
        return Ok(()); // shutting down: the next process starts over
    }
    let old = subject.status();
    let stamp = Stamp {
        generation: subject.generation,
        region: subject.location().region.unwrap_or_default(),
        handled: subject
            .memory(|memory| memory.answering.as_ref().map(|request| request.value.clone())),
        basis: subject.basis(),
        drift_interval: subject.drift_interval(),
    };
    let new = status::finished(&old, &stamp, report, time);
    let notes = events::transitions(&old, &new, report);

    show(subject, &new);
    patch(subject, &old, new).await?;

    let metrics = &subject.context.metrics;
    if status::was_ready(&old, subject.generation) && !report.dry_run {
        metrics.drift_corrected(report.brought_about());
    }
    metrics.drift_detected(new_drift(&old, report));
    events(subject, notes).await;
    Ok(())
}

/// Fields whose drift the old status does not report.
fn new_drift<'r>(old: &Status, report: &'r Report) -> impl Iterator<Item = Field> + use<'r> {
    let reported = find(&old.conditions, condition::CONFIGURATION_SYNCED)
        .filter(|condition| condition.reason == Reason::DriftDetected.as_str())
        .map(|condition| condition.message.clone())
        .unwrap_or_default();
    let new = report.drift.iter().filter(move |drift| !reported.contains(&drift.to_string()));
    new.chain(&report.corrected).map(|drift| drift.field)
}

/// Writes a status that differs from the old one.
///
/// # Errors
/// The answer of the API server. A deleted resource is no error.
pub(super) async fn patch(subject: &Subject<'_>, old: &Status, new: Status) -> Result<(), Error> {
    if *old == new {
        return Ok(());
    }

    let version = match subject.written() {
        Some(written) => written.version,
        None => subject.object.resource_version(),
    };
    let (params, patch) = applied(version.as_deref(), &new);
    let metrics = &subject.context.metrics;
    match in_time(subject.api().patch_status(&subject.name, &params, &patch)).await {
        Ok(object) => {
            metrics.status_writes.inc();
            subject.remember(object.resource_version(), new);
            subject.memory(|memory| memory.accepted());
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        // A conflict is retried too: the watch is about to show the change.
        Err(cause) => {
            // The pass has ended, so the operator is not stuck, only the API server. A restart would
            // end copies for nothing.
            metrics.liveness.finished();
            Err(Error::Status { object: subject.path(), cause })
        }
    }
}

/// Returns the patch that applies a status to the object of this version.
pub(super) fn applied(
    version: Option<&str>,
    status: &Status,
) -> (PatchParams, Patch<serde_json::Value>) {
    let patch = Patch::Apply(serde_json::json!({
        "apiVersion": EcrRepositorySync::api_version(&()),
        "kind": EcrRepositorySync::kind(&()),
        // The version keeps the status from a later object of the same name: the API server does
        // not compare a UID here.
        "metadata": {"resourceVersion": version},
        "status": status,
    }));
    (PatchParams::apply(MANAGER).force(), patch)
}

/// Shows the status of a resource in the metrics, before the API server has it.
pub(super) fn show(subject: &Subject<'_>, status: &Status) {
    let Subject { context, object, uid, .. } = subject;
    context.metrics.resources.update(uid, context.options.state(object, status));
}

pub(super) fn log(subject: &Subject<'_>, report: &Report) {
    let Subject { namespace, name, .. } = subject;
    if !report.changes.is_empty() {
        tracing::info!(namespace, name, changes = report.changes.join("; "), "synced");
    }

    for failure in report.failures() {
        let Failure { class, message, .. } = failure;
        tracing::warn!(namespace, name, class = class.reason(), message, "not synced");
    }

    if let Some(blocked) = report.pruning_blocked() {
        let Failure { class, message, .. } = blocked;
        tracing::warn!(namespace, name, class = class.reason(), message, "not pruned");
    }

    for advice in &report.warnings {
        tracing::info!(namespace, name, advice, "advice");
    }
    if report.changes.is_empty() && report.is_success() {
        tracing::debug!(namespace, name, "nothing to do");
    }
}

/// Writes events. An event that cannot be written is logged and does not fail the reconcile.
pub(super) async fn events(subject: &Subject<'_>, notes: Vec<Note>) {
    let Subject { context, namespace, name, .. } = subject;
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    for note in notes {
        if !context.memories.may_publish(&subject.uid) {
            let Note { reason, text, .. } = &note;
            tracing::debug!(namespace, name, reason, text, "event skipped: too many events");
            continue;
        }

        let event = event(subject, &note);
        if let Err(error) = in_time(api.create(&PostParams::default(), &event)).await {
            tracing::warn!(namespace, name, %error, reason = note.reason, "cannot write an event");
        }
    }
}

pub(super) fn event(subject: &Subject<'_>, note: &Note) -> Event {
    let metadata = &subject.object.metadata;
    Event {
        metadata: ObjectMeta {
            generate_name: Some("ecr-sync-".to_owned()),
            namespace: Some(subject.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Sync".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(truncated(&note.text, MAX_NOTE)),
        reason: Some(note.reason.clone()),
        regarding: Some(ObjectReference {
            api_version: Some(EcrRepositorySync::api_version(&()).into_owned()),
            kind: Some(EcrRepositorySync::kind(&()).into_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("ecr-sync.io/controller".to_owned()),
        reporting_instance: Some(subject.context.process.instance.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}
