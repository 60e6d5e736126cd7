//! The client of one registry with one credential: sends requests, logs in again, retries, and
//! slows down after a 429.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::addresses::{authority, same_origin};
use super::auth::{Auth, Authenticator, Grant, Scope};
use super::bodies::{foreign_answer, read_answer};
use super::cause::Cause;
use super::error::Error;
use super::grammar::api_host;
use super::limit::{Gate, Limits};
use super::quota::{Pull, Quota, Turn};
use super::reference::{Reference, TagOrDigest};
use super::request::{ANSWER_TIMEOUT, Body, Request};
use super::retry::{self, retrying};
use super::transport::Transport;
use crate::memory_budget::Budget;
use crate::place;

/// The URL scheme of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// With TLS.
    #[default]
    Https,
    /// Without TLS.
    Http,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Http => "http",
        })
    }
}

/// The address of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// The URL scheme.
    pub(crate) scheme: Scheme,
    /// Host as users write it, with port if any. For `docker.io`, requests go to its API host.
    pub(crate) host: String,
}

impl Endpoint {
    /// The registry of a reference.
    #[must_use]
    pub(crate) fn of(reference: &Reference, insecure: bool) -> Self {
        let scheme = if insecure { Scheme::Http } else { Scheme::Https };
        Self { scheme, host: reference.host.clone() }
    }

    /// `/v2/` of this registry.
    fn base(&self) -> Result<Url, Error> {
        let text = format!("{}://{}/v2/", self.scheme, api_host(&self.host));
        let url = text
            .parse::<Url>()
            .ok()
            .filter(|url| url.path() == "/v2/" && url.username().is_empty());
        url.ok_or_else(|| {
            Error::Setup(format!("{:?} is not a registry host; write host or host:port", self.host))
        })
    }
}

/// The behaviour of a client. The defaults suit any registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) struct Options {
    /// Send Basic with the first request, without waiting for a challenge: right for ECR, which
    /// always sends one.
    pub(crate) preemptive_basic: bool,
    /// Limits shared with other clients of the same host. `None`: limits of this client alone.
    pub(crate) limits: Option<Arc<Limits>>,
    /// Pull quota shared with other clients of the same login. `None`: a quota of this client
    /// alone.
    pub(crate) quota: Option<Arc<Quota>>,
    /// Rate limit for writing manifests; passed before each try.
    pub(crate) manifests: Option<Arc<dyn Gate>>,
    /// Rate limit for uploading blobs; passed before any request of an upload, on either side.
    pub(crate) uploads: Option<Arc<dyn Gate>>,
    /// Retries of small requests.
    pub(crate) retry: retry::RetryPolicy,
    /// The time after which a transfer below [`Options::min_rate`] counts as stalled and is ended.
    pub(crate) stall_window: Duration,
    /// The lowest accepted transfer rate, in bytes per second.
    pub(crate) min_rate: u64,
    /// The longest wait for the head of the answer to a small request.
    pub(crate) answer_timeout: Duration,
    /// The longest wait for the answer after the last byte of a large upload: ECR assembles and
    /// hashes the blob in this time. Small blobs have less, see [`Options::commit_timeout_of`].
    pub(crate) commit_timeout: Duration,
}

impl Options {
    /// The longest wait for the answer to an upload of `size` bytes after its last byte. It grows
    /// with the size, so that a silent server does not hold up a small blob for minutes.
    pub(crate) fn commit_timeout_of(&self, size: u64) -> Duration {
        /// Bytes per second that the slowest store assembles; registries on hard disks reach ten
        /// times that.
        const RATE: u64 = 4 * 1024 * 1024;
        // Twice the window: bytes that count as sent may still be in socket buffers.
        (self.stall_window * 2 + Duration::from_secs(size / RATE)).min(self.commit_timeout)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            preemptive_basic: false,
            limits: None,
            quota: None,
            manifests: None,
            uploads: None,
            retry: retry::RetryPolicy::default(),
            stall_window: Duration::from_secs(30),
            // The rate of a slow modem.
            min_rate: 1024,
            answer_timeout: ANSWER_TIMEOUT,
            commit_timeout: Duration::from_secs(300),
        }
    }
}

/// A client for one registry with one credential. Cloning is cheap; clones share tokens and limits.
///
/// # Caveats
/// Tokens are cached per client. Do not share one between resources with different credentials.
#[derive(Clone)]
pub(crate) struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    endpoint: Endpoint,
    base: Url,
    auth: Auth,
    limits: Arc<Limits>,
    quota: Arc<Quota>,
    options: Options,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.inner.endpoint).finish_non_exhaustive()
    }
}

/// One small request to the registry that can be sent again.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scope: Scope,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
    /// A shorter wait for the head of the answer than [`Options::answer_timeout`].
    pub(crate) timeout: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url, scope: Scope) -> Self {
        Self {
            method,
            url,
            scope,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            timeout: Duration::MAX,
        }
    }
}

impl Client {
    /// Creates a client of the registry at `endpoint`, without sending a request.
    ///
    /// # Errors
    /// [`Error::Setup`] if the host is not valid.
    pub(crate) fn new(
        transport: Transport,
        endpoint: Endpoint,
        authenticator: Arc<dyn Authenticator>,
        options: Options,
    ) -> Result<Self, Error> {
        let base = endpoint.base()?;
        let auth =
            Auth::new(transport.clone(), base.clone(), authenticator, options.preemptive_basic);
        let limits = options.limits.clone().unwrap_or_default();
        let quota = options.quota.clone().unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner { transport, endpoint, base, auth, limits, quota, options }),
        })
    }

    /// The registry's host, as users write it.
    #[must_use]
    pub(crate) fn host(&self) -> &str {
        &self.inner.endpoint.host
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The rest of a pause that the registry asked for.
    #[must_use]
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.inner.limits.pause()
    }

    /// Whether the registry has reported a quota for GETs of manifests.
    #[must_use]
    pub(crate) fn counts_pulls(&self) -> bool {
        self.inner.quota.counts()
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.inner.quota
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// The memory budget for documents of the registry.
    pub(crate) fn budget(&self) -> &Budget {
        self.inner.transport.budget()
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.inner.auth
    }

    /// `host/repository`, for messages.
    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.host())
    }

    /// `host/repository:tag` or `host/repository@digest`, for messages.
    pub(crate) fn subject(&self, repository: &str, what: &TagOrDigest) -> String {
        format!("{}/{repository}{}", self.host(), what.suffix())
    }

    /// `{base}{repository}/{rest}`.
    pub(crate) fn url(&self, repository: &str, rest: &str) -> Result<Url, Cause> {
        let wrong = || Cause::Internal(format!("{repository:?} is not a repository"));
        // A guard against mistakes of callers: a repository must not leave /v2/ or add a query.
        if repository.is_empty()
            || repository.contains("..")
            || repository.contains([':', '?', '#', '%', '\\', ' '])
            || repository.starts_with('/')
        {
            return Err(wrong());
        }
        self.inner.base.join(&format!("{repository}/{rest}")).map_err(|_| wrong())
    }

    /// Sends a small request: waits for a slot, logs in, retries. Any 2xx is success.
    pub(crate) async fn call(&self, call: &Call) -> Result<Response, Cause> {
        let sent = retrying(&self.inner.options.retry, || self.attempt(call));
        place::waiting(Some(self.host()), sent).await
    }

    /// Waits until the registry may be asked: until a pause is over, if it is short.
    ///
    /// # Errors
    /// [`Cause`], as a request would fail without being sent: the pause is long, the host is down, or
    /// the quota of bytes is used up.
    pub(crate) async fn ready(&self) -> Result<(), Cause> {
        let inner = &*self.inner;
        inner.quota.bytes()?;
        drop(inner.limits.admit()?);
        let slot = inner.limits.request(self.host(), inner.options.retry.longest);
        place::waiting(Some(self.host()), slot).await.map(drop)
    }

    /// Makes one try, and reports a 429 to `gate`, which the caller has passed.
    pub(crate) async fn attempt_behind(
        &self,
        gate: Option<&Arc<dyn Gate>>,
        call: &Call,
    ) -> Result<Response, Cause> {
        let answered = self.attempt(call).await;
        if let (Some(gate), Err(Cause::Answer(answer))) = (gate, &answered)
            && answer.status == StatusCode::TOO_MANY_REQUESTS
        {
            gate.throttled();
        }
        answered
    }

    pub(crate) async fn attempt(&self, call: &Call) -> Result<Response, Cause> {
        let inner = &*self.inner;
        let _slot = inner.limits.request(self.host(), inner.options.retry.longest).await?;
        let _turn = inner.auth.turn().await;
        let attempt = inner.limits.admit()?;
        let host = authority(&inner.base);

        // A grant may need no request: only a failure says something about the host.
        let grant = inner.auth.grant(&call.scope).await;
        let mut grant = grant.or_else(|cause| attempt.settle(&host, Err(cause)))?;
        // One renewal for an expired token, one for a token with the wrong scope.
        for last in [false, false, true] {
            let request = request(call, grant.as_ref(), inner.options.answer_timeout);
            let response = attempt.settle(&host, inner.transport.send(request).await)?;

            // After a redirect, the rate limit headers are those of another host.
            let is_ours = same_origin(response.url(), &call.url);
            if is_ours && let Some(left) = inner.quota.read(response.headers()) {
                inner.transport.meter().pulls_left(self.host(), left);
            }
            if response.status().is_success() {
                inner.auth.answered(grant.as_ref());
                inner.limits.answered();
                return Ok(response);
            }

            let (refusal, renewed) = self.refused(call, grant.as_ref(), response, last).await?;
            match renewed {
                Some(renewed) => grant = Some(renewed),
                None => return Err(refusal),
            }
        }
        Err(Cause::Internal("the login was renewed too often for one request".into()))
    }

    /// Waits for permission to send a GET that the registry counts as a pull. `head` is the same
    /// request as HEAD, which is not counted.
    pub(crate) async fn pull(&self, head: &Call) -> Result<Pull<'_>, Cause> {
        let mut asked = false;
        loop {
            match self.inner.quota.pull(self.host(), asked).await {
                Turn::Go(pull) => return Ok(pull),
                Turn::No(failure) => return Err(failure),
                Turn::Ask => {
                    // Only the rate limit headers matter; the attempt has read them.
                    let _ = self.attempt(head).await;
                    asked = true;
                }
            }
        }
    }

    /// Reads a refusal, and logs in again if that may help.
    async fn refused(
        &self,
        call: &Call,
        grant: Option<&Grant>,
        response: Response,
        last: bool,
    ) -> Result<(Cause, Option<Grant>), Cause> {
        let auth = &self.inner.auth;
        // After a redirect, the 401 of another host is not about our credential.
        let is_ours = same_origin(response.url(), &call.url);
        let status = response.status();
        let failure = self.failure(response, grant).await;
        let (answer, challenges) = match failure {
            (Cause::Answer(answer), challenges) => (answer, challenges),
            (other, _) => return Ok((other, None)),
        };

        let is_bare = status == StatusCode::FORBIDDEN && call.method == Method::HEAD;
        let is_about_login = status == StatusCode::UNAUTHORIZED
            || answer.says_expired()
            || (is_bare && auth.may_have_expired(grant));
        let renewed = if is_ours && is_about_login && !last {
            auth.renew(&call.scope, grant, &challenges).await?
        } else {
            None
        };

        Ok((Cause::Answer(answer), renewed))
    }

    /// Turns an error answer into a failure. A 429 also slows down, or pauses, other requests to
    /// the host or with this login.
    pub(crate) async fn failure(
        &self,
        response: Response,
        grant: Option<&Grant>,
    ) -> (Cause, Vec<super::challenge::Challenge>) {
        let limits = &self.inner.limits;
        let anonymous = grant.is_none_or(|grant| grant.anonymous);
        if !same_origin(response.url(), &self.inner.base) {
            let host = Some(authority(response.url()));
            return (Cause::Answer(Box::new(foreign_answer(&response, host))), Vec::new());
        }
        let (answer, challenges) = read_answer(response, anonymous).await;

        // If the quota of this login is used up, other logins at the same host are not affected.
        if !self.inner.quota.refused(&answer) {
            // S3, and registries in front of it, answer 503 "Slow Down".
            if matches!(
                answer.status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            ) {
                limits.refused();
            }
            if let Some(wait) =
                answer.retry_after.filter(|_| answer.status == StatusCode::TOO_MANY_REQUESTS)
            {
                limits.pause_for(wait);
            }
        }

        (Cause::Answer(Box::new(answer)), challenges)
    }
}

fn request(call: &Call, grant: Option<&Grant>, timeout: Duration) -> Request {
    let mut headers = call.headers.clone();
    // Digests are of the bytes as stored, so servers should not compress them in transit.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let body = match &call.body {
        bytes if bytes.is_empty() => Body::Empty,
        bytes => Body::Bytes(bytes.clone()),
    };

    let authorization = grant.map(|grant| grant.header.clone());
    Request {
        method: call.method.clone(),
        url: call.url.clone(),
        headers,
        authorization,
        body,
        timeout: timeout.min(call.timeout),
    }
}
