//! Names of things in a registry: tags and whole references.
//!
//! They are parsed once, at the edge; what holds one of them needs no further check.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// The host that a short name such as `nginx` means.
pub const DOCKER_HUB: &str = "docker.io";

/// The host that serves Docker Hub's `/v2/` API; `docker.io` itself is a web site.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The distribution spec asks registries to accept names up to here, host included.
const LONGEST_REPOSITORY: usize = 255;

/// Why a text is not a reference, tag or digest. The message names the text and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) String);

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`. It cannot hold `+`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

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
                "a tag cannot be empty: leave the colon out, or write a tag after it".into(),
            ));
        };
        if text.contains('+') {
            return Err(wrong("tags cannot hold `+`; charts write `_` in its place"));
        }
        if !(first.is_ascii_alphanumeric() || first == '_') {
            return Err(wrong("the first character must be a letter, a digit or `_`"));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err(wrong("only letters, digits, `_`, `.` and `-` are allowed"));
        }
        if text.len() > 128 {
            return Err(wrong("128 characters at most"));
        }
        Ok(Self(text.to_owned()))
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
        tag.0
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

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagOrDigest {
    /// A name that may move.
    Tag(Tag),
    /// A content address.
    Digest(Digest),
}

impl TagOrDigest {
    /// `:tag` or `@digest`: what follows the repository in a reference.
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

/// Where an artifact is: host, repository, and a tag, a digest, both or neither.
///
/// Docker's short names are understood (`nginx` is `docker.io/library/nginx`). Nothing is added
/// that was not written: without a tag, `tag` is `None`, not `latest`.
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
    /// The digest, if one was written. With both, the digest decides and the tag is what it was
    /// found under.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The host that serves the API: `registry-1.docker.io` for Docker Hub, else [`Self::host`].
    #[must_use]
    pub fn api_host(&self) -> &str {
        api_host(&self.host)
    }

    /// `host/repository`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    #[must_use]
    pub fn tag_or_digest(&self) -> Option<TagOrDigest> {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Some(digest.into()),
            (None, Some(tag)) => Some(tag.into()),
            (None, None) => None,
        }
    }
}

/// The host that serves the `/v2/` API of the registry that users call `host`.
pub(crate) fn api_host(host: &str) -> &str {
    if host == DOCKER_HUB { DOCKER_HUB_API } else { host }
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
            return Err(wrong("it holds white space"));
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

/// `oci://` (Helm) and `docker://` (skopeo) say nothing that the rest does not; other schemes mean
/// something else.
fn without_scheme(text: &str) -> Result<&str, &'static str> {
    match text.split_once("://") {
        None => Ok(text),
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("oci") || scheme.eq_ignore_ascii_case("docker") =>
        {
            Ok(rest)
        }
        Some((scheme, _))
            if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") =>
        {
            Err(
                "leave the scheme out and write host/repository (plain http is a setting of its own)",
            )
        }
        Some(_) => Err("write host/repository without a scheme"),
    }
}

/// Docker's rule: the first segment is a host if it holds a dot, a colon or is `localhost`.
fn split_host(text: &str) -> Result<(String, &str), String> {
    let hub = || Ok((DOCKER_HUB.to_owned(), text));
    let Some((first, path)) = text.split_once('/') else {
        if text.starts_with('[') || text.eq_ignore_ascii_case("localhost") {
            return Err("the repository is missing; write host/repository".into());
        }
        return hub();
    };
    let is_host = first.starts_with('[')
        || first.contains(['.', ':'])
        // Docker also takes a first segment with capitals for a host, `Grafana/loki` for one:
        // nobody means that.
        || first.eq_ignore_ascii_case("localhost");
    if !is_host {
        return hub();
    }
    let host = first.to_ascii_lowercase();
    check_host(&host)?;
    let host = match host.as_str() {
        "index.docker.io" | DOCKER_HUB_API | "www.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    };
    Ok((host, path))
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return Err(format!("host {host:?} lacks a closing bracket"));
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{address:?} is not an IPv6 address"));
        }
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return Err(format!("host {host:?} has text after its bracket")),
        };
        ("ipv6", port)
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    if let Some(port) = port
        && (port.parse::<u16>().is_err() || port.starts_with('+'))
    {
        return Err(format!("{port:?} is not a port"));
    }
    let good_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    // One dot at the end is the fully qualified form of DNS.
    if !name.strip_suffix('.').unwrap_or(name).split('.').all(good_label) {
        return Err(format!("{host:?} is not a host name"));
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, with a message for the mistakes that people make.
fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing; write host/repository".into());
    }
    if repository.ends_with('/') {
        return Err("leave the slash at the end out".into());
    }
    if repository.len() > LONGEST_REPOSITORY {
        return Err(format!("the repository is longer than {LONGEST_REPOSITORY} characters"));
    }
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "repositories are lower case; write {}",
            repository.to_ascii_lowercase()
        ));
    }
    for component in repository.split('/') {
        if component.is_empty() {
            return Err("it has two slashes in a row".into());
        }
        if !good_component(component) {
            return Err(format!(
                "{component:?} is not a path component: lower-case letters and digits, with `.`, `_`, `__` or `-` between them"
            ));
        }
    }
    Ok(())
}

fn good_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = component.starts_with(alphanumeric) && component.ends_with(alphanumeric);
    edges
        && component.split(alphanumeric).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.chars().all(|c| c == '-')
        })
}

/// Enough of a text for a message: hostile input does not flood a log.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const MOST: usize = 300;
    crate::text::shortened(text, MOST)
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
            ("nginx/", "slash at the end"),
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
    fn our_reading_agrees_with_oci_client() {
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
    fn docker_hub_has_an_api_host_of_its_own() {
        assert_eq!("nginx".parse::<Reference>().unwrap().api_host(), "registry-1.docker.io");
        assert_eq!("ghcr.io/a/b".parse::<Reference>().unwrap().api_host(), "ghcr.io");
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
