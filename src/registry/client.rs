//! One registry, as seen with one credential.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::{Auth, Authenticator, Grant, Scope};
use super::error::{Error, Failure};
use super::limit::{Gate, Limits};
use super::quota::{Pull, Quota, Turn};
use super::reference::{Reference, TagOrDigest, api_host};
use super::retry::{self, retrying};
use super::transport::{ANSWER_WITHIN, Body, Request, Transport, read_answer, same_origin};

/// With or without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With TLS.
    #[default]
    Https,
    /// Without.
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

/// Where a registry is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// With or without TLS.
    pub scheme: Scheme,
    /// Host as users write it, with port if any. `docker.io` is asked at its API host.
    pub host: String,
}

impl Endpoint {
    /// The registry of a reference.
    #[must_use]
    pub fn of(reference: &Reference, insecure: bool) -> Self {
        let scheme = if insecure { Scheme::Http } else { Scheme::Https };
        Self { scheme, host: reference.host.clone() }
    }

    /// A registry by its host, as in a [`Reference`].
    pub fn new(scheme: Scheme, host: impl Into<String>) -> Self {
        Self { scheme, host: host.into() }
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

/// How a client behaves. The defaults suit any registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Send Basic with the first request, without waiting to be asked: right for ECR, which always
    /// asks.
    pub preemptive_basic: bool,
    /// Limits to share with other clients of the same host; its own ones if `None`.
    pub limits: Option<Arc<Limits>>,
    /// What this login may still pull, to share with other clients that have it; its own if `None`.
    pub quota: Option<Arc<Quota>>,
    /// Each try to write a manifest passes here.
    pub manifests: Option<Arc<dyn Gate>>,
    /// Each upload of a blob passes here before anything is asked for it, on either side.
    pub uploads: Option<Arc<dyn Gate>>,
    /// Retries of small requests.
    pub retry: retry::Policy,
    /// A body that brings nearly nothing (less than [`Options::floor`]) for this long is cut.
    pub stall: Duration,
    /// Bytes per second below which a stream counts as stalled.
    pub floor: u64,
    /// The longest wait for the head of the answer to a small request.
    pub answer: Duration,
    /// The longest wait for the answer after the last byte of an upload, however large: ECR
    /// assembles and hashes in this time. Small blobs have less, see [`Options::commit_of`].
    pub commit: Duration,
}

impl Options {
    /// How long the answer to an upload of `size` bytes may take after the last byte: a server that
    /// fell silent must not hold a blob of a few bytes for minutes.
    pub(crate) fn commit_of(&self, size: u64) -> Duration {
        /// Bytes per second that the slowest store assembles; registries on spinning disks reach
        /// ten times that.
        const PACE: u64 = 4 * 1024 * 1024;
        // Twice the stall: what we count as sent may still be in socket buffers.
        (self.stall * 2 + Duration::from_secs(size / PACE)).min(self.commit)
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
            retry: retry::Policy::default(),
            stall: Duration::from_secs(30),
            // A modem's pace: whoever is slower does not mean to finish.
            floor: 1024,
            answer: ANSWER_WITHIN,
            commit: Duration::from_secs(300),
        }
    }
}

/// A client for one registry with one credential. Cloning is cheap; clones share tokens and limits.
///
/// # Caveats
/// Tokens are kept per client. Do not share one between resources whose credentials differ.
#[derive(Clone)]
pub struct Client {
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

/// One small request to the registry, which can be sent again.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scope: Scope,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url, scope: Scope) -> Self {
        Self { method, url, scope, headers: HeaderMap::new(), body: bytes::Bytes::new() }
    }
}

impl Client {
    /// A client of the registry at `endpoint`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`Error::Setup`] if the host is not one.
    pub fn new(
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

    /// The registry, as users write it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.endpoint.host
    }

    /// Where the registry is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How long the registry will not be asked because it said so.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.inner.limits.pause()
    }

    /// Whether the registry is known to count GETs of manifests against an allowance, by what it
    /// has told so far.
    #[must_use]
    pub fn counts_pulls(&self) -> bool {
        self.inner.quota.counts()
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.inner.quota
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.inner.transport
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
    pub(crate) fn url(&self, repository: &str, rest: &str) -> Result<Url, Failure> {
        let wrong = || Failure::Internal(format!("{repository:?} is not a repository"));
        // Whatever the caller did, a repository does not climb out of /v2/ and brings no query.
        if repository.is_empty()
            || repository.contains("..")
            || repository.contains([':', '?', '#', '%', '\\', ' '])
            || repository.starts_with('/')
        {
            return Err(wrong());
        }
        self.inner.base.join(&format!("{repository}/{rest}")).map_err(|_| wrong())
    }

    /// Does a small request: waits for a slot, logs in, retries. Any 2xx is success.
    pub(crate) async fn call(&self, call: &Call) -> Result<Response, Failure> {
        retrying(&self.inner.options.retry, || self.attempt(call)).await
    }

    /// One try; a throttle is told to `gate`, which the caller has passed.
    pub(crate) async fn attempt_behind(
        &self,
        gate: Option<&Arc<dyn Gate>>,
        call: &Call,
    ) -> Result<Response, Failure> {
        let answered = self.attempt(call).await;
        if let (Some(gate), Err(Failure::Answer(answer))) = (gate, &answered)
            && answer.status == StatusCode::TOO_MANY_REQUESTS
        {
            gate.throttled();
        }
        answered
    }

    pub(crate) async fn attempt(&self, call: &Call) -> Result<Response, Failure> {
        let inner = &*self.inner;
        let _slot = inner.limits.request(self.host(), inner.options.retry.longest).await?;
        let _turn = inner.auth.turn().await;
        let mut grant = inner.auth.grant(&call.scope).await?;
        // One renewal when a token ended, one when its scope was not the right one.
        for last in [false, false, true] {
            let response =
                inner.transport.send(request(call, grant.as_ref(), inner.options.answer)).await?;
            // A content network in between has limits of its own.
            let is_ours = same_origin(response.url(), &call.url);
            if is_ours && let Some(left) = inner.quota.told(response.headers()) {
                inner.transport.meter().pulls_left(self.host(), left);
            }
            if response.status().is_success() {
                inner.auth.answered_openly(grant.as_ref());
                inner.limits.answered();
                return Ok(response);
            }
            let (refusal, renewed) = self.refused(call, grant.as_ref(), response, last).await?;
            match renewed {
                Some(renewed) => grant = Some(renewed),
                None => return Err(refusal),
            }
        }
        Err(Failure::Internal("logged in over and over".into()))
    }

    /// Leave to send a GET that the registry counts as a pull. `head` asks for the same, which is
    /// not counted.
    pub(crate) async fn pull(&self, head: &Call) -> Result<Pull<'_>, Failure> {
        let mut asked = false;
        loop {
            match self.inner.quota.pull(self.host(), asked).await {
                Turn::Go(pull) => return Ok(pull),
                Turn::No(failure) => return Err(failure),
                Turn::Ask => {
                    // Whatever it answers: what it tells in its headers has been taken in.
                    let _ = self.attempt(head).await;
                    asked = true;
                }
            }
        }
    }

    /// Reads a refusal, and logs in again where that may help.
    async fn refused(
        &self,
        call: &Call,
        grant: Option<&Grant>,
        response: Response,
        last: bool,
    ) -> Result<(Failure, Option<Grant>), Failure> {
        let auth = &self.inner.auth;
        // Another host's 401 is not for our credential.
        let ours = same_origin(response.url(), &call.url);
        let status = response.status();
        let failure = self.failure(response, grant).await;
        let (answer, challenges) = match failure {
            (Failure::Answer(answer), challenges) => (answer, challenges),
            (other, _) => return Ok((other, None)),
        };
        let bare = status == StatusCode::FORBIDDEN && call.method == Method::HEAD;
        let renewable = status == StatusCode::UNAUTHORIZED
            || answer.says_expired()
            || (bare && auth.may_have_expired(grant));
        let renewed = if ours && renewable && !last {
            auth.renew(&call.scope, grant, &challenges).await?
        } else {
            None
        };
        Ok((Failure::Answer(answer), renewed))
    }

    /// Turns an error answer into a failure; a 429 with a wish holds the other requests too, or
    /// those of this login.
    pub(crate) async fn failure(
        &self,
        response: Response,
        grant: Option<&Grant>,
    ) -> (Failure, Vec<super::challenge::Challenge>) {
        let limits = &self.inner.limits;
        let anonymous = grant.is_none_or(|grant| grant.anonymous);
        let (answer, challenges) = read_answer(response, anonymous).await;
        // An allowance of this login that is used up says nothing about others at the same host.
        if !self.inner.quota.refused(&answer) {
            // S3 and registries before it say 503 "Slow Down".
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
        (Failure::Answer(Box::new(answer)), challenges)
    }
}

fn request(call: &Call, grant: Option<&Grant>, answer: Duration) -> Request {
    let mut headers = call.headers.clone();
    // Digests are of the bytes as stored; no server is to compress them on the way.
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
        answer,
    }
}
