//! The controller: watches the resources, runs a pass of the engine for each resource when one is
//! due, and writes status and events.
//!
//! ```text
//! watch -> store -> wakes -> reconcile (short: decide, submit a job or take its report, write
//!                     ^         |       status)
//!                     |         v submit
//!            finished |       queue (keys: by class, namespace, host)
//!                     |         v a place is free
//!                  job pool (everything that talks to AWS or a registry)
//! ```

mod action;
mod api;
mod backoff;
mod claims;
mod conditions;
mod context;
mod deletion;
mod error;
mod events;
#[cfg(test)]
mod footprint;
mod guarded;
mod identities;
mod job;
mod key;
mod list_page;
mod memory;
mod options;
mod pool;
mod publish;
mod queue;
mod reason;
mod reconcile;
mod requests;
mod resource_metrics;
mod runner;
mod secret_index;
mod secrets;
mod shards;
mod sources;
mod status;
mod store;
mod subject;
mod undecodable;
mod wakes;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::EcrRepositorySync;
use crate::ecr::Standing;
use crate::shard::Assignment;
use crate::sync::Engine;
use crate::telemetry::{Kind, Metrics};

use context::Context;

pub(crate) use api::{Cluster, brief};
pub(crate) use guarded::Guarded;
pub(crate) use options::{Options, Process};
pub use reason::Reason;
pub(crate) use resource_metrics::ResourceMetrics;

/// Runs until `stop` is cancelled. Then jobs are cancelled, and running reconciles are waited for.
/// With an assignment, the controller works on the resources of the assigned shards only.
pub(crate) async fn run(
    client: Client,
    engine: Arc<Engine>,
    metrics: Metrics,
    process: Process,
    options: Options,
    assignment: Option<Assignment>,
    stop: CancellationToken,
) {
    let namespace = options.namespace.clone();
    let resources: Api<Guarded<EcrRepositorySync>> = api(&client, namespace.as_deref());
    let secrets: Option<Api<Guarded<PartialObjectMeta<Secret>>>> =
        options.watch_secrets.then(|| api(&client, namespace.as_deref()));
    let labels = options.label_selector.clone();
    let watched = metrics.watches.watch(Kind::Resources);

    let context = Context::new(client, engine, metrics, process, options, &stop);
    let context = Arc::new(context);

    let again = Arc::new(Notify::new());
    let events = watch::events(resources, labels, watched, again.clone(), |error| {
        tracing::warn!(%error, "watch failed, retrying");
    });
    let events = match assignment {
        Some(assignment) => shards::own(events, context.clone(), assignment, again).boxed(),
        None => events.boxed(),
    };
    let watching = undecodable::decoded(events, context.clone()).for_each(|event| {
        context.observe(event);
        future::ready(())
    });

    let starting_jobs = tokio::spawn(job::start_in_turn(context.clone()));
    let reporting_slow_ones = tokio::spawn(job::report_slow_ones(context.clone()));
    let watching_due = tokio::spawn(watch_due(context.clone()));
    let watching_sources = tokio::spawn(sources::watch(context.clone()));
    let watching_identity = tokio::spawn(watch_identity(context.clone()));
    let watching_secrets =
        secrets.map(|secrets| tokio::spawn(watch_secrets(secrets, context.clone(), stop.clone())));

    tokio::select! {
        biased;
        () = watching => {}
        () = runner::run(&context, &stop) => {}
    }

    context.pool.finish().await;
    starting_jobs.abort();
    reporting_slow_ones.abort();
    watching_due.abort();
    watching_sources.abort();
    watching_identity.abort();
    if let Some(watching) = watching_secrets {
        watching.abort();
    }
}

/// The API of a kind, in one namespace or in all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Reports the oldest due work to the gauge and to /healthz.
async fn watch_due(context: Arc<Context>) {
    /// Precise enough for alerts, which count minutes.
    const CHECK_EVERY: Duration = Duration::from_secs(5);
    loop {
        let waiting = [context.memories.oldest_due(), context.metrics.queue.oldest_waiting()];
        let liveness = &context.metrics.liveness;
        liveness.due_since(waiting.into_iter().flatten().min());
        let is_full = context.metrics.queue.running() >= context.options.max_jobs;
        liveness.slots_are_taken(is_full.then_some(context.options.max_timeout));
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// Makes failed passes due again when AWS accepts the operator's identity after it was missing.
async fn watch_identity(context: Arc<Context>) {
    let mut standing = context.engine.standing();
    while standing.wait_for(Standing::is_missing).await.is_ok()
        && standing.wait_for(Standing::is_accepted).await.is_ok()
    {
        context.wake_failed();
    }
}

/// Watches the metadata of Secrets, not their values: the values of all Secrets of a cluster would
/// need most of the memory, and must not be read without need.
async fn watch_secrets(
    secrets: Api<Guarded<PartialObjectMeta<Secret>>>,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let watched = context.metrics.watches.watch(Kind::Secrets);
    let events = watch::events(secrets, None, watched, Arc::default(), |error| {
        tracing::warn!(
            %error,
            "cannot watch Secrets, retrying; a changed Secret is used at the next pass"
        );
    });

    let observing = events.for_each(|event| {
        context.observe_secret(&guarded::metadata(event));
        future::ready(())
    });

    tokio::select! {
        () = observing => {}
        () = stop.cancelled() => {}
    }
}
