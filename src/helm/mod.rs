//! Helm charts of classic HTTP repositories, and what they are as OCI artifacts.
//!
//! ```text
//! Repository  --index-->  ChartVersions  --download-->  archive  --read-->  Metadata  -->  Artifact
//! ```
//!
//! Charts of OCI registries need none of this: they are copied like images.
//!
//! | file | noun |
//! |---|---|
//! | `repository` | [`Repository`]: requests to a chart repository |
//! | `indexes` | [`Indexes`]: one copy of each index for the whole process |
//! | `index` | [`Index`], [`ChartVersions`], [`Entry`] |
//! | `archive` | a tgz, read to find `Chart.yaml` |
//! | `metadata` | [`Metadata`]: `Chart.yaml` as Helm has it |
//! | `artifact` | [`Artifact`]: the manifest that `helm push` makes |
//! | `yaml`, `json`, `version` | formats as Go and Helm read and write them |

pub mod archive;
mod artifact;
mod error;
mod index;
mod indexes;
mod json;
mod metadata;
mod repository;
mod version;
mod yaml;

pub use artifact::{Artifact, CHART, CONFIG, PROVENANCE};
pub use error::Error;
pub use index::{ChartVersions, Entry, Index, Problem};
pub use indexes::Indexes;
pub use metadata::{Dependency, Maintainer, Metadata};
pub use repository::{Access, Archive, Download, Repository};
