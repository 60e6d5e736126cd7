//! `ecr-sync.io/v1alpha1`.

mod crd;
mod role;
mod schema;
mod spec;
mod status;
pub mod validation;

pub use crd::{crd, crd_yaml};
pub use role::{NotARole, RoleArn};
pub use spec::{
    AdoptionPolicy, ArchivedImages, Chart, CheckPolicy, DeletionPolicy, DriftPolicy, EcrRepositorySync,
    EcrRepositorySyncSpec, Encryption, EncryptionType, Image, ImageTagMutability, LocalReference, OnSourceChange,
    Policy, Referrers, Registry, SortBy, TagSelector, TagStrategy, VersionSelector,
};
pub use status::{
    ArtifactStatus, DerivedTag, EcrRepositorySyncStatus, ExpiredTag, HistoryEntry, Ownership, ReferrersStatus,
    RepositoryStatus, SyncedTag, TagFailure, condition,
};
