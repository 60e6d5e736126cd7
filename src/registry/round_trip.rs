//! One HTTP request and the head of its answer: the seam between the HTTP client and everything that
//! is decided above it, such as redirects, logins, deadlines and retries.

use std::fmt;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Client, Request, Response};

/// A way to send HTTP requests: [`Client`], or a network in memory.
pub trait RoundTrip: fmt::Debug + Send + Sync {
    /// Sends a request as it is, and reads the head of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// When there is no answer.
    fn round_trip(&self, request: Request) -> BoxFuture<'_, reqwest::Result<Response>>;
}

impl RoundTrip for Client {
    fn round_trip(&self, request: Request) -> BoxFuture<'_, reqwest::Result<Response>> {
        self.execute(request).boxed()
    }
}
