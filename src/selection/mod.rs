//! Selection of image tags and chart versions. Pure: no I/O, no clock.
//!
//! - [`Selector`] applies `latest`, `semver`, `include`, `exclude` and `sortBy` to a source's tags
//! - `constraint` matches a [`Version`] in the dialect of Masterminds/semver v3, as Helm and Flux do
//! - [`union`] merges listed and selected tags, up to a limit
//! - [`Pin`] is a wanted tag, with the digest of `tag@sha256:…`
//! - [`tag_of`] and [`version_of`] convert between chart versions and tags

mod chart;
mod comparator;
mod constraint;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod number;
mod pin;
mod selector;
#[cfg(test)]
mod tests;
mod union;
mod version;

pub(crate) use chart::{tag_of, version_of};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::TARGETS as FUZZING;
pub(crate) use pin::Pin;
pub(crate) use selector::Selector;
pub(crate) use union::union;
pub(crate) use version::Version;
