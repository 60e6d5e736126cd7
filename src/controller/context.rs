//! What all reconciles share.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use kube_runtime::reflector::ObjectRef;
use kube_runtime::watcher::Event;
use tokio_util::sync::CancellationToken;

use super::claims::Claims;
use super::identities::Identities;
use super::jobs::Jobs;
use super::memory::Memories;
use super::references::References;
use super::{Identity as Process, Options};
use crate::api::v1alpha1::{EcrRepositorySync, Registry};
use crate::ecr::{Identity, Location, Owner};
use crate::sync::{Engine, OwnerLookup};
use crate::telemetry::Metrics;

/// kube sets no deadline on ordinary requests, and its own retries may take minutes.
const API_DEADLINE: Duration = Duration::from_secs(15);

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// As the API server or the client says. kube's own text repeats the answer as debug output.
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    /// No answer in time.
    #[error("the API server did not answer within {} s", API_DEADLINE.as_secs())]
    Late,
}

fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Runs a call to the API server with a deadline.
pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(API_DEADLINE, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Late),
    }
}

/// What all reconciles share.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: Metrics,
    pub(super) identity: Process,
    pub(super) options: Options,
    pub(super) jobs: Jobs,
    pub(super) memories: Memories,
    pub(super) claims: Claims,
    pub(super) identities: Arc<Identities>,
    pub(super) references: References,
    /// The uids of a list that is being received.
    listing: Mutex<HashSet<String>>,
    /// Objects to reconcile although nothing about them changed.
    wake: mpsc::UnboundedSender<ObjectRef<EcrRepositorySync>>,
}

impl Context {
    /// The context, and the stream of objects that it wants reconciled.
    pub(super) fn new(
        client: Client,
        engine: Arc<Engine>,
        metrics: Metrics,
        identity: Process,
        options: Options,
        stop: &CancellationToken,
    ) -> (Self, mpsc::UnboundedReceiver<ObjectRef<EcrRepositorySync>>) {
        let (wake, woken) = mpsc::unbounded();
        let jobs = Jobs::new(options.max_jobs, stop.child_token(), wake.clone());
        let context = Self {
            identities: Arc::new(Identities::new(client.clone())),
            client,
            engine,
            metrics,
            identity,
            options,
            jobs,
            memories: Memories::default(),
            claims: Claims::default(),
            references: References::default(),
            listing: Mutex::default(),
            wake,
        };
        (context, woken)
    }

    /// Sees every event of the watch, before the reflector does: what no longer applies is stopped
    /// at once, and what is gone is forgotten (a deleted object never reaches a reconcile).
    pub(super) fn observe(&self, event: &Event<EcrRepositorySync>) {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let uid = object.uid().unwrap_or_default();
                if matches!(event, Event::InitApply(_)) {
                    self.listing().insert(uid.clone());
                }
                // A deletion is another generation, and goes on while suspended.
                if object.spec.suspend && object.metadata.deletion_timestamp.is_none() {
                    self.jobs.cancel(&uid);
                }
                self.jobs.cancel_outdated(&uid, object.metadata.generation.unwrap_or_default());
                self.claims.note(object);
                self.references.note(object);
            }
            Event::Delete(object) => {
                let uid = object.uid().unwrap_or_default();
                self.jobs.cancel(&uid);
                self.memories.forget(&uid);
                self.references.forget(&uid);
                self.metrics.forget(&uid);
                self.wake(self.claims.forget(object));
            }
            Event::Init => self.listing().clear(),
            // What was deleted while we were not looking is not in the new list.
            Event::InitDone => {
                let listed = std::mem::take(&mut *self.listing());
                self.jobs.retain(|uid| listed.contains(uid));
                self.memories.retain(|uid| listed.contains(uid));
                self.wake(self.claims.retain(|uid| listed.contains(uid)));
                self.references.retain(|uid| listed.contains(uid));
                self.metrics.retain(|uid| listed.contains(uid));
            }
        }
    }

    /// Sees every event of the Secrets' watch: a changed Secret is a reason to look again at once.
    pub(super) fn observe_secret(&self, event: &Event<PartialObjectMeta<Secret>>) {
        for (uid, object) in self.references.observe(event) {
            tracing::debug!(%object, "a Secret that it refers to changed");
            self.memories.wake(&uid);
            // The receiver ends with the controller.
            let _gone = self.wake.unbounded_send(object);
        }
    }

    fn wake(&self, objects: Vec<ObjectRef<EcrRepositorySync>>) {
        for object in objects {
            // The receiver ends with the controller.
            let _gone = self.wake.unbounded_send(object);
        }
    }

    fn listing(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Account and region of a resource, as far as they are known without asking AWS.
    pub(super) fn location(&self, object: &EcrRepositorySync) -> Location {
        let registry = object.spec.registry.clone().unwrap_or_default();
        self.resolve(&object.namespace().unwrap_or_default(), &registry).0
    }

    /// Where a registry is that a resource of `namespace` names, as far as it is known without
    /// asking anybody, and the ServiceAccount that must be read to know its account.
    pub(super) fn resolve(
        &self,
        namespace: &str,
        registry: &Registry,
    ) -> (Location, Option<(String, String)>) {
        let location =
            Location { account: registry.account_id.clone(), region: registry.region.clone() };
        match self.identities.known(namespace, registry) {
            Ok(identity) => (self.engine.resolve_location(&location, &identity), None),
            // Whatever account it is: not the operator's.
            Err(unread) => {
                let resolved = self.engine.resolve_location(&location, &Identity::default());
                let unread = location.account.is_none().then_some(unread);
                (Location { account: location.account, region: resolved.region }, unread)
            }
        }
    }
}

/// Asks the API server whether the owner of a repository is still there.
pub struct LiveOwners {
    client: Client,
}

impl fmt::Debug for LiveOwners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveOwners").finish_non_exhaustive()
    }
}

impl LiveOwners {
    /// Looks owners up with `client`.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl OwnerLookup for LiveOwners {
    async fn is_gone(&self, owner: &Owner, repository: &str) -> bool {
        let resources: Api<EcrRepositorySync> =
            Api::namespaced(self.client.clone(), &owner.namespace);
        // Not allowed to look, or no answer: then the owner is alive, as far as we know.
        match in_time(resources.get_opt(&owner.name)).await {
            Ok(None) => true,
            // The name cannot be changed, but a resource of the same name may have come later.
            Ok(Some(object)) => object.repository() != repository,
            Err(error) => {
                let (namespace, name) = (&owner.namespace, &owner.name);
                tracing::warn!(%error, namespace, name, repository, "cannot see whether an owner is gone: it counts as alive");
                false
            }
        }
    }
}
