//! Uploads of whole blobs: POST for a session or a mount, then one streaming PUT. For a registry
//! that refuses a whole blob, see `parts`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::Instant;

use super::addresses::{authority, check_target, same_origin};
use super::auth::Scope;
use super::blobs::BlobStream;
use super::cause::Cause;
use super::client::{Call, Client, Options};
use super::digest::Digest;
use super::error::Error;
use super::parts::is_about_the_whole;
use super::reference::TagOrDigest;
use super::request::{Body, Request};
use super::retry::retrying;

/// A callback for progress: gets the number of bytes sent since its last call.
pub(crate) type Observer<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// The result of starting an upload.
#[derive(Debug)]
pub(crate) enum Started {
    /// The registry mounted the blob from another of its repositories: nothing is left to do.
    Mounted,
    /// The bytes must be sent into this session.
    Session(Session),
}

/// An upload session.
#[derive(Debug)]
pub(crate) struct Session {
    /// The address of the next request.
    pub(super) url: Url,
    /// The minimum length of a part other than the last; 0 if the registry requires none.
    pub(super) min_part: u64,
}

impl Client {
    /// Opens an upload session; with `from`, tries to mount the blob from that repository first.
    pub(crate) async fn begin_upload(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Started, Cause> {
        let plain = self.url(repository, "blobs/uploads/")?;
        let response = match from {
            Some(from) => {
                let mut url = plain.clone();
                url.query_pairs_mut()
                    .append_pair("mount", digest.as_str())
                    .append_pair("from", from);
                match self.begin(url, repository).await {
                    Ok(response) if response.status() == StatusCode::CREATED => {
                        return Ok(Started::Mounted);
                    }
                    Ok(response) => response,
                    // Some registries answer a mount with an error instead of a session
                    // (ggcr#1741).
                    Err(Cause::Answer(answer))
                        if answer.status.is_client_error() && answer.status.as_u16() != 429 =>
                    {
                        self.begin(plain.clone(), repository).await?
                    }
                    Err(failure) => return Err(failure),
                }
            }
            None => self.begin(plain.clone(), repository).await?,
        };

        session(&plain, &response).map(Started::Session)
    }

    async fn begin(&self, url: Url, repository: &str) -> Result<Response, Cause> {
        let call = Call::new(Method::POST, url, Scope::push(repository));
        let Options { retry, uploads, .. } = self.options();
        retrying(retry, || self.attempt_behind(uploads.as_ref(), &call)).await
    }

    /// Sends a blob into a session. Any 2xx is success; ECR answers 201 without Location.
    pub(crate) async fn send_blob(
        &self,
        repository: &str,
        session: Session,
        blob: BlobStream,
        observer: Observer<'_>,
    ) -> Result<(), Error> {
        let digest = blob.digest().clone();
        let size = blob.size();
        let subject = self.subject(repository, &TagOrDigest::from(&digest));
        let failed = |failure: Cause| failure.write_blob(&*subject);

        if self.limits().wants_parts(size) {
            let sent = self.send_parts(repository, session, blob, observer).await;
            // The registry refuses parts as well: the next blob is sent whole again, so that the
            // message names the first refusal.
            if let Err(Error::WriteBlob { source, .. }) = &sent
                && source.answer().is_some_and(is_about_the_whole)
            {
                self.limits().use_whole_blobs();
            }
            return sent;
        }

        let mut session = session.url;
        session.query_pairs_mut().append_pair("digest", digest.as_str());

        let scope = Scope::push(repository);
        let grant = self.auth().grant(&scope).await.map_err(failed)?;
        let base = self.url(repository, "").map_err(failed)?;
        let is_ours = same_origin(&base, &session);
        let authorization = grant.as_ref().filter(|_| is_ours).map(|grant| grant.header.clone());
        let sent = Arc::new(Sent::default());
        let body = if size == 0 {
            // An empty stream has no last chunk to hold back, so the digest is checked first.
            blob.collect_bytes(0).await?;
            Body::Empty
        } else {
            Body::Stream(reqwest::Body::wrap_stream(tap(blob, sent.clone())))
        };

        let request = put(&session, authorization.clone(), size, body);
        let answered = self.send_watched(request, &sent, size, observer).await;
        if let Some(error) = sent.take_error() {
            return Err(error);
        }

        let response = match answered {
            Ok(response) if response.status().is_success() => {
                return self
                    .check_stored(repository, &digest, response, &sent, size)
                    .await
                    .map_err(failed);
            }
            Ok(response) => response,
            Err(broken @ Cause::Broken { .. }) => {
                let refusal =
                    self.refusal_behind_break(put(&session, authorization, 0, Body::Empty)).await;
                refusal.ok_or_else(|| failed(broken))?
            }
            Err(failure) => return Err(failed(failure)),
        };

        let (failure, challenges) = self.failure(response, grant.as_ref()).await;
        let Cause::Answer(answer) = failure else { return Err(failed(failure)) };
        if let Some(gate) = self
            .options()
            .uploads
            .as_ref()
            .filter(|_| answer.status == StatusCode::TOO_MANY_REQUESTS)
        {
            gate.throttled();
        }

        // The stream is used up, so the renewed credential is for the next try.
        let is_about_login = answer.status == StatusCode::UNAUTHORIZED || answer.says_expired();
        if is_ours
            && is_about_login
            && self
                .auth()
                .renew(&scope, grant.as_ref(), &challenges)
                .await
                .map_err(failed)?
                .is_some()
        {
            return Err(failed(Cause::Expired(answer)));
        }

        if size > 0 && is_about_the_whole(&answer) {
            let is_too_large = answer.status == StatusCode::PAYLOAD_TOO_LARGE;
            self.limits().use_parts_from(if is_too_large { size } else { 1 });
            return Err(failed(Cause::WholeBlobRefused(answer)));
        }
        Err(failed(Cause::Answer(answer)))
    }

    /// Finds the refusal behind a connection that broke during an upload. A server that refuses an
    /// upload by its head answers and closes the connection; hyper then fails at its next write,
    /// before it reads the answer. The same request without a body gets the same refusal. A server
    /// that accepts the upload only complains that the blob is empty, which is not a refusal.
    async fn refusal_behind_break(&self, request: Request) -> Option<Response> {
        let request = Request { timeout: self.options().answer_timeout, ..request };
        let response = self.transport().send(request).await.ok()?;
        matches!(response.status().as_u16(), 401 | 403 | 405 | 413 | 429 | 500..=599)
            .then_some(response)
    }

    /// Checks that the registry has the blob: a 2xx before the last byte was sent is right only if
    /// the blob existed before.
    async fn check_stored(
        &self,
        repository: &str,
        digest: &Digest,
        response: Response,
        sent: &Sent,
        size: u64,
    ) -> Result<(), Cause> {
        let status = response.status();
        drop(response);
        if sent.bytes() == size || self.blob_exists(repository, digest).await.unwrap_or(false) {
            return Ok(());
        }
        Err(Cause::Unexpected(format!(
            "the registry answered {status} before it had the whole blob"
        )))
    }

    /// Sends a request, and ends it if no bytes leave: neither reqwest nor hyper has a timeout for
    /// that.
    async fn send_watched(
        &self,
        request: Request,
        sent: &Sent,
        size: u64,
        observer: Observer<'_>,
    ) -> Result<Response, Cause> {
        let host = authority(&request.url);
        let stall = self.options().stall_window;
        let commit = self.options().commit_timeout_of(size);
        let tick = (stall / 8).clamp(Duration::from_millis(1), Duration::from_millis(250));
        let mut sending = std::pin::pin!(self.transport().send(request));
        let mut reported = 0;
        let mut last_progress = Instant::now();

        loop {
            let answered = tokio::time::timeout(tick, &mut sending).await.ok();
            let bytes = sent.bytes();
            if bytes > reported {
                observer(bytes - reported);
                reported = bytes;
                last_progress = Instant::now();
            }
            if let Some(answered) = answered {
                return answered;
            }

            if sent.waits_for_source() {
                // The download has a timeout of its own.
                last_progress = Instant::now();
            }
            let timeout = if bytes == size { commit } else { stall };
            if last_progress.elapsed() >= timeout {
                return Err(if bytes < size {
                    Cause::Stalled { host, bytes: 0, window: timeout }
                } else {
                    Cause::NoAnswer { host, after: timeout }
                });
            }
        }
    }
}

/// Reads the upload session from the answer to a POST.
fn session(asked: &Url, response: &Response) -> Result<Session, Cause> {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let url = session_at(asked, response.url(), text(LOCATION.as_str()))?;
    let min_part =
        text("oci-chunk-min-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok(Session { url, min_part })
}

/// The session's address: a `Location`, which may be relative to the address of the answer.
pub(super) fn session_at(
    asked: &Url,
    answered: &Url,
    location: Option<&str>,
) -> Result<Url, Cause> {
    let Some(url) = location.and_then(|text| answered.join(text).ok()) else {
        return Err(Cause::Unexpected(
            "the registry opened an upload session without a usable Location header".into(),
        ));
    };
    check_target(asked, &url, asked)?;
    Ok(url)
}

/// The PUT that completes a session.
fn put(session: &Url, authorization: Option<HeaderValue>, length: u64, body: Body) -> Request {
    let mut request = Request::new(Method::PUT, session.clone());
    request.authorization = authorization;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    request.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    request.body = body;
    request
}

/// The state of a body that the HTTP client owns.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    waits_for_source: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Sent {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn waits_for_source(&self) -> bool {
        self.waits_for_source.load(Ordering::Relaxed)
    }

    fn take_error(&self) -> Option<Error> {
        self.error.lock().take()
    }
}

/// Passes a blob to the HTTP client and keeps the source's error, which the HTTP client would
/// replace by its own.
fn tap(
    blob: BlobStream,
    sent: Arc<Sent>,
) -> impl Stream<Item = Result<Bytes, SourceBroke>> + Send + 'static {
    stream::unfold((blob, sent), |(mut blob, sent)| async move {
        sent.waits_for_source.store(true, Ordering::Relaxed);
        let next = blob.next().await;
        sent.waits_for_source.store(false, Ordering::Relaxed);
        let item = match next? {
            Ok(chunk) => {
                sent.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(chunk)
            }
            Err(error) => {
                *sent.error.lock() = Some(error);
                Err(SourceBroke)
            }
        };
        Some((item, (blob, sent)))
    })
}

/// Ends the upload; [`Sent`] keeps the cause.
#[derive(Debug, thiserror::Error)]
#[error("the source of the blob broke")]
struct SourceBroke;
