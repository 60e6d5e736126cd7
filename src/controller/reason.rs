//! Reasons of conditions and events: one closed set, documented in docs/runbook.md.

use crate::class::Class;

/// Why a condition has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As specified.
    Succeeded,
    /// The first pass of a generation is under way.
    Progressing,
    /// A pass failed and will be repeated.
    ProgressingWithRetry,
    /// `spec.suspend` is set (event only).
    Suspended,
    /// Nothing is written: `spec.dryRun` or `--dry-run`.
    DryRun,
    /// Some tags are in ECR, some failed.
    PartiallySynced,
    /// A setting, a policy or a resource tag is not as specified, and stays so.
    DriftDetected,
    /// Something was written (event only).
    Synced,
    /// The repository went with its resource (event only).
    Deleted,
    /// The repository stays although its resource is gone (event only).
    Retained,
    /// Nothing is wrong, but something will surprise somebody (event only).
    Advice,
    /// Something failed.
    Failed(Class),
}

impl Reason {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

    /// Every reason.
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
        .chain(Class::ALL.map(Self::Failed))
    }
}
