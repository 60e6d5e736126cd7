//! Uploads of blobs in parts: PATCH, PATCH, …, and an empty PUT. Only after an answer, such as 413,
//! by which a registry or a proxy in front of it refuses a whole blob: ECR answers 201 to PATCH and
//! reports stale ranges (aws/containers-roadmap#2831, openai/tart#273), and parts cost requests and
//! memory.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::addresses::{authority, same_origin};
use super::answer::{Answer, is_transient};
use super::auth::Scope;
use super::blobs::BlobStream;
use super::cause::Cause;
use super::client::Client;
use super::error::Error;
use super::reference::TagOrDigest;
use super::request::{Body, Request};
use super::upload::{Observer, Session, session_at};

/// ECR (User Guide, quotas) and registries on S3 accept smaller parts only as the last one. All
/// other parts are equal, as R2 requires.
const PART: usize = 5 * 1024 * 1024;
/// The largest accepted `OCI-Chunk-Min-Length`: a part is held in memory.
const MAX_PART: usize = 64 * 1024 * 1024;
/// After a 413, parts are halved down to this size.
const MIN_PART: usize = 64 * 1024;

/// Whether this refusal of a PUT means that the registry does not accept a whole blob.
pub(super) fn is_about_the_whole(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 405 | 411 | 413 | 415 | 416 | 501)
        || (answer.status.is_client_error() && answer.has_code(&["UNSUPPORTED"]))
}

/// An upload session in parts.
struct Upload<'a> {
    client: &'a Client,
    scope: Scope,
    /// The registry's own address. A session may be at another host, which must not get the
    /// credential.
    base: Url,
    session: Url,
    /// The number of bytes that the registry has.
    offset: u64,
    part: usize,
    min_part: usize,
}

impl Client {
    /// Sends a blob into a session, in parts. The last bytes are sent only after the digest was
    /// checked.
    pub(super) async fn send_parts(
        &self,
        repository: &str,
        session: Session,
        mut blob: BlobStream,
        observer: Observer<'_>,
    ) -> Result<(), Error> {
        let digest = blob.digest().clone();
        let subject = self.subject(repository, &TagOrDigest::from(&digest));
        let failed = |failure: Cause| failure.write_blob(&*subject);
        let mut upload = Upload::new(self, repository, session).map_err(failed)?;

        let mut ahead = Bytes::new();
        loop {
            let mut part = upload.fill(&mut blob, &mut ahead).await?;
            if part.is_empty() {
                break;
            }
            while !part.is_empty() {
                let taken = upload.patch(&part).await.map_err(failed)?;
                observer(taken as u64);
                part.advance(taken);
            }
        }

        match upload.complete(digest.as_str()).await {
            Ok(()) => Ok(()),
            // Only the answer may have been lost.
            Err(_) if self.blob_exists(repository, &digest).await.unwrap_or(false) => Ok(()),
            Err(failure) => Err(failed(failure)),
        }
    }
}

impl<'a> Upload<'a> {
    fn new(client: &'a Client, repository: &str, session: Session) -> Result<Self, Cause> {
        let Session { url, min_part: required } = session;
        let min_part = usize::try_from(required).ok().filter(|min| *min <= MAX_PART);
        let min_part = min_part.ok_or_else(|| {
            Cause::Unexpected(format!(
                "the registry requires parts of {required} bytes, more than the {MAX_PART} that \
                 fit into memory"
            ))
        })?;

        Ok(Self {
            client,
            scope: Scope::push(repository),
            base: client.url(repository, "")?,
            session: url,
            offset: 0,
            part: PART.max(min_part),
            min_part: min_part.max(MIN_PART),
        })
    }

    /// Reads the next part of the blob.
    async fn fill(&self, blob: &mut BlobStream, ahead: &mut Bytes) -> Result<Bytes, Error> {
        let mut part = BytesMut::with_capacity(
            self.part.min(usize::try_from(blob.size()).unwrap_or(usize::MAX)),
        );
        loop {
            let room = self.part - part.len();
            part.extend_from_slice(&ahead.split_to(room.min(ahead.len())));
            if part.len() == self.part {
                return Ok(part.freeze());
            }
            match blob.next().await {
                Some(chunk) => *ahead = chunk?,
                None => return Ok(part.freeze()),
            }
        }
    }

    /// Sends the beginning of `bytes` and returns how many of them the registry now has, at least
    /// one.
    async fn patch(&mut self, bytes: &Bytes) -> Result<usize, Cause> {
        let policy = self.client.options().retry;
        let mut retry = 0;
        loop {
            let piece = bytes.slice(..bytes.len().min(self.part));
            let length = piece.len();
            let failure = match self.send_part(piece).await {
                Ok(response) => return self.accepted(length, &response).await,
                Err(failure) => failure,
            };

            let status = failure.answer().map(|answer| answer.status);
            if status == Some(StatusCode::PAYLOAD_TOO_LARGE) && length / 2 >= self.min_part {
                self.part = length / 2;
                continue;
            }
            if !status.is_none_or(|status| {
                is_transient(status) || status == StatusCode::RANGE_NOT_SATISFIABLE
            }) {
                return Err(failure);
            }

            retry += 1;
            let Some(wait) = policy.wait(retry, failure.retry_after()) else {
                // The session does not report its offset: a new session gets the whole blob, again
                // in parts.
                let is_lost = status == Some(StatusCode::RANGE_NOT_SATISFIABLE) && self.offset > 0;
                return Err(if is_lost {
                    Cause::OffsetLost { host: authority(&self.session) }
                } else {
                    failure
                });
            };
            tracing::debug!(%failure, ?wait, offset = self.offset, "part of a blob was refused");
            tokio::time::sleep(wait).await;

            // The session knows how much of the part arrived.
            match self.session_offset().await? {
                Some(end) if (self.offset + 1..=self.offset + length as u64).contains(&end) => {
                    return Ok(self.advance_to(end));
                }
                // The session expects bytes outside of this part, or reports a stale range. Sending
                // the whole blob again helps in both cases.
                Some(end)
                    if status == Some(StatusCode::RANGE_NOT_SATISFIABLE) && end != self.offset =>
                {
                    return Err(Cause::OffsetLost { host: authority(&self.session) });
                }
                _ => {}
            }
        }
    }

    /// Returns how many bytes of an accepted part the registry has. Its `Range` header tells, but
    /// ECR's stays at the end of the first part: another value than the end of this part counts
    /// only if it lies within the part and the session confirms it. The digest proves the result.
    async fn accepted(&mut self, length: usize, response: &Response) -> Result<usize, Cause> {
        let (start, end) = (self.offset, self.offset + length as u64);
        let is_within = |offset: &u64| *offset > start && *offset < end;
        let offset = match range_end(response.headers()).filter(|offset| *offset != end) {
            Some(_) => self.session_offset().await?.filter(is_within).unwrap_or(end),
            None => end,
        };
        Ok(self.advance_to(offset))
    }

    fn advance_to(&mut self, offset: u64) -> usize {
        let accepted = offset - self.offset;
        self.offset = offset;
        // At most a part.
        usize::try_from(accepted).unwrap_or(usize::MAX)
    }

    /// Asks how many bytes the session has; `None` if the registry does not tell.
    async fn session_offset(&mut self) -> Result<Option<u64>, Cause> {
        match self.send(Method::GET, self.session.clone(), HeaderMap::new(), Bytes::new()).await {
            Ok(response) => Ok(range_end(response.headers())),
            // The session was deleted.
            Err(failure)
                if failure
                    .answer()
                    .is_some_and(|answer| answer.status == StatusCode::NOT_FOUND) =>
            {
                Err(failure)
            }
            Err(_) => Ok(None),
        }
    }

    async fn send_part(&mut self, part: Bytes) -> Result<Response, Cause> {
        let (first, last) = (self.offset, self.offset + part.len() as u64 - 1);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // Without `bytes`, by the distribution spec.
        let range = HeaderValue::from_str(&format!("{first}-{last}"));
        headers.insert(CONTENT_RANGE, range.map_err(|error| Cause::Internal(error.to_string()))?);
        self.send(Method::PATCH, self.session.clone(), headers, part).await
    }

    async fn complete(&mut self, digest: &str) -> Result<(), Cause> {
        let mut url = self.session.clone();
        url.query_pairs_mut().append_pair("digest", digest);
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(0))]);
        self.send(Method::PUT, url, headers, Bytes::new()).await.map(drop)
    }

    /// Sends one request of the session, with at most one renewed login. Any 2xx is success,
    /// including ECR's 201; it may move the session to another address.
    async fn send(
        &mut self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Cause> {
        /// Bytes per second of the slowest link for a part, in addition to the wait for the answer.
        const MIN_RATE: u64 = 64 * 1024;

        let auth = self.client.auth();
        let is_ours = same_origin(&self.base, &url);
        let mut grant = if is_ours { auth.grant(&self.scope).await? } else { None };
        let timeout = self.client.options().answer_timeout
            + std::time::Duration::from_secs(body.len() as u64 / MIN_RATE);

        for last in [false, true] {
            let request = Request {
                method: method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                authorization: grant.as_ref().map(|grant| grant.header.clone()),
                body: if body.is_empty() { Body::Empty } else { Body::Bytes(body.clone()) },
                timeout,
            };
            let response = self.client.transport().send(request).await?;
            if response.status().is_success() {
                if let Some(location) = response.headers().get(reqwest::header::LOCATION)
                    && method == Method::PATCH
                {
                    self.session = session_at(&self.base, response.url(), location.to_str().ok())?;
                }
                return Ok(response);
            }

            let (failure, challenges) = self.client.failure(response, grant.as_ref()).await;
            let Cause::Answer(answer) = failure else { return Err(failure) };
            let is_about_login = answer.status == StatusCode::UNAUTHORIZED || answer.says_expired();
            let renewed = if is_ours && is_about_login && !last {
                auth.renew(&self.scope, grant.as_ref(), &challenges).await?
            } else {
                None
            };
            match renewed {
                Some(renewed) => grant = Some(renewed),
                None => return Err(Cause::Answer(answer)),
            }
        }

        Err(Cause::Internal("the login was renewed too often for one request".into()))
    }
}

/// Reads the number of received bytes: `Range: 0-99`, which some write as `bytes=0-99`, is 100
/// bytes. `0-0` means no bytes: nobody sends a single byte.
pub(super) fn range_end(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let last: u64 = text.rsplit_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_all_shapes_are_read() {
        for (text, bytes) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("", None),
            ("99", None),
            ("0-", None),
            ("0-18446744073709551615", None),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]);
            assert_eq!(range_end(&headers), bytes, "{text}");
        }
    }
}
