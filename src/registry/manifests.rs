//! Manifests: resolved by HEAD, read whole and checked against their digest, and written byte for
//! byte.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::auth::Scope;
use super::bodies::read_body_within;
use super::cause::Cause;
use super::client::{Call, Client};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::error::Error;
use super::json::object;
use super::reference::{Tag, TagOrDigest};
use super::retry::retrying;
use crate::place;

/// The largest manifest that is read. The distribution spec asks registries to accept 4 MiB; ECR
/// accepts no more.
pub(crate) const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// ECR converts a manifest that is read by tag into a type that the client accepts, which changes
/// the digest: accept everything. Schema 1 is left out on purpose; a registry that has nothing else
/// sends it anyway, and the user gets a clear error.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

/// The longest wait for the head of the answer to a request for a manifest. Registries answer from
/// an index, within a second.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(15);

const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest as the registry sent it. Its digest was computed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes; never re-serialised.
    pub bytes: Bytes,
    /// The media type, by the `Content-Type` header or by the body.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
}

/// The content that a manifest refers to.
#[allow(clippy::large_enum_variant)] // matched where it is created: a box would gain nothing
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An index or manifest list.
    Index {
        /// The children, in order, with duplicates.
        children: Vec<Descriptor>,
    },
    /// An image or artifact manifest.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order, with duplicates.
        layers: Vec<Descriptor>,
        /// The manifest that this one is attached to.
        subject: Option<Descriptor>,
    },
}

/// The manifest that a tag points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The manifest's digest.
    pub(crate) digest: Digest,
    /// The media type, if the registry sent it.
    pub(crate) media_type: Option<String>,
    /// The size, if the registry sent it.
    pub(crate) size: Option<u64>,
}

/// The fields of all kinds of manifests that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of the OCI artifact manifest, which was withdrawn before 1.1.
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Creates a manifest of these bytes, with their sha256 digest. An empty media type is read
    /// from the body.
    #[must_use]
    pub fn new(bytes: Bytes, media_type: impl Into<String>) -> Self {
        let digest = Digest::sha256_of(&bytes);
        Self::with_digest(bytes, media_type.into(), digest)
    }

    fn with_digest(bytes: Bytes, media_type: String, digest: Digest) -> Self {
        let media_type = if is_manifest_type(&media_type) {
            media_type
        } else {
            media_type_of(&bytes, media_type)
        };
        Self { bytes, media_type, digest }
    }

    /// The length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Parses the content that this manifest refers to.
    ///
    /// # Errors
    /// Class `SourceInvalid` if it cannot be parsed, and for Docker's schema 1, which ECR and
    /// today's runtimes no longer accept.
    pub(crate) fn kind(&self) -> Result<Content, Error> {
        self.parse().map_err(|failure| failure.read_manifest(self.digest.to_string()))
    }

    fn document(&self) -> Result<Document, Cause> {
        object(&self.bytes).map_err(|e| Cause::Unreadable(format!("it is not a manifest: {e}")))
    }

    /// Checks that this is a manifest at all. The digest of another document is not reported: it
    /// would confirm a guess of its content.
    fn check_form(&self) -> Result<(), Cause> {
        let document = self.document()?;
        let has_parts = document.manifests.is_some()
            || document.config.is_some()
            || document.layers.is_some()
            || document.blobs.is_some();
        let has_type = document.media_type.as_deref().is_some_and(is_manifest_type);
        if document.schema_version.is_some() || has_parts || has_type {
            return Ok(());
        }
        Err(Cause::Unreadable("it is not a manifest: it has none of a manifest's fields".into()))
    }

    pub(super) fn parse(&self) -> Result<Content, Cause> {
        if self.media_type.starts_with("application/vnd.docker.distribution.manifest.v1") {
            return Err(schema1());
        }
        let document = self.document()?;
        if document.schema_version == Some(1) {
            return Err(schema1());
        }

        let is_index = match self.media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => document.manifests.is_some() && document.config.is_none(),
        };

        if is_index {
            // Of a body that is both, a container runtime could run the other part
            // (CVE-2021-41190).
            if document.layers.is_some() || document.config.is_some() {
                return Err(Cause::Unreadable("it claims to be an index and has layers".into()));
            }
            return Ok(Content::Index { children: document.manifests.unwrap_or_default() });
        }

        if document.manifests.is_some() {
            return Err(Cause::Unreadable("it claims to be an image and has children".into()));
        }

        if document.blobs.is_some() {
            return Err(Cause::Unreadable(
                "OCI artifact manifests were withdrawn and are not supported".into(),
            ));
        }
        let Some(config) = document.config else {
            return Err(Cause::Unreadable(format!(
                "a {} without config cannot be copied",
                self.media_type
            )));
        };
        Ok(Content::Image {
            config,
            layers: document.layers.unwrap_or_default(),
            subject: document.subject,
        })
    }
}

fn schema1() -> Cause {
    Cause::Unreadable(
        "Docker manifest schema 1 is not supported; push the image again with a current tool"
            .into(),
    )
}

/// Whether the media type is one of a manifest. Registries that do not know the type send
/// `application/json`, `text/plain` or `application/octet-stream`.
fn is_manifest_type(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.")
}

/// The media type by the body: its `mediaType`, else by its fields. Charts pushed by `helm push`
/// have no `mediaType`.
fn media_type_of(bytes: &[u8], header: String) -> String {
    let Ok(document) = object::<Document>(bytes) else { return header };
    match document {
        Document { media_type: Some(media_type), .. } if is_manifest_type(&media_type) => {
            media_type
        }
        Document { schema_version: Some(1), .. } => {
            "application/vnd.docker.distribution.manifest.v1+json".into()
        }
        Document { manifests: Some(_), .. } => OCI_INDEX.into(),
        Document { config: Some(_), .. } => OCI_MANIFEST.into(),
        _ => header,
    }
}

impl Client {
    /// Resolves a tag to the manifest that it points to now. By HEAD, which does not count as a
    /// pull; by GET if the registry refuses HEAD or sends no digest.
    ///
    /// # Errors
    /// [`Error::ReadManifest`].
    pub(crate) async fn resolve(&self, repository: &str, tag: &Tag) -> Result<Resolved, Error> {
        let what = TagOrDigest::from(tag);
        match self.head_manifest(repository, &what).await {
            Ok(Some(resolved)) => return Ok(resolved),
            Ok(None) => {}
            Err(failure) => return Err(failure.read_manifest(self.subject(repository, &what))),
        }
        let manifest = self.manifest(repository, what).await?;
        let size = Some(manifest.size());
        Ok(Resolved { digest: manifest.digest, media_type: Some(manifest.media_type), size })
    }

    /// Resolves by HEAD; `None` if only a GET can tell. A refused HEAD has no body with the reason,
    /// and some registries refuse only HEAD.
    async fn head_manifest(
        &self,
        repository: &str,
        what: &TagOrDigest,
    ) -> Result<Option<Resolved>, Cause> {
        let call = self.manifest_call(Method::HEAD, repository, what)?;
        let response = match self.call(&call).await {
            Ok(response) => response,
            Err(Cause::Answer(answer))
                if matches!(answer.status.as_u16(), 400 | 403 | 404 | 405 | 406 | 415 | 501) =>
            {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };

        let headers = response.headers();
        let Some(digest) = digest_header(headers)? else { return Ok(None) };
        if let TagOrDigest::Digest(asked) = what
            && *asked != digest
        {
            return Err(Cause::Digest { expected: asked.clone(), actual: digest });
        }
        let size = headers
            .get(reqwest::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());

        // Some servers send the length of the missing body, which is 0.
        let size = size.filter(|size| *size > 0);
        Ok(Some(Resolved {
            digest,
            media_type: media_type(headers).filter(|text| is_manifest_type(text)),
            size,
        }))
    }

    /// Reads a whole manifest. Its bytes match the digest that was asked for and the digest that
    /// the registry sent.
    ///
    /// # Errors
    /// [`Error::ReadManifest`].
    pub(crate) async fn manifest(
        &self,
        repository: &str,
        what: impl Into<TagOrDigest>,
    ) -> Result<Manifest, Error> {
        let what = what.into();
        self.get_manifest(repository, &what)
            .await
            .map_err(|failure| failure.read_manifest(self.subject(repository, &what)))
    }

    async fn get_manifest(&self, repository: &str, what: &TagOrDigest) -> Result<Manifest, Cause> {
        match self.get_manifest_once(repository, what).await {
            // As with blobs: content that was damaged in transit is right the second time; content
            // that is stored wrong is not.
            Err(failure @ Cause::Digest { .. }) => {
                tracing::debug!(%failure, "manifest has the wrong digest, reading it again");
                self.get_manifest_once(repository, what).await
            }
            other => other,
        }
    }

    async fn get_manifest_once(
        &self,
        repository: &str,
        what: &TagOrDigest,
    ) -> Result<Manifest, Cause> {
        let call = self.manifest_call(Method::GET, repository, what)?;
        let head = self.manifest_call(Method::HEAD, repository, what)?;
        // A break in the body is retried like the request.
        let read = retrying(&self.options().retry, || async {
            let pull = self.pull(&head).await?;
            let response = self.attempt(&call).await?;
            drop(pull);
            let headers = response.headers().clone();
            Ok((
                headers,
                read_body_within(response, MAX_MANIFEST_BYTES, self.options().stall_window).await?,
            ))
        });
        let (headers, bytes) = place::waiting(Some(self.host()), read).await?;

        let from_header = digest_header(&headers)?;
        let expected = match what {
            TagOrDigest::Digest(asked) => Some(asked.clone()),
            TagOrDigest::Tag(_) => from_header.clone(),
        };

        let digest = match expected {
            Some(expected) => check(&bytes, expected)?,
            None => Digest::sha256_of(&bytes),
        };
        if let Some(other) = from_header
            && other.algorithm() == digest.algorithm()
            && other != digest
        {
            return Err(Cause::Digest { expected: digest, actual: other });
        }

        let media_type = media_type(&headers).unwrap_or_default();
        let manifest = Manifest::with_digest(bytes, media_type, digest);
        manifest.check_form()?;
        Ok(manifest)
    }

    /// Whether the registry has this manifest.
    ///
    /// # Errors
    /// [`Error::Check`].
    pub(crate) async fn manifest_exists(
        &self,
        repository: &str,
        what: impl Into<TagOrDigest>,
    ) -> Result<bool, Error> {
        let what = what.into();
        let look = |failure: Cause| failure.check(self.subject(repository, &what));
        let call = self.manifest_call(Method::HEAD, repository, &what).map_err(look)?;

        match self.call(&call).await {
            Ok(_) => Ok(true),
            Err(Cause::Answer(answer)) if answer.status == StatusCode::NOT_FOUND => Ok(false),
            Err(Cause::Answer(answer))
                if matches!(answer.status.as_u16(), 400 | 405 | 406 | 415 | 501) =>
            {
                match self.get_manifest(repository, &what).await {
                    Ok(_) => Ok(true),
                    Err(Cause::Answer(answer)) if answer.status == StatusCode::NOT_FOUND => {
                        Ok(false)
                    }
                    Err(failure) => Err(look(failure)),
                }
            }
            Err(failure) => Err(look(failure)),
        }
    }

    /// Writes a manifest, byte for byte.
    ///
    /// # Errors
    /// [`Error::WriteManifest`]. Class `TagImmutable` if the tag exists and is immutable. ECR
    /// refuses even the same digest (aws/containers-roadmap#2179), so compare before.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        what: impl Into<TagOrDigest>,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let what = what.into();
        self.write_manifest(repository, &what, manifest).await.map_err(|failure| {
            Error::WriteManifest {
                subject: self.subject(repository, &what),
                source: Box::new(failure),
            }
        })
    }

    async fn write_manifest(
        &self,
        repository: &str,
        what: &TagOrDigest,
        manifest: &Manifest,
    ) -> Result<(), Cause> {
        let url = self.url(repository, &format!("manifests/{what}"))?;
        let mut call = Call::new(Method::PUT, url, Scope::push(repository));
        let media_type = HeaderValue::from_str(&manifest.media_type).map_err(|_| {
            Cause::Unreadable(format!("{:?} is not a media type", manifest.media_type))
        })?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = manifest.bytes.clone();

        // The spec says 201, and registries send 200 to 204. ECR sends no Location; none is needed.
        let response = retrying(&self.options().retry, || self.attempt_in_turn(&call)).await?;
        match digest_header(response.headers())? {
            Some(stored)
                if stored.algorithm() == manifest.digest.algorithm()
                    && stored != manifest.digest =>
            {
                Err(Cause::Unexpected(format!(
                    "the registry stored the manifest as {stored}, not as {}",
                    manifest.digest
                )))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the rate limit, and makes one try to write a manifest.
    async fn attempt_in_turn(&self, call: &Call) -> Result<reqwest::Response, Cause> {
        let gate = self.options().manifests.as_ref();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        self.attempt_behind(gate, call).await
    }

    fn manifest_call(
        &self,
        method: Method,
        repository: &str,
        what: &TagOrDigest,
    ) -> Result<Call, Cause> {
        let url = self.url(repository, &format!("manifests/{what}"))?;
        let mut call = Call::new(method, url, Scope::pull(repository));
        call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        call.timeout = MANIFEST_TIMEOUT;
        Ok(call)
    }
}

fn check(bytes: &[u8], expected: Digest) -> Result<Digest, Cause> {
    let actual = Digest::of(expected.algorithm(), bytes);
    if actual == expected { Ok(actual) } else { Err(Cause::Digest { expected, actual }) }
}

/// Reads the digest header. An unknown algorithm is ignored: the digest is then computed from the
/// bytes.
fn digest_header(headers: &HeaderMap) -> Result<Option<Digest>, Cause> {
    let Some(value) = headers.get(CONTENT_DIGEST) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    match text.parse::<Digest>() {
        Ok(digest) => Ok(Some(digest)),
        Err(error) if text.starts_with("sha256:") => {
            Err(Cause::Unexpected(format!("{CONTENT_DIGEST}: {error}")))
        }
        Err(_) => Ok(None),
    }
}

/// Reads `Content-Type` without its parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let text = text.split(';').next().unwrap_or_default().trim();
    (!text.is_empty()).then(|| text.to_owned())
}
