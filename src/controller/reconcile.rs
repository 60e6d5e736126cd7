//! One reconcile: short, decides what to do with an object and writes its status at most once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use kube_runtime::controller::Action;
use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::context::{ApiError, Context, in_time};
use super::events::{self, Note};
use super::jobs::{Job as Work, panic_text};
use super::memory::{Memory, Requests, Written, place_in};
use super::reason::Reason;
use super::secrets::Reader;
use super::status::Pass;
use super::{conditions, deletion, status};
use crate::api::v1alpha1::{
    EcrRepositorySync, EcrRepositorySyncStatus as Status, Ownership, RepositoryStatus, condition,
};
use crate::class::Class;
use crate::ecr::{Identity, Location, Owner};
use crate::spec::validation;
use crate::sync::{
    Access, Accesses, Before, Claim, Claimant, Engine, Failure, Job, Kept, Mode, Progress, Report,
};
use crate::telemetry::{Labels, Ticket};
use crate::tenancy::{Permit, Tenancy, Wish};

/// Field manager of what we write.
const MANAGER: &str = "ecr-sync";
/// A resource that lost a repository to another is woken when that one goes; this is for what no
/// event tells.
pub(super) const CONFLICT_CHECK: Duration = Duration::from_secs(300);

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The status was not written.
    #[error("cannot write the status of {object}: {cause}")]
    Status { object: String, cause: ApiError },
    /// The finalizer was not set or not removed.
    #[error("cannot write the finalizers of {object}: {cause}")]
    Finalizer { object: String, cause: ApiError },
    /// A defect.
    #[error("a defect of ecr-sync: {0}")]
    Panicked(String),
}

pub(super) async fn reconcile(
    object: Arc<EcrRepositorySync>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    // A panic would end the controller for all objects.
    let result = match AssertUnwindSafe(decide(&object, &context)).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            context.metrics.reconcile_panics.inc();
            Err(Error::Panicked(panic_text(panic.as_ref()).to_owned()))
        }
    };
    context.metrics.reconciled(result.is_ok(), started.elapsed());
    result
}

pub(super) fn on_error(object: &EcrRepositorySync, context: &Context) -> Action {
    let generation = object.metadata.generation.unwrap_or_default();
    Action::requeue(context.memories.with(
        &object.uid().unwrap_or_default(),
        generation,
        Memory::refused,
    ))
}

async fn decide(object: &EcrRepositorySync, context: &Context) -> Result<Action, Error> {
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    if object.metadata.deletion_timestamp.is_some() {
        return deletion::finish(object, context).await;
    }
    show(object, context, &object.status.clone().unwrap_or_default());
    deletion::free(object, context).await?;
    let was_suspended =
        context.memories.with(&uid, generation, |m| m.suspended.replace(object.spec.suspend));
    if object.spec.suspend {
        context.jobs.cancel(&uid);
        if was_suspended == Some(false) {
            let note = Note::normal(
                Reason::Suspended.as_str(),
                "no work is done until spec.suspend is false; nothing is removed",
            );
            events::publish(context, object, vec![note]).await;
        }
        return Ok(Action::await_change());
    }
    if let Some(failure) = conflict(object, context) {
        context.jobs.cancel(&uid);
        let report = Report::failed(failure);
        log(object, &report);
        write(object, context, &report, Timestamp::now()).await?;
        return Ok(Action::requeue(CONFLICT_CHECK));
    }
    deletion::hold(object, context).await?;
    take_requests(object, context);
    let ended = match context.jobs.poll(&uid, generation) {
        Work::Running => return Ok(Action::await_change()),
        Work::Finished(report) => {
            log(object, &report);
            Some((report, Timestamp::now()))
        }
        Work::None => context.memories.with(&uid, generation, |memory| memory.unwritten.take()),
    };
    let Some((report, time)) = ended else { return start(object, context, &uid, generation).await };
    if let Err(error) = write(object, context, &report, time).await {
        // Kept, not done again: what the pass changed belongs into the history and an event.
        context.memories.with(&uid, generation, |memory| memory.unwritten = Some((report, time)));
        return Err(error);
    }
    let interval = validation::interval(&object.spec).unwrap_or(validation::MAX_INTERVAL);
    let drift_interval =
        validation::drift_interval(&object.spec).unwrap_or(validation::MAX_INTERVAL);
    let wait = context.memories.with(&uid, generation, |memory| {
        memory.inspected(&report, &uid, drift_interval);
        memory.finished(&report, interval.min(drift_interval))
    });
    Ok(Action::requeue(wait))
}

/// Makes a pass due if an annotation asks for one.
pub(super) fn take_requests(object: &EcrRepositorySync, context: &Context) {
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let handled =
        object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
    context
        .memories
        .with(&uid, generation, |memory| memory.request(&Requests::of(object), handled));
}

/// Submits a job if one is due.
pub(super) async fn start(
    object: &EcrRepositorySync,
    context: &Context,
    uid: &str,
    generation: i64,
) -> Result<Action, Error> {
    let current = current_status(object, context);
    let ready = conditions::find(&current.conditions, condition::READY);
    let is_new = ready.is_none_or(|ready| ready.observed_generation != Some(generation));
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let now = Instant::now();
    let due = context.memories.with(uid, generation, |memory| {
        // After a restart everything is due at once: what is in order can wait a little.
        let first =
            if is_new || !is_ready { now } else { now + place_in(spread(object, context), uid) };
        *memory.due.get_or_insert(first)
    });
    if now < due {
        return Ok(Action::requeue(due - now));
    }
    if is_new && object.metadata.deletion_timestamp.is_none() {
        let progressing = status::progressing(&current, generation, Timestamp::now());
        patch_status(object, context, &current, progressing).await?;
    }
    let is_retry = context.memories.with(uid, generation, |memory| {
        memory.started();
        memory.failures > 0
    });
    let ticket = context.metrics.queue.add(is_retry);
    submit(object, context, uid, generation, ticket);
    Ok(Action::await_change())
}

fn spread(object: &EcrRepositorySync, context: &Context) -> Duration {
    let interval = validation::interval(&object.spec).unwrap_or(validation::MAX_INTERVAL);
    interval.min(context.options.startup_spread)
}

fn submit(
    object: &EcrRepositorySync,
    context: &Context,
    uid: &str,
    generation: i64,
    ticket: Ticket,
) {
    let engine = context.engine.clone();
    let (identities, tenancy) = (context.identities.clone(), context.options.tenancy.clone());
    let (client, fallback) = (context.client.clone(), context.options.registry_config.clone());
    let (mirrors, public_ecr_login) =
        (context.options.mirrors.clone(), context.options.public_ecr_login);
    let dry_run = context.options.dry_run || object.spec.dry_run;
    let mode = if dry_run { Mode::DryRun } else { Mode::Apply };
    let (pruned, current) = (object.clone(), current_status(object, context));
    let deletes = object.metadata.deletion_timestamp.is_some();
    let claimant = Claimant::Resource(claim(object, context, &current));
    let drift_interval =
        validation::drift_interval(&object.spec).unwrap_or(validation::MAX_INTERVAL);
    let (held, look, inspects, attempts, pruning) =
        context.memories.with(uid, generation, |memory| {
            let look = memory.look(drift_interval);
            (
                memory.held.clone(),
                look,
                memory.inspects(),
                memory.attempts.clone(),
                memory.pruning.clone(),
            )
        });
    let before = Before {
        held,
        look,
        inspects,
        attempts,
        pruning,
        configuration: current.configuration.clone(),
        vanished: status::vanished(&current, generation),
        rebuilt: status::rebuilt(&current),
        managed_tag_keys: current.managed_tag_keys.iter().cloned().collect(),
    };
    let metrics = context.metrics.clone();
    context.jobs.submit(
        ObjectRef::from_obj(object),
        uid,
        generation,
        ticket,
        move |stop| async move {
            let identity = match identities.read(&pruned).await {
                Ok(identity) => admit(&pruned, identity, &tenancy, &engine).await,
                Err(failure) => Err(failure),
            };
            let (access, mirrored) = match &identity {
                // A deletion reads no source.
                Ok(_) if deletes => {
                    (Accesses { image: Ok(Access::default()), chart: Ok(Access::default()) }, None)
                }
                Ok((identity, permit)) => {
                    let fallback = fallback.as_deref();
                    let mirrors = mirrors.map(|mirrors| mirrors.get()).unwrap_or_default();
                    let mirrors = &*mirrors;
                    let object = &pruned;
                    Reader {
                        client: &client,
                        fallback,
                        object,
                        identity,
                        permit,
                        mirrors,
                        public_ecr_login,
                    }
                    .accesses()
                    .await
                }
                // Nothing is read.
                Err(failure) => {
                    (Accesses { image: Err(failure.clone()), chart: Err(failure.clone()) }, None)
                }
            };
            let job = Job {
                name: pruned.name_any(),
                spec: pruned.spec.clone(),
                identity: identity.map(|(identity, _)| identity),
                claimant,
                access,
                mirrored,
                chart_source: current.chart.as_ref().map(|chart| chart.source.clone()),
                derived: status::known(&current),
                before,
                timeout: validation::timeout(&pruned.spec).unwrap_or(validation::MAX_INTERVAL),
                progress: Progress::default(),
            };
            let _watched = metrics.copies.watch(&job.progress);
            let report = if deletes {
                deletion::report(engine.delete(&job).await)
            } else {
                engine.sync(&job, mode, &stop).await
            };
            metrics.pass_finished(&report);
            report
        },
    );
}

/// Whether the namespace may use all that its resource names. Comes before any request that is made
/// for it; who the operator itself is may be asked of STS.
async fn admit(
    object: &EcrRepositorySync,
    identity: Identity,
    tenancy: &Tenancy,
    engine: &Engine,
) -> Result<(Identity, Permit), Failure> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut wish = Wish::default();
    if tenancy.restricts(&namespace) {
        let own = engine.own_location().await?;
        let registry = object.spec.registry.clone().unwrap_or_default();
        let location = Location { account: registry.account_id, region: registry.region };
        let location = engine.resolve_location(&location, &identity);
        wish = Wish {
            account: location.account,
            own_account: own.account,
            region: location.region,
            own_region: own.region,
            ..Wish::of(&name, &object.spec, &identity)?
        };
    }
    let permit = tenancy.permit(&namespace, &wish)?;
    drop(wish);
    Ok((identity, permit))
}

/// What the resource may do about the owner of its repository.
fn claim(object: &EcrRepositorySync, context: &Context, current: &Status) -> Claim {
    let kept = |repository: &RepositoryStatus| Kept {
        arn: repository.arn.clone(),
        created: repository.ownership == Ownership::Created,
    };
    Claim {
        owner: Owner {
            cluster: context.identity.cluster_id.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        },
        adoption: object.spec.adoption_policy,
        rules: context.options.owners.clone(),
        kept: current.repository.as_ref().map(kept),
    }
}

/// The resource that has the repository, if it is another one.
pub(super) fn winner(object: &EcrRepositorySync, context: &Context) -> Option<String> {
    context.claims.winner_over(object, |namespace, registry| {
        (
            context.resolve(namespace, registry),
            context.options.tenancy.admits(namespace, object.repository()),
        )
    })
}

/// Another resource has the repository, or it would move.
fn conflict(object: &EcrRepositorySync, context: &Context) -> Option<Failure> {
    let Some(winner) = winner(object, context) else { return moved(object, context) };
    Some(Failure::new(
        Class::Conflict,
        format!(
            "EcrRepositorySync {winner} is older and has the same repository: delete one of the two, or change its repositoryName"
        ),
    ))
}

/// An operator default changed, and the repository would be another one.
pub(super) fn moved(object: &EcrRepositorySync, context: &Context) -> Option<Failure> {
    let location = context.location(object);
    let before = object.status.as_ref()?.repository.as_ref()?;
    let moved = |now: &Option<String>, before: &str| now.as_ref().is_some_and(|now| now != before);
    (moved(&location.account, &before.registry_id) || moved(&location.region, &before.region)).then(|| {
        let show = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".to_owned());
        Failure::new(
            Class::Conflict,
            format!(
                "the repository is in account {} and region {}, but the specification or the operator's defaults now mean \
                 account {} and region {}: set spec.registry to the former, or create another EcrRepositorySync",
                before.registry_id,
                before.region,
                show(&location.account),
                show(&location.region)
            ),
        )
    })
}

/// Turns the report of a pass that ended at `time` into status and events, and writes what changed.
pub(super) async fn write(
    object: &EcrRepositorySync,
    context: &Context,
    report: &Report,
    time: Timestamp,
) -> Result<(), Error> {
    if report.failure.as_ref().is_some_and(|failure| failure.class == Class::Cancelled) {
        return Ok(()); // shutting down: the next process starts over
    }
    let old = current_status(object, context);
    let generation = object.metadata.generation.unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let region = context.location(object).region.unwrap_or_default();
    let handled = context.memories.with(&uid, generation, |memory| memory.answering.clone());
    let pass = Pass { handled, ..Pass::new(generation, &region) };
    let new = status::finished(&old, &pass, report, time);
    show(object, context, &new);
    let notes = events::transitions(&old, &new, report);
    patch_status(object, context, &old, new).await?;
    if status::was_ready(&old, generation) && !report.dry_run {
        context.metrics.drift_corrected(report.brought_about());
    }
    context.metrics.drift_detected(new_drift(&old, report));
    events::publish(context, object, notes).await;
    Ok(())
}

/// Fields that were not known to have drifted.
fn new_drift<'r>(old: &Status, report: &'r Report) -> impl Iterator<Item = &'static str> + use<'r> {
    let known = conditions::find(&old.conditions, condition::CONFIGURATION_SYNCED)
        .filter(|condition| condition.reason == Reason::DriftDetected.as_str())
        .map(|condition| condition.message.clone())
        .unwrap_or_default();
    let new = report.drift.iter().filter(move |drift| !known.contains(&drift.to_string()));
    new.chain(&report.corrected).map(|drift| drift.field)
}

/// The series of a resource, as its conditions are now.
fn show(object: &EcrRepositorySync, context: &Context, status: &Status) {
    let artifacts = || [&status.image, &status.chart].into_iter().flatten();
    let labels = Labels {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        repository: object.repository().to_owned(),
        suspended: object.spec.suspend,
        synced: artifacts().map(|artifact| artifact.synced).sum(),
        failed: artifacts().map(|artifact| artifact.desired - artifact.synced).sum(),
    };
    context.metrics.resources.set(&object.uid().unwrap_or_default(), &labels, &status.conditions);
}

pub(super) fn log(object: &EcrRepositorySync, report: &Report) {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    if !report.changes.is_empty() {
        tracing::info!(namespace, name, changes = report.changes.join("; "), "synced");
    }
    for failure in report.failures() {
        tracing::warn!(
            namespace,
            name,
            class = failure.class.reason(),
            message = failure.message,
            "not synced"
        );
    }
    if let Some(blocked) = report.pruning_blocked() {
        tracing::warn!(
            namespace,
            name,
            class = blocked.class.reason(),
            message = blocked.message,
            "not pruned"
        );
    }
    for advice in &report.warnings {
        tracing::info!(namespace, name, advice, "a person should know");
    }
    if report.changes.is_empty() && report.is_success() {
        tracing::debug!(namespace, name, "nothing to do");
    }
}

/// What we wrote last, while the reflector still shows the object that this was based on.
fn written(object: &EcrRepositorySync, context: &Context) -> Option<Written> {
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let written = context.memories.with(&uid, generation, |memory| memory.written.clone());
    written.filter(|written| object.resource_version() == written.based_on)
}

pub(super) fn current_status(object: &EcrRepositorySync, context: &Context) -> Status {
    written(object, context)
        .map_or_else(|| object.status.clone().unwrap_or_default(), |written| written.status)
}

async fn patch_status(
    object: &EcrRepositorySync,
    context: &Context,
    old: &Status,
    new: Status,
) -> Result<(), Error> {
    if *old == new {
        return Ok(());
    }
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let resources: Api<EcrRepositorySync> = Api::namespaced(context.client.clone(), &namespace);
    let based_on = object.resource_version();
    let version =
        written(object, context).map_or_else(|| based_on.clone(), |written| written.version);
    let patch = Patch::Apply(serde_json::json!({
        "apiVersion": EcrRepositorySync::api_version(&()),
        "kind": EcrRepositorySync::kind(&()),
        // An object of the same name that came after this one shall not get its status. (A uid here
        // is not looked at.)
        "metadata": {"resourceVersion": version},
        "status": new,
    }));
    let version =
        match in_time(resources.patch_status(&name, &PatchParams::apply(MANAGER).force(), &patch))
            .await
        {
            Ok(object) => object.resource_version(),
            // Deleted meanwhile: nothing to report to. A conflict is tried again: the watch is
            // about to show what changed.
            Err(ApiError::Kube(kube::Error::Api(error))) if error.is_not_found() => return Ok(()),
            Err(cause) => {
                // The attempt is over: what is stuck is the API server, and a restart would end
                // copies for nothing.
                context.metrics.liveness.finished();
                return Err(Error::Status { object: format!("{namespace}/{name}"), cause });
            }
        };
    context.metrics.status_writes.inc();
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    context.memories.with(&uid, generation, |memory| {
        memory.written = Some(Written { based_on, version, status: new });
        memory.accepted();
    });
    Ok(())
}
