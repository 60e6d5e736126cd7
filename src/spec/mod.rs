//! The spec of a resource, parsed once: references, digests, selectors, durations and roles have
//! their types, and every rule of the schema has been checked.
//!
//! The API server checks the same rules. Files on a command line do not pass it, and an object may
//! be older than a rule, so that [`parse`] relies on nothing.

mod chart;
mod duration;
mod grammar;
mod image;
mod registry;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::api::v1alpha1::{
    ArchivedImages, DeletionPolicy, DriftPolicy, EcrRepositorySyncSpec, TagSelector,
};
use crate::ecr;
use crate::ecr::policy::{Kind, Wanted};
use crate::selection::Selector;
use crate::violation::Violation;

pub(crate) use chart::{Address, Chart, HttpReading};
pub(crate) use duration::Intervals;
pub(crate) use duration::parse_duration;
pub(crate) use grammar::{is_account_id, is_region};
pub(crate) use image::Image;
pub(crate) use registry::Registry;
pub(crate) use secrets::Secrets;
pub(crate) use settings::Prune;
pub(crate) use settings::{resource_tags, write as write_settings};

/// A parsed spec. [`EcrRepositorySyncSpec`] documents the fields.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the ECR repository.
    pub(crate) repository: String,
    /// Account, region and identity.
    pub(crate) registry: Registry,
    /// The image.
    pub(crate) image: Option<Image>,
    /// The chart.
    pub(crate) chart: Option<Chart>,
    /// The lifecycle policy. A wrong document costs itself only: the rest of the spec is valid.
    pub(crate) lifecycle: Result<Wanted, Vec<Violation>>,
    /// The permission policy, likewise.
    pub(crate) permission: Result<Wanted, Vec<Violation>>,
    /// Resource tags. An empty map refuses the operator's defaults; `None` accepts them.
    pub(crate) resource_tags: Option<BTreeMap<String, String>>,
    /// Mutability, scanning, encryption.
    pub(crate) settings: ecr::Settings,
    /// Handling of wanted tags in the archive.
    pub(crate) archived_images: ArchivedImages,
    /// Handling of the repository when the resource is deleted.
    pub(crate) deletion_policy: DeletionPolicy,
    /// Handling of drift.
    pub(crate) drift_policy: DriftPolicy,
    /// Bounds of pruning, where it is enabled.
    pub(crate) prune: Option<Prune>,
    /// The longest time without progress.
    pub(crate) timeout: Duration,
    /// Whether all work is stopped.
    pub(crate) suspend: bool,
}

impl Spec {
    /// Violations of the policy documents.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &Vec<Violation>> {
        [&self.lifecycle, &self.permission].into_iter().filter_map(|policy| policy.as_ref().err())
    }

    /// Whether tags are copied into the repository.
    pub(crate) const fn copies(&self) -> bool {
        self.image.is_some() || self.chart.is_some()
    }
}

/// Parses the spec of a resource that is called `name`.
///
/// # Errors
/// Every violation, except those of policy documents: see [`Spec::refused`].
pub fn parse(name: &str, spec: &EcrRepositorySyncSpec) -> Result<Spec, Vec<Violation>> {
    let mut violations = Violations::default();

    let repository = spec.repository(name);
    if !grammar::is_repository_name(repository) {
        violations.push(
            "repositoryName",
            format!(
                "{repository:?} is not an ECR repository name: write 2 to 256 lower-case letters \
                 and digits, separated by single . _ __ / or any number of -, for example \
                 platform/nginx"
            ),
        );
    }
    let registry = registry::parse(spec.registry.as_ref(), &mut violations);
    let image = spec.image.as_ref().map(|image| image::parse(image, &mut violations));
    let chart = spec
        .chart
        .as_ref()
        .map(|chart| chart::parse(chart, repository, spec.image.as_ref(), &mut violations));
    violations.0.extend(spec.resource_tags.as_ref().map(resource_tags).unwrap_or_default());
    let settings = settings::parse(spec, &mut violations);
    Intervals::parse(spec, &mut violations);
    let timeout = duration::timeout(spec, &mut violations);
    let prune = spec.prune.as_ref().map(|prune| settings::prune(prune, &mut violations));

    let parsed = || {
        Some(Spec {
            repository: repository.to_owned(),
            registry,
            image: all(image)?,
            chart: all(chart)?,
            lifecycle: Wanted::read(Kind::Lifecycle, spec.lifecycle_policy.as_ref()),
            permission: Wanted::read(Kind::Permission, spec.permission_policy.as_ref()),
            resource_tags: spec.resource_tags.clone(),
            settings,
            archived_images: spec.archived_images,
            deletion_policy: spec.deletion_policy,
            drift_policy: spec.drift_policy,
            prune: all(prune)?.filter(|_| spec.pruning().is_some()),
            timeout: timeout?,
            suspend: spec.suspend,
        })
    };
    match parsed() {
        Some(spec) if violations.0.is_empty() => Ok(spec),
        _ => Err(violations.0),
    }
}

/// Parses a spec whose policy documents must be valid too.
///
/// # Errors
/// Every violation, those of policy documents included.
pub(crate) fn parse_strictly(
    name: &str,
    spec: &EcrRepositorySyncSpec,
) -> Result<Spec, Vec<Violation>> {
    let documents = || {
        let policies = [
            (Kind::Lifecycle, &spec.lifecycle_policy),
            (Kind::Permission, &spec.permission_policy),
        ];
        policies.map(|(kind, policy)| Wanted::read(kind, policy.as_ref()).err().unwrap_or_default())
    };
    match parse(name, spec) {
        Ok(spec) if spec.refused().next().is_none() => Ok(spec),
        Ok(spec) => Err(spec.refused().flatten().cloned().collect()),
        Err(violations) => Err(violations.into_iter().chain(documents().concat()).collect()),
    }
}

/// Parses the fields that the deletion of a repository needs. A mistake elsewhere in the spec does
/// not keep a resource from being deleted.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_for_deletion(
    name: &str,
    spec: &EcrRepositorySyncSpec,
) -> Result<Spec, Vec<Violation>> {
    let needed = EcrRepositorySyncSpec {
        repository_name: spec.repository_name.clone(),
        registry: spec.registry.clone(),
        deletion_policy: spec.deletion_policy,
        ..EcrRepositorySyncSpec::default()
    };
    parse(name, &needed)
}

/// A field that was parsed, or is absent; `None` where it could not be parsed.
#[allow(clippy::option_option, reason = "absent, wrong or parsed")]
fn all<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    field.map_or(Some(None), |parsed| parsed.map(Some))
}

/// The violations found so far. A parser that returns `None` has added one.
#[derive(Debug, Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation::new(path, message));
    }

    /// The selector of `field`, or `None` after its violation was added.
    fn selector(&mut self, field: &str, selector: &TagSelector) -> Option<Selector> {
        Selector::new(selector)
            .map_err(|Violation { path, message }| self.push(format!("{field}.{path}"), message))
            .ok()
    }

    /// The value, or `None` after its error was added.
    fn take<T, E: Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.push(path, error.to_string())).ok()
    }
}
