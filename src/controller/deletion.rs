//! A resource that is being deleted, and the finalizer that makes it wait for its repository.
//!
//! Only resources whose repository goes with them carry the finalizer: `Retain` is deleted without
//! us, whatever state we, AWS or the credentials are in.

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use kube_runtime::controller::Action;
use serde_json::json;

use super::context::{ApiError, Context, in_time};
use super::events::{self, Note};
use super::jobs::Job as Work;
use super::memory::Written;
use super::reason::Reason;
use super::reconcile::{self, Error};
use crate::api::v1alpha1::{DeletionPolicy, EcrRepositorySync};
use crate::spec::validation;
use crate::sync::{Deletion, Failure, Report};

/// Held until the repository is gone.
pub(super) const FINALIZER: &str = "ecr-sync.io/repository";

fn has_finalizer(object: &EcrRepositorySync) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Whether nothing at all may be written for this resource.
fn is_dry_run(object: &EcrRepositorySync, context: &Context) -> bool {
    context.options.dry_run || object.spec.dry_run
}

/// Adds the finalizer, before anything is created that it shall clean up. In a dry run nothing is
/// created, so nothing is added.
///
/// # Errors
/// As the API server answers.
pub(super) async fn hold(object: &EcrRepositorySync, context: &Context) -> Result<(), Error> {
    let retained = object.spec.deletion_policy == DeletionPolicy::Retain;
    if retained || is_dry_run(object, context) || has_finalizer(object) {
        return Ok(());
    }
    let finalizers: Vec<_> =
        object.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
    set_finalizers(object, context, &finalizers).await
}

/// Takes the finalizer off a resource whose repository stays, also of one that is suspended or in
/// conflict: its deletion shall not need us.
///
/// # Errors
/// As the API server answers.
pub(super) async fn free(object: &EcrRepositorySync, context: &Context) -> Result<(), Error> {
    if object.spec.deletion_policy != DeletionPolicy::Retain || !has_finalizer(object) {
        return Ok(());
    }
    set_finalizers(object, context, &others(object)).await
}

/// The finalizers of others.
fn others(object: &EcrRepositorySync) -> Vec<String> {
    object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect()
}

/// What a resource that is being deleted still needs.
///
/// # Errors
/// As the API server answers.
pub(super) async fn finish(object: &EcrRepositorySync, context: &Context) -> Result<Action, Error> {
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    if !has_finalizer(object) {
        context.jobs.cancel(&uid);
        return Ok(Action::await_change());
    }
    let name = object.repository();
    let stays = if object.spec.deletion_policy == DeletionPolicy::Retain {
        Some(Note::normal(
            Reason::Retained.as_str(),
            format!("repository {name} stays (deletionPolicy: Retain)"),
        ))
    } else if is_dry_run(object, context) {
        Some(Note::normal(
            Reason::Retained.as_str(),
            format!("repository {name} stays: nothing is written in a dry run"),
        ))
    } else if let Some(winner) = reconcile::winner(object, context) {
        let text = format!("repository {name} stays: it is kept by EcrRepositorySync {winner}");
        Some(Note::normal(Reason::Retained.as_str(), text))
    } else {
        None
    };
    if let Some(note) = stays {
        context.jobs.cancel(&uid);
        return release(object, context, note).await;
    }
    if let Some(failure) = reconcile::moved(object, context) {
        context.jobs.cancel(&uid);
        let advice = format!(
            "{}; or set deletionPolicy to Retain and the resource goes without it",
            failure.message
        );
        let report = Report::failed(Failure::new(failure.class, advice));
        reconcile::log(object, &report);
        reconcile::write(object, context, &report, Timestamp::now()).await?;
        return Ok(Action::requeue(reconcile::CONFLICT_CHECK));
    }
    reconcile::take_requests(object, context);
    match context.jobs.poll(&uid, generation) {
        Work::Running => Ok(Action::await_change()),
        Work::None => reconcile::start(object, context, &uid, generation).await,
        Work::Finished(report) => {
            reconcile::log(object, &report);
            if let Some(deletion) = &report.deletion {
                return release(object, context, note_of(deletion)).await;
            }
            reconcile::write(object, context, &report, Timestamp::now()).await?;
            let interval = validation::interval(&object.spec).unwrap_or(validation::MAX_INTERVAL);
            Ok(Action::requeue(
                context
                    .memories
                    .with(&uid, generation, |memory| memory.finished(&report, interval)),
            ))
        }
    }
}

fn note_of(deletion: &Deletion) -> Note {
    match deletion {
        Deletion::Deleted { .. } | Deletion::Gone { .. } => {
            Note::normal(Reason::Deleted.as_str(), deletion.to_string())
        }
        Deletion::NotOurs { .. } => Note::warning(Reason::Retained.as_str(), deletion.to_string()),
    }
}

/// Lets the resource go. The event comes first: afterwards there may be no namespace to write it
/// to.
async fn release(
    object: &EcrRepositorySync,
    context: &Context,
    note: Note,
) -> Result<Action, Error> {
    events::publish(context, object, vec![note]).await;
    set_finalizers(object, context, &others(object)).await?;
    Ok(Action::await_change())
}

/// Replaces the finalizers, if they are still those that we saw.
async fn set_finalizers(
    object: &EcrRepositorySync,
    context: &Context,
    finalizers: &[String],
) -> Result<(), Error> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let resources: Api<EcrRepositorySync> = Api::namespaced(context.client.clone(), &namespace);
    let seen =
        if object.finalizers().is_empty() { json!(null) } else { json!(object.finalizers()) };
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": object.uid()},
        {"op": "test", "path": "/metadata/finalizers", "value": seen},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|error| Error::Finalizer {
            object: format!("{namespace}/{name}"),
            cause: ApiError::Kube(kube::Error::SerdeError(error)),
        })?;
    match in_time(resources.patch_metadata(
        &name,
        &PatchParams::default(),
        &Patch::<()>::Json(patch),
    ))
    .await
    {
        Ok(patched) => {
            // The status that is written next must be based on this version, which the reflector
            // does not have yet.
            let status = reconcile::current_status(object, context);
            let uid = object.uid().unwrap_or_default();
            let generation = object.metadata.generation.unwrap_or_default();
            let (based_on, version) = (object.resource_version(), patched.resource_version());
            context.memories.with(&uid, generation, |memory| {
                memory.written = Some(Written { based_on, version, status });
            });
            Ok(())
        }
        Err(ApiError::Kube(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
        Err(cause) => Err(Error::Finalizer { object: format!("{namespace}/{name}"), cause }),
    }
}

/// What a job that deletes reports.
pub(super) fn report(result: Result<Deletion, Failure>) -> Report {
    match result {
        Ok(deletion) => Report::deleted(deletion),
        Err(failure) => Report::failed(failure),
    }
}
