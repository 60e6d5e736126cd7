//! Helm charts of classic HTTP repositories, and their form as OCI artifacts.
//!
//! ```text
//! Repository  --index-->  ChartVersions  --download-->  archive  --read-->  Metadata  -->  Artifact
//! ```
//!
//! Charts of OCI registries are copied like images.
//!
//! | file | noun |
//! |---|---|
//! | `repository`, `body` | [`Repository`]: requests to a chart repository; the body of its index |
//! | `indexes` | [`Indexes`]: the cache of indexes |
//! | `index` | [`Index`], [`ChartVersions`], [`Entry`] |
//! | `archive` | the chart's tgz, read to find `Chart.yaml` |
//! | `metadata` | [`Metadata`]: `Chart.yaml` as Helm holds it |
//! | `artifact` | [`Artifact`]: the manifest as `helm push` writes it |
//! | `yaml`, `json`, `version` | formats as Go and Helm read and write them |

pub mod archive;
mod artifact;
mod body;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod index;
mod indexes;
mod json;
mod metadata;
mod repository;
mod version;
mod yaml;

pub use artifact::{Artifact, CHART, CONFIG, PROVENANCE};
pub use error::Error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::TARGETS as FUZZING;
pub use index::{ChartVersions, Entry, Index, Problem};
pub use indexes::Indexes;
pub(crate) use indexes::MAX_BYTES as MOST_OF_INDEXES;
pub use metadata::{Dependency, Maintainer, Metadata};
pub use repository::{Archive, Connection, Repository};
