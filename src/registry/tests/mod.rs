//! Tests of the client against a scripted registry on the loopback address, which records requests.

mod auth;
mod blobs;
mod copies;
mod egress;
mod hostile;
mod known;
mod lists;
mod memory;
mod odd;
mod parts;
mod quota;
mod requests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::blobs::BlobStream;
use super::copy::Moved;
use super::digest::Algorithm;
use super::manifest::DOCKER_MANIFEST;
use super::*;

/// A recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `GET /v2/a/manifests/x?y`.
    pub(crate) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the whole body was received.
    pub(super) whole: bool,
    /// The number of earlier requests with the same line.
    pub(crate) nth: usize,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn authorization(&self) -> &str {
        self.header("authorization")
    }
}

/// A server that answers by a script.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) host: String,
    log: Arc<Mutex<Vec<Seen>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Peer {
    /// Starts a server that answers each request after its body was read.
    pub(crate) async fn new(script: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        Self::with_early(|_| None, script).await
    }

    /// Like [`Self::new`], but the answers of `early` are sent before the body is read.
    pub(super) async fn with_early(
        early: impl Fn(&Seen) -> Option<Response> + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::serve("127.0.0.1:0", early, script).await
    }

    /// Like [`Self::new`], at another loopback address.
    pub(super) async fn at(
        address: &str,
        script: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, |_| None, script).await
    }

    async fn serve(
        address: &str,
        early: impl Fn(&Seen) -> Option<Response> + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::<Seen>::new()));
        let counts = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
        let (early, script, seen_log) = (Arc::new(early), Arc::new(script), log.clone());
        let answer = move |request: Request<Body>| {
            let (early, script, log, counts) =
                (early.clone(), script.clone(), seen_log.clone(), counts.clone());
            async move {
                let (parts, body) = request.into_parts();
                let line = format!("{} {}", parts.method, parts.uri);
                let nth = {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry(line.clone()).or_default();
                    *count += 1;
                    *count - 1
                };
                let mut seen =
                    Seen { line, headers: parts.headers, body: Bytes::new(), whole: false, nth };
                if let Some(response) = early(&seen) {
                    log.lock().unwrap().push(seen);
                    return Ok::<_, Infallible>(response);
                }
                let body = axum::body::to_bytes(body, usize::MAX).await;
                seen.whole = body.is_ok();
                seen.body = body.unwrap_or_default();
                log.lock().unwrap().push(seen.clone());
                Ok(script(&seen))
            }
        };

        let app = axum::Router::new().fallback(move |request: Request<Body>| async move {
            answer(request).await.unwrap_or_else(|never| match never {})
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();

        // In a separate thread: on the test's runtime, client and server would never run at the same
        // time.
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let serve = axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app);
                tokio::select! { _ = serve => {}, _ = stopped => {} }
            });
        });

        Self { host, log, stop: Some(stop), server: Some(server) }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// The request lines, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    /// The number of requests that begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_as(Credential::Anonymous)
    }

    pub(super) fn client_as(&self, credential: Credential) -> Client {
        self.client_with(Arc::new(StaticAuthenticator(credential)), quick())
    }

    /// A client with other rules for connections.
    pub(super) fn client_within(&self, egress: Egress, credential: Credential) -> Client {
        let transport = Transport::new(&TransportOptions::default(), &Arc::new(egress)).unwrap();
        let authenticator = Arc::new(StaticAuthenticator(credential));
        Client::new(transport, endpoint(Scheme::Http, &*self.host), authenticator, quick()).unwrap()
    }

    pub(super) fn client_with(
        &self,
        authenticator: Arc<dyn Authenticator>,
        options: Options,
    ) -> Client {
        let transport =
            Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
        Client::new(transport, endpoint(Scheme::Http, &*self.host), authenticator, options).unwrap()
    }
}

/// The defaults, with short waits.
pub(super) fn quick() -> Options {
    let retry = RetryPolicy { base: Duration::from_millis(2), ..RetryPolicy::default() };
    Options {
        retry,
        stall_window: Duration::from_millis(300),
        answer_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

pub(super) fn endpoint(scheme: Scheme, host: impl Into<String>) -> Endpoint {
    Endpoint { scheme, host: host.into() }
}

pub(super) fn user() -> Credential {
    Credential::Basic { username: "user".into(), password: "pass".into() }
}

/// `user:pass` in base64.
pub(super) const BASIC: &str = "Basic dXNlcjpwYXNz";

pub(crate) fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Response {
    respond(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

/// A body that announces `size` bytes and breaks after `bytes`.
pub(super) fn broken(status: u16, headers: &[(&str, &str)], bytes: Bytes, size: usize) -> Response {
    let cut = Err(io::Error::other("cut"));
    // The pause lets the bytes leave before the connection closes.
    let chunks = stream::iter([Ok(bytes), cut]).then(|chunk| async {
        if chunk.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        chunk
    });
    let mut response = respond(status, headers, Body::from_stream(chunks));
    response.headers_mut().insert("content-length", size.into());
    response
}

/// A body that announces `size` bytes and hangs after `bytes`.
pub(super) fn hanging(bytes: Bytes, size: usize) -> Response {
    let chunks = stream::iter([Ok::<_, io::Error>(bytes)]).chain(stream::pending());
    let mut response = respond(200, &[], Body::from_stream(chunks));
    response.headers_mut().insert("content-length", size.into());
    response
}

/// Bytes that are not all the same.
pub(super) fn content(size: usize) -> Bytes {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

pub(super) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new("application/octet-stream", Digest::sha256_of(content), content.len() as u64)
}

impl Client {
    /// Writes a blob from a stream, once.
    pub(super) async fn upload(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        blob: BlobStream,
    ) -> Result<(), Error> {
        let subject = self.subject(repository, &TagOrDigest::from(&descriptor.digest));
        let _slot =
            self.limits().upload().await.map_err(|failure| failure.write_blob(&*subject))?;
        let started = self.begin_upload(repository, &descriptor.digest, None).await;
        match started.map_err(|failure| failure.write_blob(&*subject))? {
            upload::Started::Mounted => Ok(()),
            upload::Started::Session(session) => {
                self.send_blob(repository, session, blob, &|_| {}).await
            }
        }
    }
}
