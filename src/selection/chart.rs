//! Chart versions as tags.

use std::borrow::Cow;
use std::collections::HashMap;

/// The tag of a chart's version: a tag has no `+`, so Helm writes `_`.
///
/// *Caveat*: `1.2.3+a` and `1.2.3_a` have one tag. The second is no semver, so that two versions of
/// one index meet here only when one of them is not valid.
pub fn tag_of(version: &str) -> Cow<'_, str> {
    swap(version, '+', "_")
}

/// The chart version of a tag, as Helm reads it back: semver has no `_`.
pub fn version_of(tag: &str) -> Cow<'_, str> {
    swap(tag, '_', "+")
}

fn swap<'a>(text: &'a str, from: char, to: &str) -> Cow<'a, str> {
    if text.contains(from) { text.replace(from, to).into() } else { text.into() }
}

/// An image tag and a chart version that are one tag of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collision<'a> {
    /// The image's tag.
    pub tag: &'a str,
    /// The chart's version.
    pub version: &'a str,
}

/// All collisions of an image's tags with a chart's versions, in the order of the tags.
pub fn collisions<'a>(
    tags: impl IntoIterator<Item = &'a str>,
    versions: impl IntoIterator<Item = &'a str>,
) -> Vec<Collision<'a>> {
    let versions: HashMap<_, _> =
        versions.into_iter().map(|version| (tag_of(version), version)).collect();
    tags.into_iter()
        .filter_map(|tag| versions.get(tag).map(|version| Collision { tag, version }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_an_underscore_in_a_tag() {
        for (version, tag) in
            [("1.2.3", "1.2.3"), ("1.2.3+a.b", "1.2.3_a.b"), ("1.2.3-rc.1+a", "1.2.3-rc.1_a")]
        {
            assert_eq!((tag_of(version), version_of(tag)), (tag.into(), version.into()));
        }
        assert_eq!(tag_of("1.2.3+a"), tag_of("1.2.3_a"));
    }

    #[test]
    fn an_image_tag_equal_to_a_chart_versions_tag_collides() {
        let found = collisions(["1.0.0", "1.2.3_a", "latest"], ["2.0.0", "1.2.3+a", "1.0.0"]);
        let expected = [
            Collision { tag: "1.0.0", version: "1.0.0" },
            Collision { tag: "1.2.3_a", version: "1.2.3+a" },
        ];
        assert_eq!(found, expected);
    }
}
