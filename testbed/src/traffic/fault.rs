//! Faults to inject: the requests they match, the effect, and the count.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::pulls::Pulls;
use super::record::{Plane, Record};

/// The requests that a fault matches: all fields that are set must be equal. The default matches
/// every request.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// Only this plane.
    pub plane: Option<Plane>,
    /// Only this operation, see [`Record::operation`].
    pub operation: Option<String>,
    /// Only this HTTP method.
    pub method: Option<String>,
    /// Only this repository.
    pub repository: Option<String>,
    /// Only requests whose path and query contain this.
    pub path: Option<String>,
    /// Only requests that announce a body of at least this many bytes.
    pub body: Option<u64>,
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of one operation.
    pub fn operation(operation: impl Into<String>) -> Self {
        Self { operation: Some(operation.into()), ..Self::default() }
    }

    /// Requests of one plane.
    pub fn plane(plane: Plane) -> Self {
        Self { plane: Some(plane), ..Self::default() }
    }

    /// Narrows to one repository.
    #[must_use]
    pub fn repository(mut self, repository: impl Into<String>) -> Self {
        self.repository = Some(repository.into());
        self
    }

    /// Narrows to paths that contain `part`.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Self {
        self.path = Some(part.into());
        self
    }

    /// Narrows to requests that announce a body of at least this many bytes.
    #[must_use]
    pub fn body(mut self, least: u64) -> Self {
        self.body = Some(least);
        self
    }

    /// Narrows to one HTTP method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    fn hits(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        self.plane.is_none_or(|plane| plane == record.plane)
            && is(&self.operation, &record.operation)
            && is(&self.method, &record.method)
            && is(&self.repository, &record.repository)
            && self.path.as_deref().is_none_or(|part| record.path.contains(part))
            && self.body.is_none_or(|least| record.announced() >= least)
    }
}

/// The effect on a request that matches.
#[derive(Debug, Clone)]
pub enum Then {
    /// Answer this instead of doing the work.
    Status {
        /// HTTP status.
        code: u16,
        /// Response headers.
        headers: Vec<(String, String)>,
        /// Response body.
        body: String,
    },
    /// Answer this error instead of doing the work, in the format of the plane: `__type` and
    /// `message` on the control plane, an `errors` list on the others.
    AwsError {
        /// `ThrottlingException`, `TOOMANYREQUESTS` …
        code: String,
        /// Message of the error.
        message: String,
        /// HTTP status.
        status: u16,
    },
    /// Do the work, then end the connection after this many bytes of the answer's body;
    /// `Content-Length` promises all.
    Truncate(u64),
    /// Do the work, then flip the byte at this offset of the answer's body.
    Corrupt(u64),
    /// Wait, then continue (a later fault may apply, too).
    Delay(Duration),
    /// Run this, then continue (a later fault may apply, too): something that happens just before
    /// the request.
    First(Hook),
    /// Ask this for the effects on the request.
    Choose(Choice),
    /// Never answer.
    Stall,
    /// Do the work, then stall after this many bytes of the answer's body.
    StallAfter(u64),
    /// Do the work, then send the answer's body at this many bytes per second.
    Slow(u64),
    /// Reset the connection (TCP RST) instead of doing the work.
    Reset,
    /// Reset the connection after this many bytes of the request's body.
    ResetUpload(u64),
    /// Do the work, then reset the connection instead of answering: the client cannot know that the
    /// work was done.
    LoseAnswer,
    /// Count a GET as a pull and refuse it if none is left; report the remaining pulls with each
    /// answer.
    Pulls(Pulls),
    /// Do the work, then set this header of the answer.
    WithHeader(String, String),
    /// Do the work, then remove this header of the answer.
    WithoutHeader(String),
}

/// An event just before a request.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    pub(super) fn run(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

type Choose = dyn Fn(&Record) -> Vec<Then> + Send + Sync;

/// A choice of effects by the request.
#[derive(Clone)]
pub struct Choice(Arc<Choose>);

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Choice")
    }
}

impl Then {
    /// Lets `choose` decide about each request: any delays and hooks, then at most one other fault.
    pub fn choose(choose: impl Fn(&Record) -> Vec<Self> + Send + Sync + 'static) -> Self {
        Self::Choose(Choice(Arc::new(choose)))
    }

    /// Runs this before the request.
    pub fn first(run: impl Fn() + Send + Sync + 'static) -> Self {
        Self::First(Hook(Arc::new(run)))
    }

    /// Returns a status without headers or body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: String::new() }
    }

    /// Returns an error in the format of the plane.
    pub fn aws_error(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::AwsError { code: code.into(), message: message.into(), status }
    }

    /// Returns an error of STS, which speaks XML.
    pub fn sts_error(status: u16, code: &str, message: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/xml".to_owned())];
        let body = sts_error(code, message, "00000000-0000-0000-0000-000000000000");
        Self::Status { code: status, headers, body }
    }

    /// Returns `TOOMANYREQUESTS: Rate exceeded`, optionally with `Retry-After` (ECR is not known to
    /// send it).
    pub fn too_many_requests(retry_after: Option<u32>) -> Self {
        let mut headers =
            vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
        headers.extend(retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
        let body =
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}"#.to_owned();
        Self::Status { code: 429, headers, body }
    }
}

/// The body of an error of STS.
pub(crate) fn sts_error(code: &str, message: &str, request: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>{request}</RequestId></ErrorResponse>"
    )
}

/// One fault: skips the first `after` matching requests, then applies `times` times.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Requests that match.
    pub when: Match,
    /// The effect on them.
    pub then: Then,
    /// Matching requests to skip first.
    pub after: u32,
    /// Number of requests affected; `None` for all.
    pub times: Option<u32>,
}

impl Fault {
    /// Affects every matching request.
    pub fn new(when: Match, then: Then) -> Self {
        Self { when, then, after: 0, times: None }
    }

    /// Affects only `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Affects the first matching request only.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Skips the first `after` matching requests.
    #[must_use]
    pub fn after(mut self, after: u32) -> Self {
        self.after = after;
        self
    }
}

/// The faults in force at a server. Clones share one set.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    /// Adds a fault; faults are tried in the order of this call.
    pub fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    /// Removes every fault.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// Returns the effects on this request: any delays and hooks, then at most one other fault.
    pub(crate) fn take(&self, record: &Record) -> Vec<Then> {
        let mut taken = Vec::new();
        let mut faults = self.0.lock();
        for fault in
            faults.iter_mut().filter(|fault| fault.times != Some(0) && fault.when.hits(record))
        {
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times = fault.times.map(|left| left - 1);
            if let Then::Choose(Choice(choose)) = &fault.then {
                taken.extend(choose(record));
                break;
            }
            taken.push(fault.then.clone());
            if !matches!(fault.then, Then::Delay(_) | Then::First(_)) {
                break;
            }
        }
        taken
    }
}
