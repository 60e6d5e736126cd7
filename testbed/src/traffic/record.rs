//! The traffic log: one [`Record`] per request, written when the request arrives and completed when
//! it is answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, request};
use parking_lot::Mutex;

/// Enough for a demo that runs for days; no test has so many requests.
const KEPT: usize = 200_000;

/// Servers of the stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// The JSON API of ECR and the query API of STS.
    Control,
    /// The `/v2/` registry API, and everything that the fault proxy passes on.
    Data,
    /// The object store that blob reads are redirected to.
    Storage,
}

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The server that received the request.
    pub plane: Plane,
    /// The `X-Amz-Target` operation, or the name derived from method and path: `PutManifest`,
    /// `HeadManifest`, `GetManifest`, `DeleteManifest`, `HeadBlob`, `GetBlob`, `StartUpload`,
    /// `PatchUpload`, `PutBlob`, `UploadStatus`, `CancelUpload`, `ListTags`, `ListReferrers`,
    /// `Ping`, `GetObject`.
    pub operation: String,
    /// `GET`, `POST` …
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The registry's account; empty where the server has none.
    pub account: String,
    /// The registry's region; empty where the server has none.
    pub region: String,
    /// The repository named by the request; the first one when it names several, empty when it
    /// names none.
    pub repository: String,
    /// Request headers.
    pub headers: HeaderMap,
    /// Status of the answer; `None` until there is one, and for ever if the connection was cut or
    /// the client disconnected.
    pub status: Option<u16>,
    /// The error code in the answer: ECR's `__type`, or the first code of a registry error.
    pub code: Option<String>,
    /// AWS's id of the request, in the answer.
    pub request_id: Option<String>,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Time of arrival.
    pub started: SystemTime,
    /// From arrival to the answer's head.
    pub took: Option<Duration>,
}

impl Record {
    /// Returns the record of a new request, without registry and repository.
    pub(crate) fn arrived(
        plane: Plane,
        operation: impl Into<String>,
        parts: &request::Parts,
    ) -> Self {
        Self {
            plane,
            operation: operation.into(),
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            account: String::new(),
            region: String::new(),
            repository: String::new(),
            headers: parts.headers.clone(),
            status: None,
            code: None,
            request_id: None,
            received: 0,
            started: SystemTime::now(),
            took: None,
        }
    }

    /// Returns the announced length of the body; 0 if there is none.
    pub(super) fn announced(&self) -> u64 {
        let length = self.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// Whether the request is a write, granted or not. Logging in and GetCallerIdentity are reads.
    pub fn is_write(&self) -> bool {
        const WRITES: [&str; 12] = [
            "Create",
            "Put",
            "Set",
            "Delete",
            "Tag",
            "Untag",
            "BatchDelete",
            "Initiate",
            "Upload",
            "Complete",
            "Update",
            "Start",
        ];
        match self.plane {
            Plane::Control => WRITES.iter().any(|verb| self.operation.starts_with(verb)),
            Plane::Data => !matches!(self.method.as_str(), "GET" | "HEAD"),
            Plane::Storage => false,
        }
    }
}

/// A position in a log, see [`Log::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// The requests to a server, oldest first. Clones share one log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Records>>);

#[derive(Debug, Default)]
struct Records {
    /// Number of records dropped from the front.
    dropped: usize,
    kept: VecDeque<Record>,
    connections: usize,
    /// Connections that are open now.
    open: usize,
}

impl Log {
    /// Returns all kept records (the last 200,000).
    pub fn all(&self) -> Vec<Record> {
        self.0.lock().kept.iter().cloned().collect()
    }

    /// Returns the position after the last record, for [`Log::since`].
    pub fn mark(&self) -> Mark {
        let records = self.0.lock();
        Mark(records.dropped + records.kept.len())
    }

    /// Returns the records of requests that arrived after `mark`.
    pub fn since(&self, mark: Mark) -> Vec<Record> {
        let records = self.0.lock();
        records.kept.iter().skip(mark.0.saturating_sub(records.dropped)).cloned().collect()
    }

    /// Returns the number of requests that arrived after `mark`.
    pub fn arrived_since(&self, mark: Mark) -> usize {
        let records = self.0.lock();
        (records.dropped + records.kept.len()).saturating_sub(mark.0)
    }

    /// Counts the records that satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.0.lock().kept.iter().filter(|record| wanted(record)).count()
    }

    /// Returns the number of connections that clients have opened.
    pub fn connections(&self) -> usize {
        self.0.lock().connections
    }

    /// Returns the number of connections that are open now. After the last one has closed, no
    /// request of a client that has ended is in progress.
    pub fn open_connections(&self) -> usize {
        self.0.lock().open
    }

    pub(crate) fn connected(&self) {
        let mut records = self.0.lock();
        records.connections += 1;
        records.open += 1;
    }

    pub(crate) fn disconnected(&self) {
        self.0.lock().open -= 1;
    }

    /// Removes all records; earlier marks stay valid.
    pub fn clear(&self) {
        let mut records = self.0.lock();
        records.dropped += records.kept.len();
        records.kept.clear();
    }

    pub(crate) fn open(&self, record: Record) -> Mark {
        let mut records = self.0.lock();
        if records.kept.len() == KEPT {
            records.kept.pop_front();
            records.dropped += 1;
        }
        records.kept.push_back(record);
        Mark(records.dropped + records.kept.len() - 1)
    }

    pub(crate) fn update(&self, mark: Mark, change: impl FnOnce(&mut Record)) {
        let mut records = self.0.lock();
        let index = mark.0.checked_sub(records.dropped);
        if let Some(record) = index.and_then(|index| records.kept.get_mut(index)) {
            change(record);
        }
    }
}
