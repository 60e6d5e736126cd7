//! A short hash that is stable within one version of ecr-sync. Not for security.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Returns a hash to tell values apart.
pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
