//! Requests for manifests: resolved by HEAD, read whole and checked against their digest, and written
//! byte for byte.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use super::auth::Scope;
use super::bodies::Bound;
use super::cause::Cause;
use super::client::{Call, Client};
use super::digest::Digest;
use super::error::Error;
use super::manifest::{Manifest, NEED, is_manifest_type};
use super::reference::{Tag, TagOrDigest};
use super::retry::retrying;
use crate::place;

/// The largest manifest that is read. The distribution spec asks registries to accept 4 MiB; ECR
/// accepts no more.
pub(crate) const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

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
            let bound = Bound::new(self.budget(), NEED, MAX_MANIFEST_BYTES);
            let bound = Bound { silence: self.options().stall_window, ..bound };
            let (bytes, memory) = bound.read(response).await?;
            Ok((headers, bytes, memory))
        });
        let (headers, bytes, _memory) = place::waiting(Some(self.host()), read).await?;

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
