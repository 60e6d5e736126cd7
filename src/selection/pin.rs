//! Pinned tags: `1.26@sha256:…`, a tag with the digest that the source must have.

use std::collections::HashMap;

use super::Problem;

/// A wanted tag, `1.26` or `1.26@sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin<'a> {
    /// The tag. Not yet validated.
    pub tag: &'a str,
    /// The digest after `@`, which the source's tag must have. Not yet validated.
    pub digest: Option<&'a str>,
}

impl<'a> Pin<'a> {
    /// Splits at the first `@`, which no tag contains.
    pub(crate) fn parse(text: &'a str) -> Self {
        match text.split_once('@') {
            Some((tag, digest)) => Self { tag, digest: Some(digest) },
            None => Self { tag: text, digest: None },
        }
    }

    /// Parses a list. Returns each tag once, at its first position; with the digest if one of its
    /// entries has one.
    ///
    /// # Errors
    /// A tag with two different digests.
    pub(crate) fn list(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, Problem> {
        let mut pins: Vec<Self> = Vec::new();
        let mut positions = HashMap::new();
        for (index, pin) in texts.into_iter().map(Self::parse).enumerate() {
            let position = *positions.entry(pin.tag).or_insert(pins.len());
            match pins.get_mut(position) {
                None => pins.push(pin),
                Some(Self { digest: Some(first), tag })
                    if pin.digest.is_some_and(|digest| digest != *first) =>
                {
                    let message = format!(
                        "the tag {tag} is already pinned to {first}: write one digest for it"
                    );
                    return Err(Problem { path: format!("[{index}]"), message });
                }
                Some(first) => first.digest = first.digest.or(pin.digest),
            }
        }

        Ok(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_ends_at_the_first_at_sign() {
        assert_eq!(Pin::parse("1.26"), Pin { tag: "1.26", digest: None });
        assert_eq!(Pin::parse("1.26@sha256:ab"), Pin { tag: "1.26", digest: Some("sha256:ab") });
        assert_eq!(Pin::parse("@"), Pin { tag: "", digest: Some("") });
    }

    #[test]
    fn a_tag_is_listed_once_and_has_one_digest() {
        let pins = Pin::list(["b", "a@sha256:1", "b@sha256:2", "a", "b@sha256:2"]).unwrap();
        let expected = [
            Pin { tag: "b", digest: Some("sha256:2") },
            Pin { tag: "a", digest: Some("sha256:1") },
        ];
        assert_eq!(pins, expected);
        let problem = Pin::list(["a@sha256:1", "b", "a@sha256:2"]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "[2]: the tag a is already pinned to sha256:1: write one digest for it"
        );
    }
}
