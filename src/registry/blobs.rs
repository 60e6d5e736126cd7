//! Downloads of blobs: checked while streaming, resumed after a break, ended when they stall; and
//! whether a blob exists.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};

use super::addresses::authority;
use super::auth::Scope;
use super::cause::Cause;
use super::client::{Call, Client};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::error::Error;
use super::limit::Slot;
use super::reference::TagOrDigest;
use super::verify::Verifier;

/// The number of resumes of a broken download, without [`RESUMES_RESET`] bytes in between.
const MAX_RESUMES: u32 = 3;
/// After this much progress the count of resumes starts again: for 10 GB over a link that drops
/// once a minute.
const RESUMES_RESET: u64 = 64 * 1024 * 1024;

/// The bytes of a blob, hashed and counted while they pass.
///
/// # Guarantees
/// The last chunk is released only after size and digest were checked; if they are wrong, an error
/// takes its place. A consumer that waits for the end never uses wrong content.
pub(crate) struct BlobStream {
    digest: Digest,
    size: u64,
    /// `host/repository@digest`, for messages.
    subject: String,
    inner: Option<BoxStream<'static, Result<Bytes, Cause>>>,
    verifier: Verifier,
}

impl BlobStream {
    fn new(
        subject: String,
        descriptor: &Descriptor,
        inner: BoxStream<'static, Result<Bytes, Cause>>,
    ) -> Self {
        let Descriptor { digest, size, .. } = descriptor;
        let verifier = Verifier::new(digest.clone(), *size);
        Self { digest: digest.clone(), size: *size, subject, inner: Some(inner), verifier }
    }

    /// Creates a stream of bytes in memory, which are checked too. `subject` is for messages.
    #[must_use]
    pub(crate) fn from_bytes(
        subject: impl Into<String>,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Self {
        Self::new(subject.into(), descriptor, stream::iter([Ok(bytes)]).boxed())
    }

    /// The digest that the bytes are checked against.
    #[must_use]
    pub(crate) const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The length that the bytes are checked against.
    #[must_use]
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Reads all bytes of a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::ReadBlob`].
    pub(crate) async fn collect_bytes(self, limit: usize) -> Result<Bytes, Error> {
        if self.size > limit as u64 {
            return Err(Cause::TooLarge { limit }.read_blob(self.subject));
        }
        let chunks: Vec<Bytes> = self.try_collect().await?;
        Ok(match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(chunks) => chunks.concat().into(),
        })
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("subject", &self.subject)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while let Some(inner) = &mut this.inner {
            let step = match ready!(inner.poll_next_unpin(cx)) {
                Some(Ok(chunk)) => this.verifier.push(chunk),
                Some(Err(failure)) => Err(failure),
                None => {
                    this.inner = None;
                    this.verifier.finish()
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(chunk))),
                Err(failure) => {
                    // Closes the connection now, not when the consumer drops the stream.
                    this.inner = None;
                    return Poll::Ready(Some(Err(failure.read_blob(&*this.subject))));
                }
            }
        }

        Poll::Ready(None)
    }
}

impl Client {
    /// Opens a blob. The stream holds a download slot until it ends or is dropped.
    #[cfg(test)]
    pub(crate) async fn blob(
        &self,
        repository: &str,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, Error> {
        let subject = || self.subject(repository, &TagOrDigest::from(&descriptor.digest));
        if let Some(stream) = inline(subject(), descriptor) {
            return Ok(stream);
        }
        let slot =
            self.limits().download().await.map_err(|failure| failure.read_blob(subject()))?;
        self.open_blob(repository, descriptor, slot).await
    }

    pub(crate) async fn open_blob(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        slot: Slot,
    ) -> Result<BlobStream, Error> {
        let subject = self.subject(repository, &TagOrDigest::from(&descriptor.digest));
        let opened = async {
            let url = self.url(repository, &format!("blobs/{}", descriptor.digest))?;
            let call = Call::new(Method::GET, url, Scope::pull(repository));
            self.quota().bytes()?;
            let response = self.call(&call).await?;
            // Wrong before a byte was read: no resume can repair it.
            if let Some(actual) = response.content_length()
                && actual != descriptor.size
            {
                return Err(Cause::Size { expected: descriptor.size, actual });
            }
            Ok((call, response))
        };

        let (call, response) =
            opened.await.map_err(|failure: Cause| failure.read_blob(&*subject))?;
        let download = Download::new(self.clone(), call, response, descriptor.size, slot);
        Ok(BlobStream::new(subject, descriptor, download.into_stream()))
    }

    /// Whether the registry has this blob. `false` also if the registry cannot tell: uploading the
    /// blob again does no harm.
    ///
    /// # Errors
    /// [`Error::Check`].
    pub(crate) async fn blob_exists(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let exists = async {
            let url = self.url(repository, &format!("blobs/{digest}"))?;
            match self.call(&Call::new(Method::HEAD, url, Scope::pull(repository))).await {
                Ok(_) => Ok(true),
                Err(Cause::Answer(answer))
                    if matches!(answer.status.as_u16(), 400 | 404 | 405 | 501) =>
                {
                    Ok(false)
                }
                Err(failure) => Err(failure),
            }
        };
        exists.await.map_err(|failure: Cause| {
            failure.check(self.subject(repository, &TagOrDigest::from(digest)))
        })
    }
}

/// The content that is embedded in the descriptor, if size and digest are right.
pub(crate) fn inline(subject: String, descriptor: &Descriptor) -> Option<BlobStream> {
    let data = descriptor.data.as_ref()?;
    let is_right = data.len() as u64 == descriptor.size
        && Digest::of(descriptor.digest.algorithm(), data) == descriptor.digest;
    is_right.then(|| BlobStream::from_bytes(subject, descriptor, data.clone()))
}

/// A download that resumes after a break, unnoticed by its consumer.
struct Download {
    client: Client,
    call: Call,
    response: Option<Response>,
    size: u64,
    received: u64,
    /// Bytes to skip: asked for the rest, the server sent the blob from its beginning.
    skip: u64,
    resumes: u32,
    resumed_at: u64,
    /// The cause of the last break.
    last_break: Option<Cause>,
    pace: Pace,
    _slot: Slot,
}

impl Download {
    fn new(client: Client, call: Call, response: Response, size: u64, slot: Slot) -> Self {
        let pace = Pace::new(client.options().stall_window, client.options().min_rate);
        Self {
            client,
            call,
            response: Some(response),
            size,
            received: 0,
            skip: 0,
            resumes: 0,
            resumed_at: 0,
            last_break: None,
            pace,
            _slot: slot,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Result<Bytes, Cause>> {
        stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let Some(response) = &mut self.response else {
                self.resume().await?;
                continue;
            };
            let failure = match self.pace.chunk(response).await {
                Ok(Some(chunk)) => match self.skip_prefix(chunk) {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                },
                // All bytes are there: the end of the connection does not matter.
                Ok(None) | Err(_) if self.received >= self.size => return Ok(None),
                Ok(None) => Cause::Truncated { received: self.received, expected: self.size },
                Err(failure) => failure,
            };
            self.wait_for_resume(failure).await?;
        }
    }

    fn skip_prefix(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // At most the chunk's own length.
        let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
        if chunk.is_empty() {
            return None;
        }
        self.received += chunk.len() as u64;
        Some(chunk)
    }

    async fn wait_for_resume(&mut self, failure: Cause) -> Result<(), Cause> {
        self.response = None;
        self.skip = 0;
        if self.received >= self.resumed_at + RESUMES_RESET {
            self.resumes = 0;
        }
        self.resumes += 1;
        if self.resumes > MAX_RESUMES {
            return Err(failure);
        }

        self.resumed_at = self.received;
        let (received, size) = (self.received, self.size);
        tracing::debug!(%failure, received, size, "download broke, resuming");
        self.last_break = Some(failure);
        tokio::time::sleep(self.client.options().retry.backoff(self.resumes)).await;
        Ok(())
    }

    /// Requests the rest from the registry, not from the address of its redirect: signed URLs
    /// expire.
    async fn resume(&mut self) -> Result<(), Cause> {
        self.pace.reset();
        self.client.quota().bytes()?;
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            let value =
                HeaderValue::from_str(&range).map_err(|e| Cause::Internal(e.to_string()))?;
            self.call.headers.insert(RANGE, value);
        }

        let response = match self.client.call(&self.call).await {
            Ok(response) => response,
            // The server has no more bytes: the earlier break is the real failure.
            Err(Cause::Answer(answer)) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                let cut = Cause::Truncated { received: self.received, expected: self.size };
                return Err(self.last_break.take().unwrap_or(cut));
            }
            Err(failure) => return Err(failure),
        };

        self.skip = if response.status() == StatusCode::PARTIAL_CONTENT {
            match range_start(&response) {
                Some(start) if start <= self.received => self.received - start,
                _ => {
                    return Err(Cause::Unexpected(
                        "the registry answered with another range than the requested one".into(),
                    ));
                }
            }
        } else {
            self.received
        };
        self.response = Some(response);

        Ok(())
    }
}

/// Reads the start of `Content-Range`: 5 for `bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.trim().parse().ok()
}

/// The transfer rate of a body while the consumer waits for it. Time in which the consumer is busy
/// does not count.
#[derive(Debug)]
struct Pace {
    window: Duration,
    min_rate: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    const fn new(window: Duration, min_rate: u64) -> Self {
        Self { window, min_rate, waited: Duration::ZERO, bytes: 0 }
    }

    const fn reset(&mut self) {
        self.waited = Duration::ZERO;
        self.bytes = 0;
    }

    async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Cause> {
        loop {
            let began = Instant::now();
            let outcome = timeout(self.window.saturating_sub(self.waited), response.chunk()).await;
            self.waited += began.elapsed();
            match outcome {
                Ok(Ok(Some(chunk))) => {
                    self.bytes += chunk.len() as u64;
                    if self.waited >= self.window {
                        self.check(response)?;
                    }
                    return Ok(Some(chunk));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => {
                    return Err(Cause::from_reqwest(error, &authority(response.url())));
                }
                Err(_) => self.check(response)?,
            }
        }
    }

    /// Ends the window: too few bytes are a stall.
    fn check(&mut self, response: &Response) -> Result<(), Cause> {
        let (bytes, window) = (self.bytes, self.window);
        self.reset();
        let min_bytes = u128::from(self.min_rate) * window.as_millis() / 1000;
        if u128::from(bytes) < min_bytes.max(1) {
            return Err(Cause::Stalled { host: authority(response.url()), bytes, window });
        }
        Ok(())
    }
}
