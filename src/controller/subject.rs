//! The subject of a reconcile: one resource, with the context and the values that every step needs.

use std::sync::Arc;
use std::time::Duration;

use kube::{Api, ResourceExt};

use super::context::Context;
use super::guarded::Guarded;
use super::memory::{Memory, Written};
use super::requests::Requests;
use super::status;
use crate::api::v1alpha1::{
    EcrRepositorySync, EcrRepositorySyncStatus as Status, Ownership, RepositoryStatus,
};
use crate::class::Class;
use crate::ecr::{Location, Owner};
use crate::spec::{Intervals, Registry};
use crate::sync::{Claim, Claimant, Failure, RecordedRepository};
use crate::telemetry::Next;

/// One resource during one reconcile.
pub(super) struct Subject<'a> {
    pub(super) object: &'a EcrRepositorySync,
    pub(super) context: &'a Arc<Context>,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl<'a> Subject<'a> {
    pub(super) fn new(object: &'a EcrRepositorySync, context: &'a Arc<Context>) -> Self {
        Self {
            object,
            context,
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }

    /// Returns `namespace/name`, for messages.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The API of the resource's kind in its namespace. Guarded, since a patch that was accepted
    /// must not fail because of the object in the answer.
    pub(super) fn api(&self) -> Api<Guarded<EcrRepositorySync>> {
        Api::namespaced(self.context.client.clone(), &self.namespace)
    }

    /// Reads or changes the memory of the resource.
    pub(super) fn memory<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        self.context.memories.with(&self.uid, self.generation, change)
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether nothing may be written to ECR for the resource.
    pub(super) fn is_dry_run(&self) -> bool {
        self.context.options.dry_run || self.object.spec.dry_run
    }

    /// Time between two checks of the sources.
    pub(super) fn interval(&self) -> Duration {
        Intervals::of(&self.object.spec).check
    }

    /// Time between two checks of settings and policies.
    pub(super) fn drift_interval(&self) -> Duration {
        Intervals::of(&self.object.spec).drift
    }

    /// The status that was written last, while the store still has an older object; else the
    /// status of the object.
    pub(super) fn status(&self) -> Status {
        self.written()
            .map_or_else(|| self.object.status.clone().unwrap_or_default(), |last| last.status)
    }

    /// The last write, while the store still has the object that it was based on.
    pub(super) fn written(&self) -> Option<Box<Written>> {
        let written = self.memory(|memory| memory.written.clone());
        written.filter(|written| self.object.resource_version() == written.based_on)
    }

    /// Remembers a write that gave the object a new resource version.
    pub(super) fn remember(&self, version: Option<String>, status: Status) {
        let based_on = self.object.resource_version();
        self.memory(|memory| {
            memory.written = Some(Box::new(Written { based_on, version, status }))
        });
    }

    /// Records the next pass for the page `/schedule`.
    pub(super) fn schedule(&self, next: Next) {
        self.context.metrics.resources.next(&self.uid, next);
    }

    /// Makes a pass due if an annotation asks for one.
    pub(super) fn take_requests(&self) {
        let status = self.object.status.as_ref();
        let handled = status.and_then(|status| status.last_handled_reconcile_at.as_deref());
        self.memory(|memory| memory.request(&Requests::of(self.object), handled));
    }

    /// Account and region of the repository, as far as they are known without asking AWS.
    pub(super) fn location(&self) -> Location {
        let registry = Registry::of(self.object.spec.registry.as_ref());
        self.context.resolve(&self.namespace, &registry).0
    }

    /// The resource's rights against the owner of its repository.
    pub(super) fn claim(&self, status: &Status) -> Claim {
        let recorded = |repository: &RepositoryStatus| RecordedRepository {
            arn: repository.arn.clone(),
            created: repository.ownership == Ownership::Created,
        };

        Claim {
            owner: Owner {
                cluster: self.context.process.cluster_id.clone(),
                namespace: self.namespace.clone(),
                name: self.name.clone(),
            },
            generation: self.generation,
            adoption: self.object.spec.adoption_policy,
            may_adopt: self.context.options.adopts(&self.namespace, self.object.repository()),
            rules: self.context.options.owners.clone(),
            recorded: status.repository.as_ref().map(recorded),
        }
    }

    /// Returns the hash of the operator's options on which a drift check depends.
    pub(super) fn basis(&self) -> String {
        status::basis(&Claimant::Resource(self.claim(&Status::default())))
    }

    /// The other resource that has the repository, if there is one.
    pub(super) fn winner(&self) -> Option<String> {
        let context = self.context;
        context.claims.winner_over(self.object, |namespace, registry| {
            let place = context.resolve(namespace, registry);
            (place, context.options.tenancy.admits(namespace, self.object.repository()))
        })
    }

    /// Returns the failure if another resource has the repository, or if it would move.
    pub(super) fn conflict(&self) -> Option<Failure> {
        let Some(winner) = self.winner() else { return self.moved() };
        let message = format!(
            "EcrRepositorySync {winner} is older and has the same repository: delete one of the \
             two, or change its repositoryName"
        );
        Some(Failure::new(Class::Conflict, message))
    }

    /// Returns the failure if the repository would move: the operator's defaults changed and mean
    /// another account or region now.
    pub(super) fn moved(&self) -> Option<Failure> {
        let now = self.location();
        let before = self.object.status.as_ref()?.repository.as_ref()?;

        let differs =
            |now: &Option<String>, before: &str| now.as_ref().is_some_and(|n| n != before);
        if !differs(&now.account, &before.registry_id) && !differs(&now.region, &before.region) {
            return None;
        }

        let message = format!(
            "the repository is in account {} and region {}, but the specification or the \
             operator's defaults now mean account {} and region {}: set spec.registry to the \
             former, or create another EcrRepositorySync",
            before.registry_id,
            before.region,
            now.account.as_deref().unwrap_or("unknown"),
            now.region.as_deref().unwrap_or("unknown"),
        );
        Some(Failure::new(Class::Conflict, message))
    }
}
