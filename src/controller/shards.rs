//! The resources of this process's shards (`--shards`). For the rest of the controller the others do
//! not exist.
//!
//! The API server cannot select resources by a hash, so every process watches all of them, and drops
//! the events of the others before anything is kept. When it gets a shard, it lists again, and
//! reconciles nothing of that shard before the list is complete. When it loses one, it forgets its
//! resources as if they were deleted, and waits for the end of their jobs.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube_runtime::watcher::Event;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::context::Context;
use super::guarded::Guarded;
use super::key::Key;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::shard::{Assignment, Layout, Shard};

type Object = Guarded<EcrRepositorySync>;

/// The shards of which no list is complete yet: the claims of older resources may be missing.
#[derive(Debug, Default)]
pub(super) struct Unlisted(Mutex<Option<(Layout, BTreeSet<Shard>)>>);

impl Unlisted {
    /// Whether the shard of a repository is one of them.
    pub(super) fn has(&self, repository: &str) -> bool {
        let unlisted = self.0.lock();
        unlisted
            .as_ref()
            .is_some_and(|(layout, shards)| shards.contains(&layout.shard_of(repository)))
    }

    fn set(&self, layout: Layout, shards: &BTreeSet<Shard>) {
        *self.0.lock() = (!shards.is_empty()).then(|| (layout, shards.clone()));
    }
}

/// The filter of the events.
struct Filter {
    context: Arc<Context>,
    assignment: Assignment,
    assigned: watch::Receiver<BTreeSet<Shard>>,
    /// The shards whose events pass.
    shards: BTreeSet<Shard>,
    /// The assigned shards of which no list is complete yet, and their resources in the current list.
    new: BTreeSet<Shard>,
    listed: Vec<Key>,
    /// UIDs of resources that cannot be decoded.
    undecodable: HashSet<String>,
    /// Notified when the resources should be listed again.
    again: Arc<Notify>,
}

/// Returns the events of the resources of this process's shards. Notifies `again` when the resources
/// should be listed again. Whoever asks for the next event must have handled the last one.
pub(super) fn own(
    events: impl Stream<Item = Event<Object>> + Send,
    context: Arc<Context>,
    assignment: Assignment,
    again: Arc<Notify>,
) -> impl Stream<Item = Event<Object>> + Send {
    let mut assigned = assignment.assigned();
    let shards = assigned.borrow_and_update().clone();
    let filter = Filter {
        context,
        shards,
        assignment,
        assigned,
        new: BTreeSet::new(),
        listed: Vec::new(),
        undecodable: HashSet::new(),
        again,
    };

    stream::unfold((Box::pin(events), filter), |(mut events, mut filter)| async {
        loop {
            filter.wake_listed();
            tokio::select! {
                biased;
                // The sender is in the assignment.
                _open = filter.assigned.changed() => filter.reassign(),
                event = events.next() => {
                    let event = event?;
                    if filter.passes(&event) {
                        return Some((event, (events, filter)));
                    }
                }
            }
        }
    })
}

impl Filter {
    fn shard_of(&self, repository: &str) -> Shard {
        self.assignment.layout().shard_of(repository)
    }

    /// Whether an event is about a resource of an assigned shard.
    fn passes(&mut self, event: &Event<Object>) -> bool {
        let object = match event {
            Event::Init => {
                self.listed.clear();
                self.undecodable.clear();
                return true;
            }
            Event::InitDone => {
                self.new.clear();
                self.context.unlisted.set(self.assignment.layout(), &self.new);
                return true;
            }
            Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => object,
        };

        let uid = object.uid().unwrap_or_default();
        match &object.0 {
            Ok(resource) => {
                self.undecodable.remove(&uid);
                let shard = self.shard_of(resource.repository());
                if self.new.contains(&shard) {
                    self.listed.push(self.context.store.key(resource));
                }
                self.shards.contains(&shard)
            }
            // Its repository is unknown. One process should report it, and the one that knows its
            // last version should forget that.
            Err(undecodable) => {
                let is_own = self.shards.contains(&self.shard_of(&object.name_any()));
                if is_own {
                    self.undecodable.insert(uid);
                }
                let key = Key::of_metadata(&undecodable.metadata);
                is_own || self.context.store.version(&key).is_some()
            }
        }
    }

    /// Handles a change of the assigned shards.
    fn reassign(&mut self) {
        let assigned = self.assigned.borrow_and_update().clone();
        self.new.extend(assigned.difference(&self.shards));
        self.new.retain(|shard| assigned.contains(shard));
        self.context.unlisted.set(self.assignment.layout(), &self.new);
        self.shards = assigned;

        let lost = self.assignment.leaving();
        let has_outdated_number = !lost.is_empty() && !self.undecodable.is_empty();
        if !self.new.is_empty() || has_outdated_number {
            self.again.notify_one();
        }
        if !lost.is_empty() {
            self.lose(lost);
        }
    }

    /// Forgets the resources of shards, and reports when their jobs have ended.
    fn lose(&self, shards: BTreeSet<Shard>) {
        let is_lost = |repository: &str| shards.contains(&self.shard_of(repository));
        let keys = self.context.claims.of(is_lost);
        let resources = keys.iter().filter_map(|key| self.context.store.get(key));
        let forgotten = resources.map(|resource| {
            self.context.forget(&resource);
            resource.uid().unwrap_or_default()
        });
        let uids: Vec<_> = forgotten.collect();

        let (pool, assignment) = (self.context.pool.clone(), self.assignment.clone());
        tokio::spawn(async move {
            pool.ended(&uids).await;
            shards.into_iter().for_each(|shard| assignment.leave(shard));
        });
    }

    /// Reconciles the resources of new shards when the list with them is complete.
    fn wake_listed(&mut self) {
        if self.new.is_empty() {
            self.context.wakes.wake(self.listed.drain(..));
        }
    }
}
