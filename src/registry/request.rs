//! A request of the registry client.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};

/// The longest wait for the head of an answer to a small request. Docker Hub's tag lists take some
/// seconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One request. A small body is kept in memory and can be sent again; a stream cannot.
#[derive(Debug)]
pub(crate) struct Request {
    /// HTTP method.
    pub(crate) method: Method,
    /// The address.
    pub(crate) url: Url,
    /// Headers except `Authorization`.
    pub(crate) headers: HeaderMap,
    /// The `Authorization` header; not sent to other hosts after a redirect.
    pub(crate) authorization: Option<HeaderValue>,
    /// The body.
    pub(crate) body: Body,
    /// The longest wait for the head of the answer, unless the body is a stream.
    pub(crate) timeout: Duration,
}

/// A request body.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No body.
    #[default]
    Empty,
    /// A small body that can be sent again.
    Bytes(Bytes),
    /// A body that is sent once; its length is in the headers. The caller watches its progress, the
    /// transport sets no deadline.
    Stream(reqwest::Body),
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Body::Empty,
            timeout: ANSWER_TIMEOUT,
        }
    }

    /// A GET request.
    #[must_use]
    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }
}
