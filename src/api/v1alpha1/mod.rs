//! `ecr-sync.io/v1alpha1`.

mod crd;
mod schema;
mod spec;
mod status;
pub mod validation;

pub use crd::{crd, crd_yaml};
pub use spec::{
    EcrRepositorySync, EcrRepositorySyncSpec, Image, LocalReference, Policy, Registry, SortBy, TagSelector, TagStrategy,
};
pub use status::{
    ArtifactStatus, EcrRepositorySyncStatus, HistoryEntry, Ownership, RepositoryStatus, SyncedTag, TagFailure,
    condition,
};
