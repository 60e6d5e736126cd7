//! The rights to write of a process: one for each shard.

use std::sync::Arc;

use super::{Grant, Leadership};
use crate::shard::Layout;

/// The rights to write. Clones share them. The default is always granted: a process without election
/// works alone.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    layout: Layout,
    /// By number of the shard.
    leaderships: Arc<[Leadership]>,
}

impl Rights {
    /// Returns rights that are not granted yet, and the grants by number of the shard.
    pub(crate) fn elected(layout: Layout) -> (Vec<Grant>, Self) {
        let (grants, leaderships): (_, Vec<_>) =
            (0..layout.shards()).map(|_| Leadership::elected()).unzip();
        (grants, Self { layout, leaderships: leaderships.into() })
    }

    /// Returns the right to write to a repository.
    pub(crate) fn of(&self, repository: &str) -> Leadership {
        let shard = self.layout.shard_of(repository);
        self.leaderships.get(usize::from(shard)).cloned().unwrap_or_default()
    }
}

impl Default for Rights {
    fn default() -> Self {
        Self::from(Leadership::default())
    }
}

impl From<Leadership> for Rights {
    fn from(leadership: Leadership) -> Self {
        Self { layout: Layout::of(1), leaderships: [leadership].into() }
    }
}
