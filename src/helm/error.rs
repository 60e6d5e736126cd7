//! What went wrong with a chart, and of what kind it is.

use std::sync::Arc;
use std::time::Duration;

use super::archive;
use crate::class::Class;
use crate::registry;

/// A failed step. The message names the repository, the chart and the version as far as they are
/// known.
///
/// URLs are shown without query and credentials: they can be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's address cannot be used.
    #[error("{0}")]
    Address(String),
    /// Fetching the index failed.
    #[error("cannot read {url}: {}", said(.source))]
    ReadIndex {
        /// Of the index.
        url: String,
        /// What happened; its class and its wait are ours.
        source: Box<registry::Error>,
    },
    /// A web page came in place of the index.
    #[error(
        "{url} is a web page, not a chart repository's index: often a login page, or a wrong path"
    )]
    WebPage {
        /// Of the index.
        url: String,
    },
    /// What came is no index.
    #[error("{url} is not a chart repository's index: {why}")]
    NotAnIndex {
        /// Of the index.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The index does not have the chart.
    #[error("{url} has no chart {chart}")]
    NoSuchChart {
        /// Of the index.
        url: String,
        /// Its name.
        chart: String,
    },
    /// The part of the index that lists the chart cannot be read.
    #[error("{url}: the list of chart {chart} cannot be read: {why}")]
    Chart {
        /// Of the index.
        url: String,
        /// Its name.
        chart: String,
        /// What is wrong with it.
        why: String,
    },
    /// Fetching an archive or its provenance failed.
    #[error("cannot read {url} of chart {chart} {version}: {}", said(.source))]
    Download {
        /// Of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// What happened; its class and its wait are ours.
        source: Box<registry::Error>,
    },
    /// The archive's digest is not the index's.
    #[error("{url} of chart {chart} {version} has digest {actual}, the index says {expected}")]
    Digest {
        /// Of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// What the index says.
        expected: Box<registry::Digest>,
        /// What came.
        actual: Box<registry::Digest>,
    },
    /// The archive is no chart, or another one.
    #[error("{url} of chart {chart} {version} cannot be used: {source}")]
    Archive {
        /// Of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// What is wrong with it.
        source: Box<archive::Error>,
    },
    /// The index points to a host that the one who asks may not use.
    #[error(
        "{url} of chart {chart} {version} is on another host, which is not allowed: allow it in {written_in}"
    )]
    HostNotAllowed {
        /// Of the archive.
        url: String,
        /// The chart's name.
        chart: String,
        /// The chart's version.
        version: String,
        /// Where it can be allowed.
        written_in: String,
    },
    /// A fetch that others waited for failed.
    #[error("{0}")]
    Shared(Arc<Self>),
    /// A defect of ours, or a runtime that was shut down.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Address(_) => Class::InvalidSpec,
            Self::ReadIndex { source, .. } | Self::Download { source, .. } => source.class(),
            Self::NoSuchChart { .. } => Class::SourceNotFound,
            Self::WebPage { .. }
            | Self::NotAnIndex { .. }
            | Self::Chart { .. }
            | Self::Digest { .. }
            | Self::Archive { .. } => Class::SourceInvalid,
            Self::HostNotAllowed { .. } => Class::AccessDenied,
            Self::Shared(error) => error.class(),
            Self::Internal(_) => Class::Internal,
        }
    }

    /// How long the server asked to wait, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ReadIndex { source, .. } | Self::Download { source, .. } => source.retry_after(),
            Self::Shared(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether another reading of `pullUrl` may be the right one: the index is missing, refused, no
    /// index at all, or lacks the chart.
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

/// What happened, without the step: the message has its own.
fn said(error: &registry::Error) -> String {
    error.failure().map_or_else(|| error.to_string(), ToString::to_string)
}
