//! A reverse proxy in front of a real registry, to log its traffic and to break it.
//!
//! Bodies stream both ways. The client's `Host` is passed on, so the registry makes its `Location` and token realm URLs
//! for the proxy; absolute ones that still name the upstream are rewritten.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, HOST, LINK, LOCATION, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, request};
use axum::response::Response;

use crate::traffic::{Cut, Exchange, Faults, Host, Log, Mark, Plane, Record, Route, serve};

/// Longer than any transfer of a test; a test that hangs is ended by its own deadline.
const LONGEST: Duration = Duration::from_secs(3600);

/// A running proxy; dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    relay: Arc<Relay>,
    // Dropped last: the proxy runs on it.
    _host: Host,
}

#[derive(Debug)]
struct Relay {
    upstream: String,
    client: reqwest::Client,
    log: Log,
    faults: Faults,
}

impl Proxy {
    /// Starts a proxy for `upstream`, `HOST:PORT` of a plain HTTP server.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub async fn start(upstream: impl Into<String>) -> io::Result<Self> {
        let host = Host::start("fault-proxy")?;
        let relay = Arc::new(Relay {
            upstream: upstream.into(),
            client: crate::http::client(),
            log: Log::default(),
            faults: Faults::default(),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&relay));
        let address = serve(host.handle(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router)?;
        Ok(Self { address, relay, _host: host })
    }

    /// `127.0.0.1:PORT` to use instead of the upstream.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far, oldest first; all are of [`Plane::Data`].
    pub fn log(&self) -> Vec<Record> {
        self.relay.log.all()
    }

    /// A place in the log, for [`Proxy::log_since`].
    pub fn mark(&self) -> Mark {
        self.relay.log.mark()
    }

    /// The requests that arrived after `mark`.
    pub fn log_since(&self, mark: Mark) -> Vec<Record> {
        self.relay.log.since(mark)
    }

    /// How many requests satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.relay.log.count(wanted)
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.relay.faults
    }
}

async fn handle(State(relay): State<Arc<Relay>>, ConnectInfo(cut): ConnectInfo<Cut>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let route = Route::parse(parts.method.as_str(), parts.uri.path());
    let record = Record {
        plane: Plane::Data,
        operation: route.operation.to_owned(),
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        account: String::new(),
        region: String::new(),
        repository: route.repository,
        headers: parts.headers.clone(),
        status: None,
        code: None,
        received: 0,
        started: SystemTime::now(),
        took: None,
    };
    let exchange = Exchange { log: &relay.log, faults: &relay.faults, cut };
    exchange.run(record, body, |body| relay.pass(parts, body)).await
}

impl Relay {
    async fn pass(&self, parts: request::Parts, body: Body) -> Response {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        let host = headers.get(HOST).cloned();
        drop_hop_headers(&mut headers);
        let mut request = self.client.request(parts.method, format!("http://{}{path}", self.upstream));
        request = request.timeout(LONGEST).headers(headers);
        if !body.is_end_stream() {
            request = request.body(reqwest::Body::wrap_stream(body.into_data_stream()));
        }
        match request.send().await {
            Ok(answer) => self.answer(answer, host.as_ref()),
            Err(error) => {
                let mut response = Response::new(Body::from(format!("proxy: {error:?}")));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    fn answer(&self, answer: reqwest::Response, host: Option<&HeaderValue>) -> Response {
        let status = answer.status();
        let mut headers = answer.headers().clone();
        drop_hop_headers(&mut headers);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        for name in [LOCATION, WWW_AUTHENTICATE, LINK] {
            let text = headers.get(&name).and_then(|value| value.to_str().ok());
            let text = text.map(|text| text.replace(&format!("://{}/", self.upstream), &format!("://{host}/")));
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
        let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn drop_hop_headers(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}
