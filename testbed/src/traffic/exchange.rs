//! One request from arrival to answer: logged, and changed by faults on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};

use super::fault::{Faults, Then};
use super::pulls::Pulls;
use super::record::{Log, Mark, Plane, Record};
use super::server::Cut;

/// The header of an answer with AWS's id of the request.
pub(crate) const REQUEST_ID: &str = "x-amzn-requestid";

/// The error code of an answer, left in its extensions for the log.
#[derive(Debug, Clone)]
pub(crate) struct Answered(pub(crate) String);

/// Everything that a server needs to handle one request.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) log: &'a Log,
    pub(crate) faults: &'a Faults,
    pub(crate) cut: Cut,
}

impl Exchange<'_> {
    /// Logs `record`, applies the faults that match, and lets `work` answer. `work` gets the
    /// request's body, whose bytes are counted.
    pub(crate) async fn run<F>(
        self,
        record: Record,
        body: Body,
        work: impl FnOnce(Body) -> F,
    ) -> Response
    where
        F: Future<Output = Response>,
    {
        let faults = self.faults.take(&record);
        let plane = record.plane;
        let is_pull = record.method == "GET";
        let entry = Entry::open(self.log, record);
        let mut last = None;
        for fault in faults {
            match fault {
                Then::Delay(time) => tokio::time::sleep(time).await,
                Then::First(hook) => hook.run(),
                fault => last = Some(fault),
            }
        }
        let body = entry.counted(body);
        let response = match last {
            Some(Then::Status { code, headers, body }) => status(code, &headers, body),
            Some(Then::AwsError { code, message, status }) => {
                aws_error(plane, status, &code, &message)
            }
            Some(Then::Stall) => future::pending().await,
            Some(Then::Reset) => return cut(&self.cut),
            Some(Then::ResetUpload(after)) => {
                let answer = work(cut_after(body, after, self.cut.clone())).await;
                self.cut.cut();
                drop(answer);
                return Response::default();
            }
            Some(Then::LoseAnswer) => {
                let answer = work(body).await;
                self.cut.cut();
                drop(answer);
                return Response::default();
            }
            Some(Then::Pulls(pulls)) => {
                let mut response = match !is_pull || pulls.take() {
                    true => work(body).await,
                    false => status(429, &[], Pulls::REFUSAL.to_owned()),
                };
                pulls.headers().iter().for_each(|(name, value)| set(&mut response, name, value));
                response
            }
            Some(change) => bend(work(body).await, &change),
            None => work(body).await,
        };
        if response.extensions().get::<Unanswered>().is_none() {
            entry.answered(&response);
        }
        response
    }
}

/// Marks a response that never leaves because its connection is cut.
#[derive(Debug, Clone)]
struct Unanswered;

/// Resets the connection instead of answering.
pub(crate) fn cut(line: &Cut) -> Response {
    line.cut();
    let mut response = Response::default();
    response.extensions_mut().insert(Unanswered);
    response
}

/// The log entry of a request in progress; an entry dropped without an answer keeps its byte count.
struct Entry<'a> {
    log: &'a Log,
    mark: Mark,
    received: Arc<AtomicU64>,
    started: Instant,
}

impl<'a> Entry<'a> {
    fn open(log: &'a Log, record: Record) -> Self {
        Self { log, mark: log.open(record), received: Arc::default(), started: Instant::now() }
    }

    fn counted(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let received = Arc::clone(&self.received);
        Body::from_stream(body.into_data_stream().inspect_ok(move |chunk| {
            received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }))
    }

    fn answered(&self, response: &Response) {
        let status = response.status().as_u16();
        let code = response.extensions().get::<Answered>().map(|answered| answered.0.clone());
        let request_id = response.headers().get(REQUEST_ID);
        let request_id = request_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let took = self.started.elapsed();
        self.log.update(self.mark, |record| {
            record.status = Some(status);
            record.code = code;
            record.request_id = request_id;
            record.took = Some(took);
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let received = self.received.load(Ordering::Relaxed);
        self.log.update(self.mark, |record| record.received = received);
    }
}

fn status(code: u16, headers: &[(String, String)], body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        set(&mut response, name, value);
    }
    response
}

fn aws_error(plane: Plane, code: u16, error: &str, message: &str) -> Response {
    let (kind, body) = match plane {
        Plane::Control => {
            ("application/x-amz-json-1.1", serde_json::json!({"__type": error, "message": message}))
        }
        Plane::Data | Plane::Storage => (
            "application/json; charset=utf-8",
            serde_json::json!({"errors": [{"code": error, "message": message}]}),
        ),
    };
    let mut response = status(code, &[], body.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.extensions_mut().insert(Answered(error.to_owned()));
    response
}

fn set(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}

/// Changes an answer; its promised length is kept.
fn bend(mut response: Response, change: &Then) -> Response {
    match change {
        Then::WithHeader(name, value) => {
            set(&mut response, name, value);
            return response;
        }
        Then::WithoutHeader(name) => {
            response.headers_mut().remove(name.as_str());
            return response;
        }
        _ => {}
    }
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact()
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let content = body.into_data_stream();
    let body = match change {
        Then::Truncate(after) => {
            let end = stream::once(async {
                // A body that waits is flushed; one that fails at once discards the buffered bytes.
                tokio::task::yield_now().await;
                Err(axum::Error::new(Gone))
            });
            Body::from_stream(shortened(content, *after).chain(end))
        }
        Then::Corrupt(at) => Body::from_stream(content.scan(*at, |left, chunk| {
            future::ready(Some(chunk.map(|chunk| corrupted(chunk, left))))
        })),
        Then::StallAfter(after) => {
            Body::from_stream(shortened(content, *after).chain(stream::pending()))
        }
        Then::Slow(rate) => Body::from_stream(slowed(content, (*rate).max(1))),
        _ => Body::from_stream(content),
    };
    Response::from_parts(parts, body)
}

/// Ends the connection.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a fault")
    }
}

impl std::error::Error for Gone {}

/// Returns the first `length` bytes.
fn shortened(
    content: impl Stream<Item = Result<Bytes, axum::Error>>,
    length: u64,
) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    content.scan(length, |left, chunk| future::ready(shorten(chunk, left)))
}

/// Returns the part of `chunk` that fits in `left`; `None` once nothing fits.
fn shorten(
    chunk: Result<Bytes, axum::Error>,
    left: &mut u64,
) -> Option<Result<Bytes, axum::Error>> {
    let Ok(chunk) = chunk else { return Some(chunk) };
    if *left == 0 {
        return None;
    }
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
    *left -= taken as u64;
    Some(Ok(chunk.slice(..taken)))
}

fn corrupted(chunk: Bytes, left: &mut u64) -> Bytes {
    let length = chunk.len() as u64;
    let at = *left;
    *left = if at < length {
        u64::MAX
    } else if at == u64::MAX {
        at
    } else {
        at - length
    };
    if at >= length {
        return chunk;
    }
    let mut changed = chunk.to_vec();
    if let Some(byte) = usize::try_from(at).ok().and_then(|at| changed.get_mut(at)) {
        *byte ^= 0xff;
    }
    changed.into()
}

fn slowed(
    stream: impl Stream<Item = Result<Bytes, axum::Error>>,
    rate: u64,
) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    // Ten pieces per second, for chunks of any size.
    let piece = usize::try_from((rate / 10).max(1)).unwrap_or(usize::MAX);
    stream
        .map_ok(move |chunk| {
            let pieces: Vec<_> = (0..chunk.len())
                .step_by(piece)
                .map(|at| chunk.slice(at..chunk.len().min(at + piece)))
                .collect();
            stream::iter(pieces.into_iter().map(Ok))
        })
        .try_flatten()
        .then(move |part| async move {
            if let Ok(part) = &part {
                tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
            }
            part
        })
}

fn cut_after(body: Body, after: u64, line: Cut) -> Body {
    Body::from_stream(body.into_data_stream().scan(after, move |left, chunk| {
        let part = shorten(chunk, left).unwrap_or_else(|| {
            line.cut();
            Err(axum::Error::new(Gone))
        });
        future::ready(Some(part))
    }))
}
