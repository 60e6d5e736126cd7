//! Errors of a reconcile.

use super::api::ApiError;

/// A reconcile that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot write the status of {object}: {cause}")]
    Status { object: String, cause: ApiError },
    #[error("cannot write the finalizers of {object}: {cause}")]
    Finalizer { object: String, cause: ApiError },
    #[error("a bug in ecr-sync: {0}")]
    Panicked(String),
}
