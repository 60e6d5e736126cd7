//! The front of a registry with tokens: it answers `/token` and passes all other requests on
//! unchanged.
//!
//! Both have one address because clients refuse a token server on a loopback address unless it is
//! the registry's own host and port (validateRealmURL in go-containerregistry's
//! transport/bearer.go, validateRealm in oras-go's auth/client.go).

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use super::token::{self, Tokens};
use crate::{Error, http};

/// Long enough for a large layer on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(600);

/// A running front with its own thread and runtime: it must outlive the test that started it.
#[derive(Debug)]
pub(super) struct Front {
    host: String,
    tokens: Arc<Tokens>,
    registry: Arc<OnceLock<String>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    pub(super) fn start(life: Duration) -> Result<Self, Error> {
        let tokens = Arc::new(Tokens::new(life)?);
        let registry = Arc::new(OnceLock::new());
        let back = Back { client: http::client(), registry: Arc::clone(&registry) };
        let app = Router::new()
            .route("/token", axum::routing::any(token::answer).with_state(Arc::clone(&tokens)));
        let app = app.fallback(hand_on).with_state(back);

        let cannot = |e: std::io::Error| format!("cannot start the token server: {e}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let host = listener.local_addr().map_err(cannot)?.to_string();
        let stop = CancellationToken::new();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(stopped.run_until_cancelled(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, app).await
            }));
        };
        let thread =
            std::thread::Builder::new().name("tokens".to_owned()).spawn(serve).map_err(cannot)?;
        Ok(Self { host, tokens, registry, stop, thread: Some(thread) })
    }

    /// Returns the address for clients.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Sets the address of the registry, once. Until then the front answers 503.
    pub(super) fn stands_before(&self, registry: &str) {
        self.registry.get_or_init(|| registry.to_owned());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Back {
    client: reqwest::Client,
    registry: Arc<OnceLock<String>>,
}

async fn hand_on(State(back): State<Back>, request: Request) -> Response {
    let Some(registry) = back.registry.get() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| head.headers.contains_key(name));
    let mut onward = back.client.request(head.method, format!("http://{registry}{path}"));
    onward = onward.timeout(LIMIT).headers(end_to_end(head.headers));
    if has_body {
        onward = onward.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match onward.send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(e) => (StatusCode::BAD_GATEWAY, format!("the registry behind does not answer: {e}"))
            .into_response(),
    }
}

/// Removes the headers about a single connection (RFC 9110, 7.6.1). `Host` is kept: the registry
/// writes it into `Location`.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}
