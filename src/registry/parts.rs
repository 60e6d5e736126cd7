//! Writing a blob in parts: PATCH, PATCH, …, and an empty PUT. Only for registries, or proxies
//! before them, that do not take it in one piece: ECR answers 201 to PATCH and its ranges are stale
//! (aws/containers-roadmap#2831, openai/tart#273), and parts cost requests and memory.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::addresses::{authority, same_origin};
use super::answer::{Answer, is_transient};
use super::auth::Scope;
use super::blobs::BlobStream;
use super::client::Client;
use super::error::Error;
use super::failure::Failure;
use super::reference::TagOrDigest;
use super::transport::{Body, Request};
use super::upload::{Observer, Session, session_at};

/// ECR takes no smaller ones but the last (User Guide, quotas), nor does what stands on S3. All but
/// the last are equal, which R2 wants.
const PART: usize = 5 * 1024 * 1024;
/// What a registry may ask for by `OCI-Chunk-Min-Length`: a part is held in memory.
const MOST_PART: usize = 64 * 1024 * 1024;
/// Where 413 is answered, parts are halved down to here.
const LEAST_PART: usize = 64 * 1024;

/// Whether this refusal of a PUT is about the body in one piece.
pub(super) fn is_about_the_whole(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 405 | 411 | 413 | 415 | 416 | 501)
        || (answer.status.is_client_error() && answer.has_code(&["UNSUPPORTED"]))
}

/// An upload session that gets parts.
struct Upload<'a> {
    client: &'a Client,
    scope: Scope,
    /// The registry itself: a session may be elsewhere, where our credential is not to go.
    base: Url,
    session: Url,
    /// Bytes that the registry has.
    offset: u64,
    part: usize,
    least: usize,
}

impl Client {
    /// Sends a blob into a session, in parts. The registry has the whole blob only after its digest
    /// was found right.
    pub(super) async fn send_parts(
        &self,
        repository: &str,
        session: Session,
        mut blob: BlobStream,
        observer: Observer<'_>,
    ) -> Result<(), Error> {
        let digest = blob.digest().clone();
        let subject = self.subject(repository, &TagOrDigest::from(&digest));
        let failed = |failure: Failure| failure.write_blob(&*subject);
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
        let completed = upload.complete(digest.as_str()).await;
        match completed {
            Ok(()) => Ok(()),
            // The answer may have been lost on its way.
            Err(_) if self.blob_exists(repository, &digest).await.unwrap_or(false) => Ok(()),
            Err(failure) => Err(failed(failure)),
        }
    }
}

impl<'a> Upload<'a> {
    fn new(client: &'a Client, repository: &str, session: Session) -> Result<Self, Failure> {
        let Session { url, least_part } = session;
        let least = usize::try_from(least_part)
            .ok()
            .filter(|least| *least <= MOST_PART)
            .ok_or_else(|| {
                Failure::Unexpected(format!(
                    "the registry wants parts of {least_part} bytes, more than {MOST_PART}"
                ))
            })?;
        let (base, scope) = (client.url(repository, "")?, Scope::push(repository));
        Ok(Self {
            client,
            scope,
            base,
            session: url,
            offset: 0,
            part: PART.max(least),
            least: least.max(LEAST_PART),
        })
    }

    /// The next bytes of the blob, as many as one part has.
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

    /// Sends the beginning of `bytes` and returns how many of them the registry has then, at least
    /// one.
    async fn patch(&mut self, bytes: &Bytes) -> Result<usize, Failure> {
        let policy = self.client.options().retry;
        let mut retry = 0;
        loop {
            let piece = bytes.slice(..bytes.len().min(self.part));
            let length = piece.len();
            let failure = match self.send_part(piece).await {
                Ok(response) => return self.took(length, &response).await,
                Err(failure) => failure,
            };
            let status = failure.answer().map(|answer| answer.status);
            if status == Some(StatusCode::PAYLOAD_TOO_LARGE) && length / 2 >= self.least {
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
                // A session that cannot say where it is: a new one gets the whole blob, in parts
                // again.
                let is_lost = status == Some(StatusCode::RANGE_NOT_SATISFIABLE) && self.offset > 0;
                return Err(if is_lost {
                    Failure::OffsetLost { host: authority(&self.session) }
                } else {
                    failure
                });
            };
            tracing::debug!(%failure, ?wait, offset = self.offset, "part of a blob was not taken");
            tokio::time::sleep(wait).await;
            // What became of it, the session knows.
            match self.ask().await? {
                Some(at) if (self.offset + 1..=self.offset + length as u64).contains(&at) => {
                    return Ok(self.moved(at));
                }
                // It wants other bytes than we have. Stale ranges look like that too: the whole
                // blob again does either way.
                Some(at)
                    if status == Some(StatusCode::RANGE_NOT_SATISFIABLE) && at != self.offset =>
                {
                    return Err(Failure::OffsetLost { host: authority(&self.session) });
                }
                _ => {}
            }
        }
    }

    /// What a registry has after it took a part. `Range` says so, but ECR's stays at the end of the
    /// first part: only one that ends within this part is believed, and only if the session says so
    /// too. The digest proves it in the end.
    async fn took(&mut self, length: usize, response: &Response) -> Result<usize, Failure> {
        let (start, end) = (self.offset, self.offset + length as u64);
        let is_within = |at: &u64| *at > start && *at < end;
        let at = match range_end(response.headers()).filter(|at| *at != end) {
            Some(_) => self.ask().await?.filter(is_within).unwrap_or(end),
            None => end,
        };
        Ok(self.moved(at))
    }

    fn moved(&mut self, at: u64) -> usize {
        let taken = at - self.offset;
        self.offset = at;
        // At most a part.
        usize::try_from(taken).unwrap_or(usize::MAX)
    }

    /// How many bytes the session has, if the registry says.
    async fn ask(&mut self) -> Result<Option<u64>, Failure> {
        match self.send(Method::GET, self.session.clone(), HeaderMap::new(), Bytes::new()).await {
            Ok(response) => Ok(range_end(response.headers())),
            // A session that is gone, and no registry that cannot tell.
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

    async fn send_part(&mut self, part: Bytes) -> Result<Response, Failure> {
        let (first, last) = (self.offset, self.offset + part.len() as u64 - 1);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // Without `bytes`, by the distribution specification.
        let range = HeaderValue::from_str(&format!("{first}-{last}"));
        headers.insert(CONTENT_RANGE, range.map_err(|error| Failure::Internal(error.to_string()))?);
        self.send(Method::PATCH, self.session.clone(), headers, part).await
    }

    async fn complete(&mut self, digest: &str) -> Result<(), Failure> {
        let mut url = self.session.clone();
        url.query_pairs_mut().append_pair("digest", digest);
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(0))]);
        self.send(Method::PUT, url, headers, Bytes::new()).await.map(drop)
    }

    /// One request of the session, with one renewed login. Any 2xx is success, 201 of ECR's among
    /// them; it may say where the session goes on.
    async fn send(
        &mut self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Failure> {
        /// Bytes per second of the slowest link that a part is sent over, beside the wait for the
        /// answer.
        const PACE: u64 = 64 * 1024;
        let auth = self.client.auth();
        let ours = same_origin(&self.base, &url);
        let mut grant = if ours { auth.grant(&self.scope).await? } else { None };
        let timeout = self.client.options().answer_timeout
            + std::time::Duration::from_secs(body.len() as u64 / PACE);

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
            let Failure::Answer(answer) = failure else { return Err(failure) };
            let refused = answer.status == StatusCode::UNAUTHORIZED || answer.says_expired();
            let renewed = if ours && refused && !last {
                auth.renew(&self.scope, grant.as_ref(), &challenges).await?
            } else {
                None
            };
            match renewed {
                Some(renewed) => grant = Some(renewed),
                None => return Err(Failure::Answer(answer)),
            }
        }
        Err(Failure::Internal("logged in over and over".into()))
    }
}

/// `Range: 0-99` is 100 bytes; some write `bytes=0-99`. `0-0` is nothing yet, or one byte: nobody
/// sends one alone.
fn range_end(headers: &HeaderMap) -> Option<u64> {
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
