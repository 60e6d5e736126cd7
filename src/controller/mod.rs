//! The controller: watches the resources, runs one pass of the engine per resource when it is due,
//! writes status and events.
//!
//! ```text
//! watch -> reflector -> reconcile (short: decide, submit a job or take its report, write status once)
//!                          ^   |
//!                 finished |   v submit
//!                       job pool (bounded; everything that talks to AWS or a registry)
//! ```

mod api;
mod backoff;
mod claims;
mod conditions;
mod context;
mod deletion;
mod error;
mod events;
mod identities;
mod job;
mod memory;
mod options;
mod pool;
mod publish;
mod reason;
mod reconcile;
mod requests;
mod secret_index;
mod secrets;
mod status;
mod subject;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use kube_runtime::controller::{Config, Controller};
use kube_runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::EcrRepositorySync;
use crate::hash::hash;
use crate::sync::Engine;
use crate::telemetry::Metrics;

use context::Context;
use requests::Requests;

pub(crate) use api::LiveOwners;
pub(crate) use identities::LiveTokens;
pub(crate) use options::{Options, Process};
pub use reason::Reason;

/// Runs until `stop` is cancelled, then waits for running reconciles; jobs are cancelled.
pub(crate) async fn run(
    client: Client,
    engine: Arc<Engine>,
    metrics: Metrics,
    process: Process,
    options: Options,
    stop: CancellationToken,
) {
    let resources: Api<DeserializeGuard<EcrRepositorySync>> = match &options.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let secrets: Option<Api<PartialObjectMeta<Secret>>> =
        options.watch_secrets.then(|| match &options.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        });
    let concurrency = options.concurrency;
    let mut watched = watcher::Config::default().page_size(500);
    if let Some(labels) = &options.label_selector {
        watched = watched.labels(labels);
    }
    let (store, writer) = reflector::store();
    let (context, finished) = Context::new(client, engine, metrics, process, options, &stop);
    let context = Arc::new(context);

    let observer = context.clone();
    let events = watch::lasting(
        move || decodable(watcher(resources.clone(), watched.clone())),
        |error| tracing::warn!(%error, "watch failed; retried"),
    );
    let reflected = events
        .map(Ok)
        .modify(strip)
        .inspect_ok(move |event| observer.observe(event))
        .reflect(writer);
    let triggers = watch::applied(reflected)
        .predicate_filter(predicates::generation.combine(requested), PredicateConfig::default());
    let watching_due = tokio::spawn(watch_due(context.clone()));
    let watching_secrets =
        secrets.map(|secrets| tokio::spawn(watch_secrets(secrets, context.clone(), stop.clone())));

    Controller::for_stream(triggers, store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(finished)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            reconcile::reconcile,
            |object, _, context| reconcile::on_error(&object, &context),
            context.clone(),
        )
        .for_each(|result| {
            // A resource that was deleted while it was queued is no error.
            if let Err(error) = result
                && !matches!(error, kube_runtime::controller::Error::ObjectNotFound(_))
            {
                tracing::warn!(error = %error, "reconcile failed; retried");
            }
            future::ready(())
        })
        .await;
    context.pool.finish().await;
    watching_due.abort();
    if let Some(watching) = watching_secrets {
        watching.abort();
    }
}

/// Notes since when work is due, for the gauge and for /healthz.
async fn watch_due(context: Arc<Context>) {
    /// Fine enough for alerts, which go by minutes.
    const LOOK_EVERY: Duration = Duration::from_secs(5);
    loop {
        let waiting = [context.memories.oldest_due(), context.metrics.queue.oldest_waiting()];
        context.metrics.liveness.due_since(waiting.into_iter().flatten().min());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Changes when one of the annotations does that ask for a sync, and with the deletion.
fn requested(object: &EcrRepositorySync) -> Option<u64> {
    Some(hash((Requests::of(object), object.metadata.deletion_timestamp.is_some())))
}

/// Metadata only: the values of all Secrets of a cluster would be most of our memory, and none of
/// our business.
async fn watch_secrets(
    secrets: Api<PartialObjectMeta<Secret>>,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let events = watch::lasting(
        move || watcher(secrets.clone(), watcher::Config::default().page_size(500)),
        |error| tracing::warn!(%error, "cannot watch Secrets; retried. A changed Secret is used at the next pass"),
    );
    let observing = events.for_each(|event| {
        context.observe_secret(&event);
        future::ready(())
    });
    tokio::select! {
        () = observing => {}
        () = stop.cancelled() => {}
    }
}

/// Leaves out what cannot be decoded: one such object would fail the whole list, and all others
/// with it.
fn decodable(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<EcrRepositorySync>>>>
    + Send,
) -> impl Stream<Item = watcher::Result<watcher::Event<EcrRepositorySync>>> + Send {
    use watcher::Event;
    events.try_filter_map(|event| {
        let good = |guarded: DeserializeGuard<EcrRepositorySync>| match guarded.0 {
            Ok(object) => Some(object),
            Err(invalid) => {
                tracing::error!(
                    namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
                    name = invalid.metadata.name.as_deref().unwrap_or_default(),
                    error = invalid.error,
                    "this EcrRepositorySync cannot be decoded and is skipped; the others go on"
                );
                None
            }
        };
        future::ready(Ok(match event {
            Event::Apply(object) => good(object).map(Event::Apply),
            Event::Delete(object) => good(object).map(Event::Delete),
            Event::InitApply(object) => good(object).map(Event::InitApply),
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
        }))
    })
}

/// Managed fields and the last applied configuration are most of an object's size and nothing that
/// we read: 10,000 objects take 126 MiB without and 1 GiB with them.
fn strip(object: &mut EcrRepositorySync) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}
