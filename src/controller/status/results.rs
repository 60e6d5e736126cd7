//! Results that the status keeps for later passes, written and read back: `derived`, `expired`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::api::v1alpha1::{DerivedTag, EcrRepositorySyncStatus as Status, ExpiredTag};
use crate::registry::Tag;
use crate::sync::{Derived, Expired, Rebuilt, Report};

/// Entries in `derived`.
const MAX_DERIVED: usize = 100;
/// Entries in `expired`.
const MAX_EXPIRED: usize = 20;
/// Marks a source in `derived` whose provenance file is part of the manifest.
const WITH_PROVENANCE: &str = "+provenance";

/// Returns the manifests that were made from chart archives and platform-filtered indexes. The
/// newest versions come first: beyond the bound the oldest are dropped.
pub(super) fn derived(old: &Status, report: &Report) -> Vec<DerivedTag> {
    if report.artifacts.is_empty() && report.failure.is_some() {
        return old.derived.clone();
    }

    let charts = report.artifacts.iter().flat_map(|artifact| artifact.derived.iter().rev());
    let charts = charts.map(|(tag, derived)| {
        let provenance = if derived.provenance { WITH_PROVENANCE } else { "" };
        let source = format!("{}{provenance}", derived.archive);
        DerivedTag { tag: tag.to_string(), source, target: derived.manifest.to_string() }
    });
    let indexes = report.artifacts.iter().flat_map(|artifact| artifact.rebuilt.iter().rev());
    let indexes = indexes.map(|(tag, rebuilt)| {
        let source = format!("{}+{}", rebuilt.source, rebuilt.platforms);
        DerivedTag { tag: tag.to_string(), source, target: rebuilt.target.to_string() }
    });
    charts.chain(indexes).take(MAX_DERIVED).collect()
}

/// Returns the manifests that were made from indexes. Entries of charts, and entries that cannot be
/// read, are left out.
pub(in crate::controller) fn rebuilt(status: &Status) -> BTreeMap<Tag, Rebuilt> {
    let entry = |derived: &DerivedTag| {
        let (source, platforms) = derived.source.split_once('+')?;
        let rebuilt = Rebuilt {
            source: source.parse().ok()?,
            platforms: platforms.to_owned(),
            target: derived.target.parse().ok()?,
        };
        Some((derived.tag.parse().ok()?, rebuilt))
    };
    let derived = status.derived.iter();
    derived.filter(|derived| !derived.source.ends_with(WITH_PROVENANCE)).filter_map(entry).collect()
}

/// Returns the manifests that were made from chart archives. Entries that cannot be read are left
/// out.
pub(in crate::controller) fn known(status: &Status) -> BTreeMap<Tag, Derived> {
    let entry = |derived: &DerivedTag| {
        let archive = derived.source.strip_suffix(WITH_PROVENANCE);
        let provenance = archive.is_some();
        let archive = archive.unwrap_or(&derived.source).parse().ok()?;
        let manifest = derived.target.parse().ok()?;
        Some((derived.tag.parse().ok()?, Derived { archive, provenance, manifest }))
    };
    status.derived.iter().filter_map(entry).collect()
}

/// Returns the tags that expired in ECR. Beyond the bound, those that expired least often are
/// dropped: the others are closer to being left alone.
pub(super) fn expired(old: &Status, report: &Report) -> Vec<ExpiredTag> {
    if report.failure.is_some() {
        return old.expired.clone();
    }

    let mut expired: Vec<_> = report.expired.iter().collect();
    expired.sort_by_key(|(tag, expired)| (Reverse(expired.times), (*tag).clone()));
    let entry = |(tag, expired): (&Tag, &Expired)| ExpiredTag {
        tag: tag.to_string(),
        digest: expired.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        times: expired.times,
    };
    expired.into_iter().take(MAX_EXPIRED).map(entry).collect()
}

/// Returns the tags that expired while the spec had this generation. A new spec starts over.
pub(in crate::controller) fn earlier_expired(
    status: &Status,
    generation: i64,
) -> BTreeMap<Tag, Expired> {
    if status.observed_generation != Some(generation) {
        return BTreeMap::new();
    }
    let entry = |expired: &ExpiredTag| {
        let entry = Expired { digest: expired.digest.parse().ok(), times: expired.times };
        Some((expired.tag.parse().ok()?, entry))
    };
    status.expired.iter().filter_map(entry).collect()
}
