//! The network in memory: requests of the registry client, of the AWS SDK and of kube go to the
//! stand-in and to the API server without a socket.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use axum::body::{Body, HttpBody};
use axum::http;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Request, Response, ResponseBuilderExt};
use testbed::ecr::StandIn;

use super::world::World;
use crate::registry::RoundTrip;

/// The header that names the process of a request.
pub(super) const PROCESS: &str = "x-process";

/// The connections of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) process: u64,
    is_cut: Arc<AtomicBool>,
    is_cut_off: Arc<AtomicBool>,
}

impl Line {
    pub(super) fn new(process: u64) -> Self {
        Self { process, ..Self::default() }
    }

    /// Lets no more requests through. From the outside, the process is killed.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    /// Lets no requests to the API server through, or lets them through again.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    /// Returns if requests to the API server get through.
    async fn reaches_api(&self) {
        self.is_up().await;
        if self.is_cut_off.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Returns if requests get through.
    async fn is_up(&self) {
        if self.is_cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// The network between a process and the stand-in.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) ecr: Arc<StandIn>,
    pub(super) line: Line,
}

impl Network {
    /// Sends a request, and returns its answer unless the connection breaks.
    async fn send(&self, mut request: http::Request<Body>) -> Option<http::Response<Body>> {
        self.line.is_up().await;
        request.headers_mut().insert(PROCESS, self.line.process.into());
        let answer = self.ecr.answer(request).await;
        self.line.is_up().await;
        answer
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl RoundTrip for Network {
    fn round_trip(&self, request: Request) -> BoxFuture<'_, reqwest::Result<Response>> {
        async {
            let url = request.url().clone();
            let request = http::Request::<reqwest::Body>::try_from(request)?.map(Body::new);
            let Some(answer) = self.send(request).await else { return Err(reset().await) };

            let (parts, body) = answer.into_parts();
            let mut response = http::Response::builder().status(parts.status).url(url);
            if let Some(headers) = response.headers_mut() {
                *headers = parts.headers;
            }
            let body = match length(&response) {
                Some(length) => reqwest::Body::wrap(Announced { body: body.into(), length }),
                None => reqwest::Body::wrap_stream(body.into_data_stream()),
            };
            Ok(response.body(body).expect("the parts are valid").into())
        }
        .boxed()
    }
}

/// The length that the headers of an answer announce.
fn length(response: &http::response::Builder) -> Option<u64> {
    let length = response.headers_ref()?.get(http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The error of a connection that was reset before the answer.
async fn reset() -> reqwest::Error {
    let broken =
        futures::stream::iter([Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::ConnectionReset))]);
    let response = Response::from(http::Response::new(reqwest::Body::wrap_stream(broken)));
    response.bytes().await.expect_err("the body is an error")
}

/// A body with an announced length, as HTTP clients show it.
struct Announced {
    body: SyncBody,
    length: u64,
}

/// A body that can be shared between threads, because nobody gets a reference to it.
struct SyncBody(parking_lot::Mutex<Body>);

impl From<Body> for SyncBody {
    fn from(body: Body) -> Self {
        Self(parking_lot::Mutex::new(body))
    }
}

impl HttpBody for Announced {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(self.body.0.get_mut()).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}

impl HttpClient for Network {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let network = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let request = request.map(|body| Body::from(body.bytes().unwrap_or_default().to_vec()));
            let broken =
                || ConnectorError::io(io::Error::from(io::ErrorKind::ConnectionReset).into());
            let answer = network.send(request).await.ok_or_else(broken)?;

            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| broken())?;
            let status = parts.status.as_u16().try_into().expect("a status");
            let mut response = HttpResponse::new(status, body.to_vec().into());
            for (name, value) in &parts.headers {
                let value = value.to_str().unwrap_or_default().to_owned();
                response.headers_mut().insert(name.as_str().to_owned(), value);
            }
            Ok(response)
        })
    }
}

/// A client of the API server.
pub(super) fn kube_client(world: &World, line: &Line) -> kube::Client {
    let (api, weather, line) = (world.api.clone(), world.weather.clone(), line.clone());
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, weather, line) = (api.clone(), weather.clone(), line.clone());
        async move {
            line.reaches_api().await;
            let request = request.map(Body::new);
            let name = format!("{} {}", request.method(), request.uri().path());
            let answer = weather.through_api(&name, api.answer(request)).await;
            line.reaches_api().await;
            answer
        }
    });
    kube::Client::new(service, "ns")
}
