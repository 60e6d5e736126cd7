//! `ecr-sync.io/v1alpha1`.

mod chart;
mod crd;
mod image;
mod schema;
mod spec;
mod status;

pub use chart::{Chart, OnSourceChange, VersionSelector};
pub use crd::{crd, crd_yaml};
pub use image::{CheckPolicy, Image, Referrers, SortBy, TagSelector, TagStrategy};
pub(crate) use schema::{LONGEST_PATTERN, MAX_PATTERNS};
pub(crate) use schema::{MAX_FILTERS, MAX_RESOURCE_TAGS, MAX_TAGS};
pub use spec::{
    AdoptionPolicy, ArchivedImages, DeletionPolicy, DriftPolicy, EcrRepositorySync,
    EcrRepositorySyncSpec, Encryption, EncryptionType, ImageTagMutability, LocalReference, Policy,
    Prune, Registry,
};
pub use status::{
    ArtifactStatus, DerivedTag, DriftCheck, EcrRepositorySyncStatus, ExpiredTag, HistoryEntry,
    Ownership, ReferrersStatus, RepositoryStatus, SyncedTag, TagFailure, condition,
};
