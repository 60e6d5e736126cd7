//! The last write of a resource, until the store has caught up with it.

use super::Memories;
use crate::api::v1alpha1::EcrRepositorySyncStatus;
use crate::hash::hash;

/// A write of the object, while the store may still have the version that it was based on.
#[derive(Clone, Debug)]
pub(in crate::controller) struct Written {
    /// Resource version before the write.
    pub(in crate::controller) based_on: Option<String>,
    /// Resource version after the write.
    pub(in crate::controller) version: Option<String>,
    pub(in crate::controller) status: EcrRepositorySyncStatus,
}

impl Memories {
    /// Forgets the last write of a resource if it was based on another version than the one that the
    /// store has now, given as a hash.
    pub(in crate::controller) fn caught_up(&self, uid: &str, version: Option<u64>) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.written.take_if(|written| Some(hash(&written.based_on)) != version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_is_kept_until_the_store_has_another_version() {
        let memories = Memories::default();
        memories.add("a");
        let version = |version: &str| Some(hash(Some(version)));
        let written = Written {
            based_on: Some("7".to_owned()),
            version: Some("8".to_owned()),
            status: EcrRepositorySyncStatus::default(),
        };
        memories.with("a", 1, |memory| memory.written = Some(Box::new(written)));
        let has_write = || memories.with("a", 1, |memory| memory.written.is_some());

        memories.caught_up("a", version("7"));
        assert!(has_write(), "the store does not have it yet");
        memories.caught_up("b", version("8"));
        memories.caught_up("a", version("8"));
        assert!(!has_write());
    }
}
