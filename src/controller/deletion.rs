//! The finalizer that makes a resource wait for the deletion of its repository.
//!
//! Only resources that delete their repository have the finalizer. A resource with
//! `deletionPolicy: Retain` is deleted without the operator, even if the operator, AWS or the
//! credentials do not work.

use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::action::Action;
use super::api::{ApiError, in_time};
use super::error::Error;
use super::events::Note;
use super::guarded::Guarded;
use super::publish;
use super::reason::Reason;
use super::subject::Subject;
use crate::api::v1alpha1::{DeletionPolicy, EcrRepositorySync};
use crate::sync::{Deletion, Failure};

/// Holds the resource until its repository is deleted.
const FINALIZER: &str = "ecr-sync.io/repository";

/// Whether the resource has the finalizer.
pub(super) fn is_held(subject: &Subject<'_>) -> bool {
    subject.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn retains(subject: &Subject<'_>) -> bool {
    subject.object.spec.deletion_policy == DeletionPolicy::Retain
}

/// Adds the finalizer, before anything is created that the deletion has to remove. A dry run
/// creates nothing and adds none.
///
/// # Errors
/// The answer of the API server.
pub(super) async fn hold(subject: &Subject<'_>) -> Result<(), Error> {
    if retains(subject) || subject.is_dry_run() || is_held(subject) {
        return Ok(());
    }
    let mut finalizers = subject.object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    set_finalizers(subject, &finalizers).await
}

/// Removes the finalizer from a resource that keeps its repository, even if the resource is
/// suspended or in conflict: its deletion must not need the operator.
///
/// # Errors
/// The answer of the API server.
pub(super) async fn unhold(subject: &Subject<'_>) -> Result<(), Error> {
    if !retains(subject) || !is_held(subject) {
        return Ok(());
    }
    set_finalizers(subject, &others(subject)).await
}

/// Removes the finalizer of a resource that is being deleted. The event is written first:
/// afterwards the namespace may be gone.
///
/// # Errors
/// The answer of the API server.
pub(super) async fn release(subject: &Subject<'_>, note: Note) -> Result<Action, Error> {
    publish::events(subject, vec![note]).await;
    set_finalizers(subject, &others(subject)).await?;
    Ok(Action::await_change())
}

/// The finalizers of others.
fn others(subject: &Subject<'_>) -> Vec<String> {
    let finalizers = subject.object.finalizers().iter();
    finalizers.filter(|finalizer| *finalizer != FINALIZER).cloned().collect()
}

/// Returns the event that says why the repository is kept, if it is.
pub(super) fn retained(subject: &Subject<'_>) -> Option<Note> {
    let why = if retains(subject) {
        "(deletionPolicy: Retain)".to_owned()
    } else if subject.is_dry_run() {
        "because a dry run writes nothing".to_owned()
    } else {
        format!("because EcrRepositorySync {} uses it", subject.winner()?)
    };
    let text = format!("kept repository {} {why}", subject.object.repository());
    Some(Note::normal(Reason::Retained.as_str(), text))
}

/// Returns why the repository cannot be deleted, if it cannot.
pub(super) fn blocked(subject: &Subject<'_>) -> Option<Failure> {
    let failure = subject.moved()?;
    let message = format!(
        "{}; or set deletionPolicy: Retain to delete the resource and keep the repository",
        failure.message
    );
    Some(Failure::new(failure.class, message))
}

/// The event of a deletion that was carried out.
pub(super) fn note(deletion: &Deletion) -> Note {
    match deletion {
        Deletion::Deleted { .. } | Deletion::Gone { .. } => {
            Note::normal(Reason::Deleted.as_str(), deletion.to_string())
        }
        Deletion::NotOurs { .. } => Note::warning(Reason::Retained.as_str(), deletion.to_string()),
    }
}

/// Replaces the finalizers, if nobody has changed them meanwhile.
async fn set_finalizers(subject: &Subject<'_>, finalizers: &[String]) -> Result<(), Error> {
    let failed = |cause| Error::Finalizer { object: subject.path(), cause };
    let before = match subject.object.finalizers() {
        [] => json!(null),
        finalizers => json!(finalizers),
    };

    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": subject.uid},
        {"op": "test", "path": "/metadata/finalizers", "value": before},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|error| failed(ApiError::Kube(kube::Error::SerdeError(error))))?;

    let api: Api<Guarded<PartialObjectMeta<EcrRepositorySync>>> =
        Api::namespaced(subject.context.client.clone(), &subject.namespace);
    let params = PatchParams::default();
    let patch = Patch::<()>::Json(patch);
    match in_time(api.patch(&subject.name, &params, &patch)).await {
        Ok(patched) => {
            // The next status must be based on this version, which the store does not have yet.
            subject.remember(patched.resource_version(), subject.status());
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(cause) => Err(failed(cause)),
    }
}
