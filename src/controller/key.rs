//! The key of a resource.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;

use crate::api::v1alpha1::EcrRepositorySync;

/// Namespace and name of a resource: `namespace/name`. Clones share it, since several tables have
/// the key of each resource.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<str>);

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    pub(super) fn of(object: &EcrRepositorySync) -> Self {
        Self::of_metadata(object.meta())
    }

    pub(super) fn of_metadata(metadata: &ObjectMeta) -> Self {
        let ObjectMeta { namespace, name, .. } = metadata;
        Self::new(namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
    }

    pub(super) fn namespace(&self) -> &str {
        self.parts().0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }
}

/// Ordered by namespace, then by name.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_by_namespace_and_then_by_name() {
        let mut keys = [("a-b", "a"), ("a", "c"), ("a", "b"), ("a-b", "-")];
        let sorted = [("a", "b"), ("a", "c"), ("a-b", "-"), ("a-b", "a")];
        keys.sort_by_key(|(namespace, name)| Key::new(namespace, name));
        assert_eq!(keys, sorted);
    }
}
