//! Image references and tags: `host/repository:tag@digest`, with Docker's short names.
//!
//! They are parsed once, at the edge. A parsed value needs no further check.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::grammar::{check_repository, shortened, split_host, without_scheme};

/// The host of short names such as `nginx`.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// The reason why a text is not a reference, tag or digest. The message names the text and says
/// what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) String);

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`. It cannot contain `+`. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

impl Tag {
    /// The text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why: &str| ParseError(format!("{:?} is not a tag: {why}", shortened(text)));
        let Some(first) = text.chars().next() else {
            return Err(ParseError(
                "a tag cannot be empty: remove the colon, or write a tag after it".into(),
            ));
        };

        if text.contains('+') {
            return Err(wrong("tags cannot contain `+`; charts write `_` in its place"));
        }
        if !(first.is_ascii_alphanumeric() || first == '_') {
            return Err(wrong("the first character must be a letter, a digit or `_`"));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err(wrong("only letters, digits, `_`, `.` and `-` are allowed"));
        }
        if text.len() > 128 {
            return Err(wrong("tags have at most 128 characters"));
        }

        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Tag {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.as_str().to_owned()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The tag or digest of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TagOrDigest {
    /// A name that may move.
    Tag(Tag),
    /// A content address.
    Digest(Digest),
}

impl TagOrDigest {
    /// `:tag` or `@digest`, as it follows the repository in a reference.
    pub(crate) fn suffix(&self) -> String {
        match self {
            Self::Tag(tag) => format!(":{tag}"),
            Self::Digest(digest) => format!("@{digest}"),
        }
    }
}

impl From<&Self> for TagOrDigest {
    fn from(what: &Self) -> Self {
        what.clone()
    }
}

impl From<Tag> for TagOrDigest {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<&Tag> for TagOrDigest {
    fn from(tag: &Tag) -> Self {
        Self::Tag(tag.clone())
    }
}

impl From<Digest> for TagOrDigest {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<&Digest> for TagOrDigest {
    fn from(digest: &Digest) -> Self {
        Self::Digest(digest.clone())
    }
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The location of an artifact: host, repository, and a tag, a digest, both or neither.
///
/// Docker's short names are completed (`nginx` is `docker.io/library/nginx`). No tag is added:
/// without one, `tag` is `None`, not `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Host in lower case, with port if one was written: `docker.io`, `localhost:5000`,
    /// `[::1]:5000`.
    pub host: String,
    /// Repository path in lower case, without leading or trailing slash.
    pub repository: String,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written. With both, the digest decides, and the tag only tells where
    /// it was found.
    pub digest: Option<Digest>,
}

impl Reference {
    /// `host/repository`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why: &str| {
            ParseError(format!("{:?} is not an image reference: {why}", shortened(text)))
        };
        let rest = without_scheme(text).map_err(wrong)?;
        if rest.is_empty() {
            return Err(wrong("write host/repository, for example ghcr.io/owner/app"));
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("it contains white space"));
        }

        let (rest, digest) = match rest.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse::<Digest>().map_err(|e| wrong(&e.to_string()))?))
            }
            None => (rest, None),
        };

        let (host, path) = split_host(rest).map_err(|why| wrong(&why))?;
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => {
                (path, Some(tag.parse::<Tag>().map_err(|e| wrong(&e.to_string()))?))
            }
            None => (path, None),
        };

        let repository = match (host.as_str(), path.contains('/')) {
            (DOCKER_HUB, false) if !path.is_empty() => format!("library/{path}"),
            _ => path.to_owned(),
        };
        check_repository(&repository).map_err(|why| wrong(&why))?;
        Ok(Self { host, repository, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_parse_and_print_in_full() {
        let digest = format!("sha256:{HEX}");
        for (text, host, repository, tag, pinned) in [
            ("nginx", "docker.io", "library/nginx", None, false),
            ("nginx:1.27", "docker.io", "library/nginx", Some("1.27"), false),
            ("grafana/loki", "docker.io", "grafana/loki", None, false),
            ("docker.io/nginx", "docker.io", "library/nginx", None, false),
            ("index.docker.io/library/nginx", "docker.io", "library/nginx", None, false),
            (
                "registry-1.docker.io/bitnamicharts/nginx",
                "docker.io",
                "bitnamicharts/nginx",
                None,
                false,
            ),
            ("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", Some("v1"), false),
            ("GHCR.io/a/b", "ghcr.io", "a/b", None, false),
            ("localhost/x", "localhost", "x", None, false),
            ("localhost:5000/x:y", "localhost:5000", "x", Some("y"), false),
            ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", None, false),
            ("[::1]:5000/x/y:z", "[::1]:5000", "x/y", Some("z"), false),
            ("[::1]/x", "[::1]", "x", None, false),
            ("oci://ghcr.io/charts/a", "ghcr.io", "charts/a", None, false),
            ("docker://quay.io/a/b:c", "quay.io", "a/b", Some("c"), false),
            ("quay.io/a/b@DIGEST", "quay.io", "a/b", None, true),
            ("quay.io/a/b:c@DIGEST", "quay.io", "a/b", Some("c"), true),
            ("a/b__c/d--e/f.g_h", "docker.io", "a/b__c/d--e/f.g_h", None, false),
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b:_x",
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "a/b",
                Some("_x"),
                false,
            ),
        ] {
            let text = text.replace("DIGEST", &digest);
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.host, host, "{text}");
            assert_eq!(reference.repository, repository, "{text}");
            assert_eq!(reference.tag.as_ref().map(Tag::as_str), tag, "{text}");
            assert_eq!(reference.digest.is_some(), pinned, "{text}");
            assert_eq!(
                reference.to_string().parse::<Reference>().unwrap(),
                reference,
                "{text} does not round-trip"
            );
        }
    }

    #[test]
    fn wrong_references_say_what_to_write() {
        for (text, hint) in [
            ("", "host/repository"),
            ("nginx/", "remove the slash"),
            ("ghcr.io/", "repository is missing"),
            ("ghcr.io//a", "two slashes"),
            ("ghcr.io/A/b", "write a/b"),
            ("Grafana/loki", "write grafana/loki"),
            ("ghcr.io/a/b:", "cannot be empty"),
            ("ghcr.io/a/b:1+2", "`_` in its place"),
            ("ghcr.io/a/b@sha256:abc", "64 hex digits"),
            ("ghcr.io/a/b@sha256", "not a digest"),
            ("https://ghcr.io/a/b", "leave the scheme out"),
            ("ftp://ghcr.io/a/b", "without a scheme"),
            ("ghcr.io:port/a", "not a port"),
            ("[::1/a", "closing bracket"),
            ("[zz]/a", "not an IPv6 address"),
            ("ghcr.io/a b", "white space"),
            ("ghcr.io/a/../b", "not a path component"),
            ("ghcr.io/-a", "not a path component"),
            ("ghcr.io/a___b", "not a path component"),
            ("ghcr.io/ä", "not a path component"),
            ("gh..io/a", "not a host name"),
            ("localhost", "repository is missing"),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }

        assert!(
            "a".repeat(100_000).parse::<Reference>().expect_err("too long").to_string().len() < 500
        );
    }

    #[test]
    fn references_are_parsed_as_by_oci_client() {
        let digest = Digest::sha256_of(b"a manifest");
        for text in [
            "nginx",
            "nginx:1.27",
            "grafana/loki:3",
            "docker.io/nginx",
            "docker.io/library/nginx:1.27",
            "localhost/a",
            "localhost:5000/a/b:c",
            "127.0.0.1:5000/a",
            "ghcr.io/a/b",
            "quay.io/a:b",
            "registry.example.com:443/a__b/c-d/e.f:v1.2.3-rc.1",
            &format!("ghcr.io/a/b@{digest}"),
            &format!("ghcr.io/a/b:c@{digest}"),
        ] {
            let ours: Reference = text.parse().unwrap();
            let theirs: oci_client::Reference = text.parse().unwrap();
            assert_eq!(ours.host, theirs.registry(), "{text}");
            assert_eq!(ours.repository, theirs.repository(), "{text}");
            assert_eq!(ours.digest.as_ref().map(Digest::as_str), theirs.digest(), "{text}");
            // oci-client adds the tag `latest` where neither tag nor digest is written.
            let default = ours.digest.is_none().then_some("latest");
            assert_eq!(ours.tag.as_ref().map(Tag::as_str).or(default), theirs.tag(), "{text}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for text in ["latest", "_x", "1", "v1.2.3-rc.1", &"a".repeat(128)] {
            assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
        }
        for text in ["", "-a", ".a", "a+b", "a/b", "a:b", "ä", &"a".repeat(129)] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }
}
