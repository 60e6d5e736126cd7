//! A reverse proxy in front of a real registry or API server, to log its traffic and to inject
//! faults.
//!
//! Bodies are streamed in both directions, chunk by chunk, so a watch works as without it. The
//! client's `Host` is passed on, so the registry makes its `Location` and token realm URLs for the
//! proxy; absolute ones that still name the upstream are rewritten.

mod in_flight;
mod operation;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, HOST, LINK, LOCATION, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, request};
use axum::response::Response;
use parking_lot::Mutex;

use crate::Error;
use crate::traffic::{Cut, Exchange, Faults, Host, Log, Mark, Record, cut, serve};
use in_flight::InFlight;

/// Longer than any transfer of a test; a test that hangs ends at its own deadline.
const LONGEST: Duration = Duration::from_secs(3600);

/// A running proxy; dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    relay: Arc<Relay>,
    // Dropped last: the proxy runs on this thread.
    _host: Host,
}

#[derive(Debug)]
struct Relay {
    /// `http://HOST:PORT`.
    upstream: String,
    client: reqwest::Client,
    log: Log,
    faults: Faults,
    in_flight: InFlight,
    /// `Authorization` for the upstream, in place of the client's.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Proxy {
    /// Starts a proxy for `upstream`, `HOST:PORT` of a plain HTTP server.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub async fn start(upstream: impl std::fmt::Display) -> io::Result<Self> {
        Self::relay(format!("http://{upstream}"), crate::http::client())
    }

    /// Starts a proxy for an HTTPS server, such as a kube-apiserver: `url` is `https://HOST:PORT`,
    /// `ca` the PEM file that it is trusted by. Clients talk plain HTTP to the proxy; their bearer
    /// tokens are passed on.
    ///
    /// # Errors
    /// When the PEM file cannot be used, no thread can be started or no port of 127.0.0.1 be bound.
    pub async fn start_to(url: &str, ca: &Path) -> Result<Self, Error> {
        Ok(Self::relay(url.trim_end_matches('/').to_owned(), crate::http::client_trusting(ca)?)?)
    }

    fn relay(upstream: String, client: reqwest::Client) -> io::Result<Self> {
        let host = Host::start("fault-proxy")?;
        let relay = Arc::new(Relay {
            upstream,
            client,
            log: Log::default(),
            faults: Faults::default(),
            in_flight: InFlight::default(),
            authorization: Mutex::default(),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&relay));
        let address =
            serve(host.handle(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router, &relay.log)?;
        Ok(Self { address, relay, _host: host })
    }

    /// Returns `127.0.0.1:PORT` to use instead of the upstream.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns every request so far, oldest first. Requests to an AWS JSON API have
    /// [`Plane::Control`](crate::traffic::Plane::Control) and the name of their operation; all
    /// others have [`Plane::Data`](crate::traffic::Plane::Data).
    ///
    /// Requests to a registry are named as in [`Record::operation`]. Requests to the Kubernetes API
    /// are named by verb, resource and subresource (`watch ecrrepositorysyncs`, `patch
    /// ecrrepositorysyncs/status`, `create events`, `get secrets`); their [`Record::repository`] is
    /// `NAMESPACE/NAME`, or the part of it that the path has.
    pub fn log(&self) -> Vec<Record> {
        self.relay.log.all()
    }

    /// Returns the current position in the log, for [`Proxy::log_since`].
    pub fn mark(&self) -> Mark {
        self.relay.log.mark()
    }

    /// Returns the requests that arrived after `mark`.
    pub fn log_since(&self, mark: Mark) -> Vec<Record> {
        self.relay.log.since(mark)
    }

    /// Counts the requests that satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.relay.log.count(wanted)
    }

    /// Returns the log; a clone stays readable after the proxy is dropped.
    pub fn traffic(&self) -> &Log {
        &self.relay.log
    }

    /// Returns the faults in force.
    pub fn faults(&self) -> &Faults {
        &self.relay.faults
    }

    /// Counts the requests in progress that satisfy `wanted`: not answered, or with an answer that
    /// has not ended, as that of a watch.
    pub fn under_way(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.relay.in_flight.0.lock().lines.values().filter(|(record, _)| wanted(record)).count()
    }

    /// Resets the connections (TCP RST) of the requests in progress that satisfy `wanted`, and
    /// returns their number. They are in progress no longer, even if their connections are not
    /// closed yet. Later requests are not affected: see [`Proxy::faults`].
    pub fn hang_up(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        let mut in_flight = self.relay.in_flight.0.lock();
        let hit = in_flight.lines.extract_if(.., |_, (record, _)| wanted(record));
        hit.map(|(_, (_, hung_up))| hung_up.cancel()).count()
    }

    /// Sends this bearer token to the upstream instead of the client's, as if the client's had
    /// expired; `None` ends that. Requests in progress are not affected: an API server does not end
    /// a watch whose token expires either.
    ///
    /// # Panics
    /// When the token has a character that is not allowed in a header.
    pub fn replace_token(&self, token: Option<&str>) {
        let value = token.map(|token| {
            HeaderValue::try_from(format!("Bearer {token}")).expect("a token is plain text")
        });
        *self.relay.authorization.lock() = value;
    }
}

async fn handle(
    State(relay): State<Arc<Relay>>,
    ConnectInfo(line): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let (plane, operation, repository) = operation::name(&parts);
    let record = Record { repository, ..Record::arrived(plane, operation, &parts) };
    let replaced = relay.authorization.lock().clone();
    if let Some(replaced) = replaced {
        parts.headers.insert(AUTHORIZATION, replaced);
    }
    let in_flight = relay.in_flight.begin(&record, line.clone());
    let exchange = Exchange { log: &relay.log, faults: &relay.faults, cut: line.clone() };
    let answer = tokio::select! {
        answer = exchange.run(record, body, |body| relay.pass(parts, body)) => answer,
        () = in_flight.hung_up.cancelled() => return cut(&line),
    };
    if answer.body().size_hint().exact().is_some() {
        return answer; // short, and its length is part of it
    }
    let (head, body) = answer.into_parts();
    Response::from_parts(head, in_flight.carry(body))
}

impl Relay {
    async fn pass(&self, parts: request::Parts, body: Body) -> Response {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        let host = headers.get(HOST).cloned();
        drop_hop_headers(&mut headers);
        let mut request = self.client.request(parts.method, format!("{}{path}", self.upstream));
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
            let text = text.map(|text| {
                text.replace(&format!("{}/", self.upstream), &format!("http://{host}/"))
            });
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures::{StreamExt, stream};
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;
    use crate::traffic::{Fault, Match, Then};

    /// Deadline of every wait.
    const SOON: Duration = Duration::from_secs(30);

    async fn eventually(what: &str, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "not {what} after {SOON:?}");
    }

    /// Starts a server whose `/live` sends one line and then nothing, and whose `/who` returns the
    /// bearer token.
    fn upstream() -> (Host, SocketAddr) {
        let host = Host::start("upstream").expect("a thread");
        let first = || stream::once(async { Ok::<_, io::Error>("first\n") });
        let router = Router::new()
            .route(
                "/live",
                get(move || async move { Body::from_stream(first().chain(stream::pending())) }),
            )
            .route(
                "/who",
                get(async |headers: HeaderMap| {
                    headers[AUTHORIZATION].to_str().map(str::to_owned).unwrap()
                }),
            );
        let address = serve(
            host.handle(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            router,
            &Log::default(),
        )
        .expect("a port");
        (host, address)
    }

    fn is_reset(error: &reqwest::Error) -> bool {
        let mut causes =
            std::iter::successors(std::error::Error::source(error), |error| error.source());
        causes.any(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionReset)
        })
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_is_passed_on_as_it_comes_until_somebody_hangs_up() {
        let (_upstream, address) = upstream();
        let proxy = Proxy::start(address).await.expect("a proxy");
        let url = format!("http://{}/live", proxy.host());
        let open = async || {
            let mut answer = crate::http::client().get(&url).send().await.expect("an answer");
            let chunk = tokio::time::timeout(SOON, answer.chunk())
                .await
                .expect("at once")
                .expect("a chunk");
            assert_eq!(chunk.as_deref(), Some(&b"first\n"[..]));
            answer
        };
        let (mut cut, dropped) = (open().await, open().await);
        assert_eq!(proxy.under_way(|_| true), 2);
        drop(dropped);
        eventually("noticed", || proxy.under_way(|_| true) == 1).await;
        assert_eq!(proxy.hang_up(|request| request.path == "/other"), 0);
        assert_eq!(proxy.hang_up(|request| request.path == "/live"), 1);
        let end = tokio::time::timeout(SOON, cut.chunk()).await.expect("at once").expect_err("cut");
        assert!(is_reset(&end), "{end:?}");
        assert_eq!((proxy.under_way(|_| true), proxy.hang_up(|_| true)), (0, 0), "cut already");
    }

    #[tokio::test]
    async fn a_request_without_an_answer_can_be_hung_up_on() {
        let (_upstream, address) = upstream();
        let proxy = Proxy::start(address).await.expect("a proxy");
        proxy.faults().add(Fault::new(Match::any(), Then::Stall).once());
        let request =
            tokio::spawn(crate::http::client().get(format!("http://{}/live", proxy.host())).send());
        eventually("under way", || proxy.under_way(|_| true) == 1).await;
        assert_eq!(proxy.hang_up(|_| true), 1);
        let end = tokio::time::timeout(SOON, request)
            .await
            .expect("at once")
            .expect("no panic")
            .expect_err("cut");
        assert!(is_reset(&end), "{end:?}");
        assert_eq!((proxy.under_way(|_| true), proxy.log()[0].status), (0, None));
    }

    #[tokio::test]
    async fn a_token_can_be_replaced_for_a_while() {
        let (_upstream, address) = upstream();
        let proxy = Proxy::start(address).await.expect("a proxy");
        let who = async || {
            let request = crate::http::client()
                .get(format!("http://{}/who", proxy.host()))
                .bearer_auth("mine");
            request.send().await.expect("an answer").text().await.expect("a text")
        };
        assert_eq!(who().await, "Bearer mine");
        proxy.replace_token(Some("expired"));
        assert_eq!(who().await, "Bearer expired");
        proxy.replace_token(None);
        assert_eq!(who().await, "Bearer mine");
    }

    #[tokio::test]
    async fn a_real_api_server_can_be_watched_through_it() {
        let cluster = Cluster::shared().await;
        let config = std::fs::read_to_string(cluster.kubeconfig()).expect("the cluster wrote one");
        let config: Value = serde_json::from_str(&config).expect("JSON");
        let token = config["users"][0]["user"]["token"].as_str().expect("a token").to_owned();
        let proxy = Proxy::start_to(cluster.url(), &cluster.ca()).await.expect("a proxy");
        let maps = format!("http://{}/api/v1/namespaces/default/configmaps", proxy.host());
        let client = crate::http::client();

        let mut watch = client
            .get(format!("{maps}?watch=true"))
            .bearer_auth(&token)
            .send()
            .await
            .expect("an answer");
        assert_eq!(watch.status(), 200);
        let map = json!({"metadata": {"name": "through-the-proxy"}});
        let created =
            client.post(&maps).bearer_auth(&token).json(&map).send().await.expect("an answer");
        assert_eq!(created.status(), 201);
        let told = async {
            let mut text = Vec::new();
            while !String::from_utf8_lossy(&text).contains("through-the-proxy") {
                text.extend_from_slice(&watch.chunk().await.expect("a chunk").expect("more"));
            }
        };
        tokio::time::timeout(SOON, told).await.expect("an event while the watch goes on");

        proxy.replace_token(Some("expired"));
        assert_eq!(
            client.get(&maps).bearer_auth(&token).send().await.expect("an answer").status(),
            401
        );
        assert_eq!(proxy.under_way(|request| request.operation == "watch configmaps"), 1);
        assert_eq!(
            proxy.log().iter().map(|request| request.operation.as_str()).collect::<Vec<_>>(),
            ["watch configmaps", "create configmaps", "list configmaps"]
        );
    }
}
