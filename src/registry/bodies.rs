//! Response bodies, read with a bound on their size and on silence, and error answers read from
//! them.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use tokio::time::{Instant, timeout, timeout_at};

use super::addresses::authority;
use super::answer::Answer;
use super::cause::Cause;
use super::challenge::{self, Challenge};
use super::retry;

/// Longer error bodies are cut: a hostile or broken proxy sends megabytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The longest silence inside a small body.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// The least pace of a small body, in bytes per second, after the time of one silence: 4 MiB, the
/// largest manifest, may take 17 minutes by it.
const LEAST_PACE: u32 = 4 * 1024;
/// The longest time for a small body. A source that sends a byte now and then must not hold a slot
/// that other resources wait for. The index of a chart repository has the same time.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest time for the body of an error, which is not needed.
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(response: Response, limit: usize) -> Result<Bytes, Cause> {
    read_body_within(response, limit, CHUNK_TIMEOUT).await
}

/// [`read_body`] with another bound on silence.
pub(crate) async fn read_body_within(
    mut response: Response,
    limit: usize,
    silence: Duration,
) -> Result<Bytes, Cause> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(Cause::TooLarge { limit });
    }
    let start = Instant::now();
    let mut body = BytesMut::new();
    loop {
        let paced = silence + Duration::from_secs(body.len() as u64) / LEAST_PACE;
        let left = paced.min(LONGEST).saturating_sub(start.elapsed());
        let Ok(chunk) = timeout(left, chunk_within(&mut response, silence)).await else {
            return Err(Cause::TooSlow { host: authority(response.url()) });
        };
        let Some(chunk) = chunk? else { return Ok(body.freeze()) };

        if body.len() + chunk.len() > limit {
            return Err(Cause::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
}

pub(crate) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, Cause> {
    chunk_within(response, CHUNK_TIMEOUT).await
}

async fn chunk_within(response: &mut Response, silence: Duration) -> Result<Option<Bytes>, Cause> {
    let host = authority(response.url());
    match timeout(silence, response.chunk()).await {
        Ok(chunk) => chunk.map_err(|e| Cause::from_reqwest(e, &host)),
        Err(_) => Err(Cause::Stalled { host, bytes: 0, window: silence }),
    }
}

/// Turns an error answer into an [`Answer`]. A body that is long or breaks off is cut.
pub(crate) async fn read_answer(
    mut response: Response,
    anonymous: bool,
) -> (Answer, Vec<Challenge>) {
    let status = response.status();
    let challenges = challenge::parse(response.headers().get_all(WWW_AUTHENTICATE));
    let retry_after = asked_wait(response.headers());

    let end = Instant::now() + ERROR_TIMEOUT;
    let mut body = BytesMut::new();
    while body.len() < MAX_ERROR_BYTES
        && let Ok(Ok(Some(chunk))) = timeout_at(end, next_chunk(&mut response)).await
    {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    (Answer::new(status, retry_after, anonymous, &body), challenges)
}

/// Turns an error answer of another host than the registry's own into an [`Answer`], without a word
/// of its body.
pub(crate) fn foreign_answer(response: &Response, host: Option<String>) -> Answer {
    Answer::foreign(response.status(), asked_wait(response.headers()), host)
}

/// The `Retry-After` header of an answer.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry::retry_after(value, SystemTime::now())
}
