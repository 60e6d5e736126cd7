//! `ecr-sync.io/v1alpha1`.

mod chart;
mod crd;
mod image;
mod role;
mod schema;
mod spec;
mod status;
pub mod validation;

pub use chart::{Chart, OnSourceChange, VersionSelector};
pub use crd::{crd, crd_yaml};
pub use image::{CheckPolicy, Image, Referrers, SortBy, TagSelector, TagStrategy};
pub use role::{NotARole, RoleArn};
pub use spec::{
    AdoptionPolicy, ArchivedImages, DeletionPolicy, DriftPolicy, EcrRepositorySync,
    EcrRepositorySyncSpec, Encryption, EncryptionType, ImageTagMutability, LocalReference, Policy,
    Prune, Registry,
};
pub use status::{
    ArtifactStatus, DerivedTag, EcrRepositorySyncStatus, ExpiredTag, HistoryEntry, Ownership,
    ReferrersStatus, RepositoryStatus, SyncedTag, TagFailure, condition,
};
