//! Chart versions as tags: the version `1.2.3+build` has the tag `1.2.3_build`.

use std::borrow::Cow;

/// Returns the tag of a chart's version: a tag cannot hold `+`, so Helm writes `_`.
///
/// *Caveat*: `1.2.3+a` and `1.2.3_a` have the same tag. The second is not semver, so two versions
/// of one index collide only if one of them is not valid.
pub(crate) fn tag_of(version: &str) -> Cow<'_, str> {
    swap(version, '+', "_")
}

/// Returns the chart version of a tag, as Helm reads it: semver has no `_`.
pub(crate) fn version_of(tag: &str) -> Cow<'_, str> {
    swap(tag, '_', "+")
}

fn swap<'a>(text: &'a str, from: char, to: &str) -> Cow<'a, str> {
    if text.contains(from) { text.replace(from, to).into() } else { text.into() }
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
}
