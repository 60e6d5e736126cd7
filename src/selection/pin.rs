//! Pinned tags: `1.26@sha256:…`, a tag with the digest that the source must have.

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
}
