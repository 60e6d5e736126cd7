//! Kinds of failures.
//!
//! Every error enum of the crate has a `class()`. Retry, condition reason, event reason and metric
//! label are derived from it alone.

use std::time::Duration;

use strum::{Display, IntoStaticStr, VariantArray};

/// The kind of a failure. The names are the condition reasons that users see.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, IntoStaticStr, VariantArray,
)]
pub enum Class {
    /// The spec, or a policy document in it, is invalid; only an edit helps.
    InvalidSpec,
    /// A referenced Secret is missing or has no usable key.
    SecretNotFound,
    /// A registry or AWS refused the credential (wrong password, expired session).
    AuthenticationFailed,
    /// The credential is valid, but lacks a permission.
    AccessDenied,
    /// The source has no such repository, tag, manifest or blob.
    SourceNotFound,
    /// The source sent content that does not match its digest or size, or that no registry client
    /// can read.
    SourceInvalid,
    /// The source replaced the content of a tag or version.
    SourceChanged,
    /// Too many requests; try again later.
    RateLimited,
    /// The registry or AWS cannot be reached, or answers with a server error.
    RegistryUnavailable,
    /// Image and chart want the same tag.
    TagCollision,
    /// The tag exists in ECR with another digest, and the repository's tags are immutable.
    TagImmutable,
    /// A quota of the AWS account is used up.
    QuotaExceeded,
    /// The repository belongs to another cluster or resource.
    RepositoryNotOwned,
    /// The repository of a deleted resource still has images.
    RepositoryNotEmpty,
    /// Another resource of this cluster claims the same repository.
    Conflict,
    /// AWS refused a lifecycle or permission policy.
    PolicyRejected,
    /// A lifecycle rule removes wanted tags again and again.
    LifecycleConflict,
    /// Unwanted tags cannot be removed, or not safely.
    PruneBlocked,
    /// A pass made no progress for too long.
    Timeout,
    /// The work was stopped because it is no longer wanted (new spec, suspend, deletion, shutdown).
    Cancelled,
    /// No memory was free for a document of the source: others use the memory budget.
    MemoryPressure,
    /// A defect of the operator, or an answer that it does not understand.
    Internal,
}

impl Class {
    /// Every class, for tables in tests and documents.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// CamelCase name: condition reason, event reason and metric label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.into()
    }

    /// Whether a person has to act before a retry can succeed. Such failures are still retried,
    /// slowly.
    ///
    /// A missing Secret is not one of them: with GitOps it often arrives seconds after the resource,
    /// and `Stalled` would fail a Flux health check at once.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        !matches!(
            self,
            Self::SecretNotFound
                | Self::SourceInvalid
                | Self::RateLimited
                | Self::RegistryUnavailable
                | Self::Timeout
                | Self::Cancelled
                | Self::MemoryPressure
                | Self::Internal
        )
    }

    /// Whether it is likely to pass without any action.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::RegistryUnavailable
                | Self::RateLimited
                | Self::Timeout
                | Self::Cancelled
                | Self::MemoryPressure
        )
    }

    /// Shortest wait before the next try, if the backoff is shorter.
    #[must_use]
    pub const fn least_wait(self) -> Duration {
        match self {
            // Registries lock accounts out; nothing changes until somebody edits something.
            Self::AuthenticationFailed => Duration::from_secs(120),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct_camel_case_words() {
        let mut reasons = std::collections::BTreeSet::new();
        for &class in Class::ALL {
            let reason = class.reason();
            assert!(reasons.insert(reason), "{reason} stands for two classes");
            assert!(
                reason.starts_with(|c: char| c.is_ascii_uppercase())
                    && reason.chars().all(char::is_alphanumeric)
            );
        }
    }
}
