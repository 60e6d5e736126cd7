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
use crate::memory_budget::{Budget, Document, Need, SMALL};

/// Longer error bodies are cut: a hostile or broken proxy sends megabytes. They are not part of the
/// memory budget: their values take 0.5 MiB at most.
const MAX_ERROR_BYTES: usize = 16 * 1024;
/// The blocks in which a body is collected before its length is known.
const BLOCK: usize = 64 * 1024;
/// Memory per byte of a body while it is read: its blocks, and then the whole body.
pub(crate) const BODY_PER_BYTE: usize = 2;
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

/// A document that is read whole: its memory, its size and its pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) budget: &'a Budget,
    /// The memory to read and parse the document.
    pub(crate) need: Need,
    /// The largest size of the document.
    pub(crate) limit: usize,
    /// The longest silence.
    pub(crate) silence: Duration,
}

impl<'a> Bound<'a> {
    pub(crate) const fn new(budget: &'a Budget, need: Need, limit: usize) -> Self {
        Self { budget, need, limit, silence: CHUNK_TIMEOUT }
    }

    /// Reads a body. Its memory is given back when the [`Document`] is dropped: after it was parsed.
    ///
    /// # Errors
    /// [`Cause::Memory`], [`Cause::TooLarge`], and those of the connection.
    pub(crate) async fn read(self, mut response: Response) -> Result<(Bytes, Document), Cause> {
        let Self { budget, need, limit, silence } = self;
        let announced = response.content_length().map(|length| length as usize);
        if announced.is_some_and(|length| length > limit) {
            return Err(Cause::TooLarge { limit });
        }
        let mut memory = budget.document(announced.map_or(SMALL, |length| need.of(length))).await?;
        let mut start = Instant::now();
        let mut body = Blocks::default();

        loop {
            let paced = silence + Duration::from_secs(body.length as u64) / LEAST_PACE;
            let left = paced.min(LONGEST).saturating_sub(start.elapsed());
            let Ok(chunk) = timeout(left, chunk_within(&mut response, silence)).await else {
                return Err(Cause::TooSlow { host: authority(response.url()) });
            };
            let Some(chunk) = chunk? else { return Ok((body.join(), memory)) };

            let length = body.length + chunk.len();
            if length > limit {
                return Err(Cause::TooLarge { limit });
            }
            if need.of(length) > memory.bytes() {
                // Of an unknown length, twice as much is reserved each time.
                let whole = announced.map_or_else(
                    || need.of(limit).min(memory.bytes().saturating_mul(2)).min(budget.most()),
                    |length| need.of(length),
                );
                let waiting = Instant::now();
                memory.grow(whole.max(need.of(length))).await?;
                start += waiting.elapsed();
            }
            body.push(&chunk);
        }
    }
}

/// A body in blocks. Unlike a vector that grows, it needs at most twice its length when it is put
/// together.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Vec<u8>>,
    length: usize,
}

impl Blocks {
    fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            let room = self.blocks.last().map_or(0, |block| block.capacity() - block.len());
            if room == 0 {
                self.blocks.push(Vec::with_capacity(BLOCK));
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.blocks.last_mut().into_iter().for_each(|block| block.extend_from_slice(now));
            bytes = later;
        }
    }

    fn join(mut self) -> Bytes {
        match self.blocks.as_mut_slice() {
            [] => Bytes::new(),
            [only] => std::mem::take(only).into_boxed_slice().into(),
            blocks => blocks.concat().into(),
        }
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
