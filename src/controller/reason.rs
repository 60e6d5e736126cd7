//! Reasons of conditions and events: one closed set, documented in docs/runbook.md.

use crate::class::Class;

/// The reason of a condition or event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Everything is as specified.
    Succeeded,
    /// The first pass of a generation is under way.
    Progressing,
    /// A pass failed and will be retried.
    ProgressingWithRetry,
    /// `spec.suspend` is set (event only).
    Suspended,
    /// Nothing is written: `spec.dryRun` or `--dry-run`.
    DryRun,
    /// Some tags are in ECR, others failed.
    PartiallySynced,
    /// A setting, a policy or a resource tag differs from the spec.
    DriftDetected,
    /// A pass changed something in ECR (event only).
    Synced,
    /// The repository was deleted with its resource (event only).
    Deleted,
    /// The repository was kept when its resource was deleted (event only).
    Retained,
    /// Nothing failed, but something may have unexpected effects (event only).
    Advice,
    /// A failure.
    Failed(Class),
}

impl Reason {
    /// Returns the reason as conditions and events have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Progressing => "Progressing",
            Self::ProgressingWithRetry => "ProgressingWithRetry",
            Self::Suspended => "Suspended",
            Self::DryRun => "DryRun",
            Self::PartiallySynced => "PartiallySynced",
            Self::DriftDetected => "DriftDetected",
            Self::Synced => "Synced",
            Self::Deleted => "Deleted",
            Self::Retained => "Retained",
            Self::Advice => "Advice",
            Self::Failed(class) => class.reason(),
        }
    }

    /// Returns the text of a reason that is one of ours, else `Other`.
    pub(super) fn known(text: &str) -> &'static str {
        Self::all().map(Self::as_str).find(|reason| *reason == text).unwrap_or("Other")
    }

    /// Returns every reason.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::Succeeded,
            Self::Progressing,
            Self::ProgressingWithRetry,
            Self::Suspended,
            Self::DryRun,
            Self::PartiallySynced,
            Self::DriftDetected,
            Self::Synced,
            Self::Deleted,
            Self::Retained,
            Self::Advice,
        ]
        .into_iter()
        .chain(Class::ALL.iter().copied().map(Self::Failed))
    }
}
