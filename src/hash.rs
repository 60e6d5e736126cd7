//! A short hash, the same each time within one version of ours: for what is compared and told
//! apart, never for what is trusted.

use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
