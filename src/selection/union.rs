//! Merges listed and selected tags, up to the limit of tags (`--max-tags`).

use std::collections::HashSet;

/// There are more tags than one artifact may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} tags are wanted, {} of them selected; at most {} are allowed: {}",
    grouped(*.count), grouped(*.selected), grouped(*.most), advice(*.selected)
)]
pub(crate) struct TooMany {
    /// Number of different tags.
    pub count: usize,
    /// Number of tags that are only selected, not listed.
    pub selected: usize,
    /// Greatest number allowed.
    pub most: usize,
}

fn advice(selected: usize) -> &'static str {
    match selected {
        0 => "list fewer tags",
        _ => "write a smaller latest, or narrow semver, include or exclude",
    }
}

/// Writes `1234` as `1,234`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// Returns all listed tags, then the selected ones that are not listed; each once.
///
/// # Errors
/// When there are more than `most` tags. Leaving some out would be an arbitrary choice.
pub(crate) fn union<'a>(
    listed: impl IntoIterator<Item = &'a str>,
    selected: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Result<Vec<&'a str>, TooMany> {
    let mut unique = HashSet::new();
    let mut tags: Vec<_> = listed.into_iter().filter(|tag| unique.insert(*tag)).collect();
    let listed = tags.len();
    tags.extend(selected.into_iter().filter(|tag| unique.insert(*tag)));
    if tags.len() > most {
        return Err(TooMany { count: tags.len(), selected: tags.len() - listed, most });
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_tags_are_always_in_and_every_tag_once() {
        let tags = union(["latest", "1.0", "latest"], ["1.1", "1.0", "1.1"], 3).unwrap();
        assert_eq!(tags, ["latest", "1.0", "1.1"]);
    }

    #[test]
    fn too_many_tags_are_an_error_with_the_count() {
        let selected: Vec<String> = (0..1_233).map(|n| n.to_string()).collect();
        let error = union(["latest", "0"], selected.iter().map(String::as_str), 500).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1,234 tags are wanted, 1,232 of them selected; at most 500 are allowed: write a \
             smaller latest, or narrow semver, include or exclude"
        );

        let error = union(["a", "b"], [], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 tags are wanted, 0 of them selected; at most 1 are allowed: list fewer tags"
        );
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }
}
