//! Values that all reconciles share.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use kube_runtime::watcher::Event;
use tokio_util::sync::CancellationToken;

use super::claims::Claims;
use super::identities::Identities;
use super::key::Key;
use super::memory::Memories;
use super::options::{Options, Process};
use super::pool::Pool;
use super::secret_index::SecretIndex;
use super::shards::Unlisted;
use super::store::Store;
use super::wakes::Wakes;
use crate::api::v1alpha1::{EcrRepositorySync, EcrRepositorySyncStatus as Status};
use crate::ecr::{Identity, Location};
use crate::spec::Registry;
use crate::sync::Engine;
use crate::telemetry::Metrics;

/// Values that all reconciles share.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: Metrics,
    pub(super) process: Process,
    pub(super) options: Options,
    pub(super) pool: Pool,
    /// All resources, as the watch shows them.
    pub(super) store: Store,
    pub(super) memories: Memories,
    pub(super) claims: Claims,
    pub(super) identities: Identities,
    pub(super) secret_index: SecretIndex,
    /// The resources that are reconciled next.
    pub(super) wakes: Wakes,
    pub(super) unlisted: Unlisted,
}

impl Context {
    pub(super) fn new(
        client: Client,
        engine: Arc<Engine>,
        metrics: Metrics,
        process: Process,
        options: Options,
        stop: &CancellationToken,
    ) -> Self {
        let wakes = Wakes::default();
        let pool = Pool::new(options.max_jobs, stop.child_token(), wakes.clone());

        Self {
            identities: Identities::new(client.clone()),
            client,
            engine,
            metrics,
            process,
            options,
            pool,
            store: Store::default(),
            memories: Memories::default(),
            claims: Claims::default(),
            secret_index: SecretIndex::default(),
            wakes,
            unlisted: Unlisted::default(),
        }
    }

    /// Handles an event of the watch. Resources that need a reconcile are woken; deleted resources
    /// are forgotten, and never reach one.
    pub(super) fn observe(&self, event: Event<EcrRepositorySync>) {
        match event {
            Event::Apply(object) => self.wakes.wake_first(self.put(object)),
            Event::InitApply(object) => self.wakes.wake(self.put(object)),
            Event::Delete(object) => self.forget(&object),
            Event::Init => self.store.begin_list(),
            // A resource that was deleted while the watch was down is not in the new list.
            Event::InitDone => {
                for key in self.store.end_list() {
                    self.wakes.forget(&key);
                }
                let uids = self.store.uids();
                self.memories.retain(|uid| uids.contains(uid));
                self.pool.retain(|uid| uids.contains(uid));
                self.wakes.wake(self.claims.retain(|uid| uids.contains(uid)));
                self.secret_index.retain(|uid| uids.contains(uid));
                self.metrics.resources.retain(|uid| uids.contains(uid));
            }
        }
    }

    /// Records a resource as the API server has it, and cancels its job if that is outdated. Returns
    /// its key if it needs a reconcile.
    fn put(&self, object: EcrRepositorySync) -> Option<Key> {
        let key = self.store.key(&object);
        let uid = object.uid().unwrap_or_default();
        self.memories.add(&uid);
        // A deletion is another generation, and is carried out while suspended.
        if object.spec.suspend && object.metadata.deletion_timestamp.is_none() {
            self.pool.cancel(&uid);
        }
        self.pool.cancel_outdated(&uid, object.metadata.generation.unwrap_or_default());
        self.claims.record(&key, &object);
        self.secret_index.record(&key, &object);
        self.show(&object, &uid);
        let changed = self.store.put(key.clone(), object);
        self.catch_up(&key, &uid);
        changed
    }

    /// Drops the last write of a resource if the store has caught up with it. A reconcile that runs
    /// may have an older version and needs it; this is called again at its end.
    pub(super) fn catch_up(&self, key: &Key, uid: &str) {
        if !self.wakes.is_running(key) {
            self.memories.caught_up(uid, self.store.version(key));
        }
    }

    /// Forgets a resource and cancels its job: it does not exist, or others work on it.
    pub(super) fn forget(&self, object: &EcrRepositorySync) {
        let key = Key::of(object);
        let uid = object.uid().unwrap_or_default();
        self.store.remove(&key);
        self.wakes.forget(&key);
        // Before the job is cancelled: a reconcile that submits one now sees it.
        self.memories.forget(&uid);
        self.pool.cancel(&uid);
        self.secret_index.forget(&uid);
        self.metrics.resources.forget(&uid);
        self.wakes.wake(self.claims.forget(object));
    }

    /// Shows a resource in the metrics, as the API server has it.
    fn show(&self, object: &EcrRepositorySync, uid: &str) {
        let none = Status::default();
        let state = self.options.state(object, object.status.as_ref().unwrap_or(&none));
        self.metrics.resources.set(uid, state);
    }

    /// Handles every event of the watch of Secrets: a changed Secret makes passes due at once.
    pub(super) fn observe_secret(&self, event: &Event<PartialObjectMeta<Secret>>) {
        for (uid, object) in self.secret_index.observe(event) {
            tracing::debug!(%object, "a Secret of this resource changed");
            self.memories.wake(&uid);
            self.wakes.wake([object]);
        }
    }

    /// Makes the next pass of each resource due whose last one failed.
    pub(super) fn wake_failed(&self) {
        self.wakes.wake(self.store.keys(|uid| self.memories.wake_failed(uid)));
    }

    /// Makes the passes of these resources due that wait for their source.
    pub(super) fn ask_sources(&self, uids: &HashSet<String>) {
        if uids.is_empty() {
            return;
        }
        uids.iter().for_each(|uid| self.memories.ask_source(uid));
        self.wakes.wake(self.store.keys(|uid| uids.contains(uid)));
    }

    /// Returns account and region of a registry that a resource of `namespace` names, as far as
    /// they are known without a request, and the ServiceAccount that must be read to know the
    /// account.
    pub(super) fn resolve(
        &self,
        namespace: &str,
        registry: &Registry,
    ) -> (Location, Option<(String, String)>) {
        let location = registry.location.clone();
        match self.identities.known(namespace, registry) {
            Ok(identity) => (self.engine.resolve_location(&location, &identity), None),
            // The account is unknown, but it is not the operator's.
            Err(unread) => {
                let resolved = self.engine.resolve_location(&location, &Identity::default());
                let unread = location.account.is_none().then_some(unread);
                (Location { account: location.account, region: resolved.region }, unread)
            }
        }
    }
}
