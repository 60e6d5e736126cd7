//! The shards of this process: the operator assigns them, and the controller works on them.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::{Layout, Shard};

/// The shards that are assigned to the controller, and those that it still works on. Clones share
/// them.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    layout: Layout,
    assigned: watch::Sender<BTreeSet<Shard>>,
    worked: watch::Sender<BTreeSet<Shard>>,
}

impl Assignment {
    /// Returns an assignment of no shard.
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, assigned: watch::Sender::default(), worked: watch::Sender::default() }
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Assigns a shard to the controller, which works on it from now on.
    pub(crate) fn assign(&self, shard: Shard) {
        self.worked.send_if_modified(|shards| shards.insert(shard));
        self.assigned.send_if_modified(|shards| shards.insert(shard));
    }

    /// Takes a shard from the controller. [`Self::left`] waits until it does not work on it.
    pub(crate) fn withdraw(&self, shard: Shard) {
        self.assigned.send_if_modified(|shards| shards.remove(&shard));
    }

    /// Returns the assigned shards, as they change.
    pub(crate) fn assigned(&self) -> watch::Receiver<BTreeSet<Shard>> {
        self.assigned.subscribe()
    }

    /// Waits until a shard is assigned.
    pub(crate) async fn begun(&self) {
        let mut assigned = self.assigned.subscribe();
        // The sender is `self`.
        let _open = assigned.wait_for(|shards| !shards.is_empty()).await;
    }

    /// Returns the shards that the controller works on and that are not assigned any more.
    pub(crate) fn leaving(&self) -> BTreeSet<Shard> {
        self.worked.borrow().difference(&self.assigned.borrow()).copied().collect()
    }

    /// Reports that the controller does not work on a shard any more.
    pub(crate) fn leave(&self, shard: Shard) {
        self.worked.send_if_modified(|shards| shards.remove(&shard));
    }

    /// Whether the controller still works on a shard.
    pub(crate) fn is_worked_on(&self, shard: Shard) -> bool {
        self.worked.borrow().contains(&shard)
    }

    /// Waits until the controller does not work on a shard.
    pub(crate) async fn left(&self, shard: Shard) {
        let mut worked = self.worked.subscribe();
        // The sender is `self`.
        let _open = worked.wait_for(|shards| !shards.contains(&shard)).await;
    }
}
