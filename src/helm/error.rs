//! Errors of chart repositories: address, index, download, digest, archive, and the error class.

use std::sync::Arc;
use std::time::Duration;

use crate::class::Class;
use crate::memory_budget::Shortage;
use crate::registry;

/// A failed step. The message names the repository, the chart and the version, as far as they
/// apply.
///
/// URLs are shown without query and credentials: they can be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's address cannot be used.
    #[error("{0}")]
    Address(String),
    /// Fetching the index failed.
    #[error("cannot read {url}: {}", cause(.source))]
    ReadIndex {
        /// The URL of the index.
        url: String,
        /// The cause; it gives this error its class and its wait.
        source: Box<registry::Error>,
    },
    /// The server sent a web page in place of the index.
    #[error(
        "{url} is a web page, not the index of a chart repository: often a login page, or a wrong path"
    )]
    WebPage {
        /// The URL of the index.
        url: String,
    },
    /// The document is not an index.
    #[error("{url} is not the index of a chart repository: {why}")]
    NotAnIndex {
        /// The URL of the index.
        url: String,
        /// The reason.
        why: String,
    },
    /// The index does not have the chart.
    #[error("{url} has no chart {chart}")]
    NoSuchChart {
        /// The URL of the index.
        url: String,
        /// The chart's name.
        chart: String,
    },
    /// The part of the index that lists the chart cannot be read.
    #[error("{url}: cannot read the versions of chart {chart}: {why}")]
    Chart {
        /// The URL of the index.
        url: String,
        /// The chart's name.
        chart: String,
        /// The reason.
        why: String,
    },
    /// Fetching an archive or its provenance failed.
    #[error("cannot read {url} of chart {chart} {version}: {}", cause(.source))]
    Download {
        /// The URL of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// The cause; it gives this error its class and its wait.
        source: Box<registry::Error>,
    },
    /// The archive cannot be used: its digest differs from the index, it is not the chart, or its
    /// host is not in the allowlist.
    #[error("{url} of chart {chart} {version} {why}")]
    Unusable {
        /// The URL of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// The reason.
        why: String,
        /// The class of the reason.
        class: Class,
    },
    /// The index points to an OCI registry, where the chart is already an artifact.
    #[error("according to the index, {chart} {version} is at {url}: set chart.pullUrl to that")]
    Oci {
        /// The address of the artifact: `oci://host/repository:tag`.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
    },
    /// The memory budget does not allow to read it.
    #[error("cannot read {subject}: {source}")]
    Memory {
        /// The document.
        subject: String,
        /// The reason.
        source: Shortage,
    },
    /// A fetch that others waited for failed.
    #[error("{0}")]
    Shared(Arc<Self>),
    /// A bug in this program, or a runtime that was shut down.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The class of this error, for retries, condition reasons, events and metrics.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Address(_) | Self::Oci { .. } => Class::InvalidSpec,
            Self::ReadIndex { source, .. } | Self::Download { source, .. } => source.class(),
            Self::NoSuchChart { .. } => Class::SourceNotFound,
            Self::WebPage { .. } | Self::NotAnIndex { .. } | Self::Chart { .. } => {
                Class::SourceInvalid
            }
            Self::Unusable { class, .. } => *class,
            Self::Memory { source, .. } => source.class(),
            Self::Shared(error) => error.class(),
            Self::Internal(_) => Class::Internal,
        }
    }

    /// The wait that the server asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ReadIndex { source, .. } | Self::Download { source, .. } => source.retry_after(),
            Self::Shared(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether the chart may be at another address that `pullUrl` could mean: the index is missing,
    /// refused, not an index, or lacks the chart.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::WebPage { .. } | Self::NotAnIndex { .. } | Self::NoSuchChart { .. } => true,
            Self::ReadIndex { source, .. } => {
                matches!(source.status(), Some(401 | 403 | 404 | 410))
            }
            Self::Shared(error) => error.is_elsewhere(),
            _ => false,
        }
    }
}

/// The cause without its step: the message names the step itself.
fn cause(error: &registry::Error) -> String {
    error.failure().map_or_else(|| error.to_string(), ToString::to_string)
}
