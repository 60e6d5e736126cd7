//! Targets of the fuzzer: version constraints, and selectors of tags.

use std::collections::BTreeSet;

use super::constraint::Constraint;
use super::{Pin, Selector, Version, tag_of, version_of};
use crate::api::v1alpha1::{SortBy, TagSelector};
use crate::fuzzing::{Target, assert_brief, lines};

pub(crate) const TARGETS: [Target; 2] = [("constraint", constraint), ("selector", selector)];

/// The first line is a constraint, the others are versions.
fn constraint(data: &[u8]) {
    let mut lines = lines(data);
    let text = lines.next().unwrap_or_default();
    let constraint = text.parse::<Constraint>().inspect_err(|error| {
        assert_brief(error);
        assert!((1..=text.chars().count() + 1).contains(&error.position), "{error:?}");
    });
    let versions: Vec<_> = lines.take(16).filter_map(Version::parse).collect();

    for version in &versions {
        let Ok(constraint) = &constraint else { break };
        // Build metadata makes no difference.
        let plain = version.text().split('+').next().and_then(Version::parse);
        let Some(plain) = plain else { panic!("{version:?} without build metadata") };
        assert_eq!(constraint.matches(version), constraint.matches(&plain), "{text} {version:?}");
    }
    for version in &versions {
        let tag = tag_of(version.text());
        assert!(!tag.contains('+') && version_of(&tag) == version.text());
        for other in &versions {
            assert_eq!(version.cmp(other), other.cmp(version).reverse());
            assert_eq!(version.cmp(other).is_eq(), version.text() == other.text());
        }
    }
    let mut sorted = versions;
    sorted.sort_unstable();
    assert!(sorted.is_sorted());
}

/// The lines are a constraint, a pattern to include, one to exclude, the number of tags with the
/// order, and the tags.
fn selector(data: &[u8]) {
    let mut lines = lines(data);
    let mut text = || Some(lines.next()?.to_owned()).filter(|text| !text.is_empty());
    let (semver, include, exclude, order) = (text(), text(), text(), text().unwrap_or_default());
    let latest = i64::from(order.bytes().next().unwrap_or_default() % 8);
    let sort_by = match order.as_bytes().get(1).copied().unwrap_or_default() % 3 {
        0 => SortBy::Semver,
        1 => SortBy::Numeric,
        _ => SortBy::Alphabetical,
    };
    let (include, exclude) = (Vec::from_iter(include), Vec::from_iter(exclude));
    let selector = TagSelector { latest, semver, include, exclude, sort_by };

    let selector = match Selector::new(&selector) {
        Ok(selector) => selector,
        Err(violation) => return assert_brief(&violation),
    };
    let tags: Vec<&str> = lines.take(64).collect();
    let selected = selector.select(tags.iter().copied());
    assert!(latest == 0 || selected.len() <= usize::try_from(latest).unwrap_or_default());
    assert!(selected.iter().all(|tag| tags.contains(tag)));
    assert_eq!(BTreeSet::from_iter(&selected).len(), selected.len(), "each once");
    assert_eq!(selector.select(tags.iter().rev().copied()), selected, "in any order");
    assert!(tags.iter().all(|tag| Pin::parse(tag).tag.len() <= tag.len()));
}
