//! `/metrics`, `/healthz`, `/readyz`, `/schedule`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Filter, Metrics};

/// Readiness of the process: the reasons why it is not ready, if it is not. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Mutex<Reasons>>);

#[derive(Debug)]
struct Reasons {
    /// Of the process: what it waits for at its start, or its end.
    process: Option<String>,
    /// Of its AWS identity.
    identity: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Reasons {
            process: Some("starting".to_owned()),
            identity: Some("checking the AWS identity".to_owned()),
        })))
    }
}

impl Health {
    /// The process has everything that it needs from the cluster.
    pub(super) fn set_ready(&self) {
        self.0.lock().process = None;
    }

    /// Returns whether the reason is a new one.
    pub(super) fn set_waiting(&self, reason: &str) -> bool {
        let before = self.0.lock().process.replace(reason.to_owned());
        before.as_deref() != Some(reason)
    }

    /// Sets why there is no AWS identity. Returns whether that is new.
    pub(super) fn set_identity(&self, reason: Option<&str>) -> bool {
        let reason = reason.map(str::to_owned);
        let before = std::mem::replace(&mut self.0.lock().identity, reason.clone());
        before != reason
    }

    fn reason(&self) -> Option<String> {
        let reasons = self.0.lock();
        reasons.process.clone().or_else(|| reasons.identity.clone())
    }
}

/// Serves until `stop` is cancelled, on a thread of its own: probes are answered even while all
/// other threads work. Returns its address, and a future that ends with the server.
pub(super) fn start(
    listen: SocketAddr,
    metrics: Metrics,
    health: Health,
    watchdog: Duration,
    stop: CancellationToken,
) -> std::io::Result<(SocketAddr, oneshot::Receiver<()>)> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving /metrics, /healthz, /readyz and /schedule");

    let liveness = metrics.liveness.clone();
    let healthz = move || async move {
        if liveness.is_frozen() {
            let text = "no thread has been free for a minute\n";
            return (StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        if liveness.is_stuck_for(watchdog) {
            let text = "a pass is due, but there was no progress for too long (--watchdog)\n";
            return (StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        (StatusCode::OK, "ok\n")
    };
    let watches = metrics.watches.clone();
    let readyz = move || async move {
        match health.reason().or_else(|| watches.trouble()) {
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            None => match watches.degraded() {
                Some(reason) => (StatusCode::OK, format!("ok, but {reason}\n")),
                None => (StatusCode::OK, "ok\n".to_owned()),
            },
        }
    };
    let resources = metrics.resources.clone();
    let schedule = move |RawQuery(query): RawQuery| async move {
        match filter(query.as_deref().unwrap_or_default()) {
            Ok(filter) => (StatusCode::OK, resources.schedule(&filter)),
            Err(error) => (StatusCode::BAD_REQUEST, error),
        }
    };
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/schedule", get(schedule))
        .route("/metrics", get(move || async move { page(&metrics) }));

    let serve = async move {
        let serving =
            async { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await };
        // A scraper that keeps its connection open must not keep the process alive.
        tokio::select! {
            result = serving => {
                if let Err(error) = result {
                    tracing::error!(%error, "the HTTP server ended");
                }
            }
            () = stop.cancelled() => {}
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(serve);
        // Nobody waits for it if the start of the process failed.
        let _ = ended.send(());
    })?;
    Ok((address, end))
}

/// Parses the query of `/schedule`. Names of Kubernetes objects need no decoding.
fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let field = match key {
            "namespace" => &mut filter.namespace,
            "name" => &mut filter.name,
            _ => return Err(format!("unknown parameter {key:?}: use namespace or name\n")),
        };
        *field = Some(value.to_owned());
    }
    Ok(filter)
}

fn page(metrics: &Metrics) -> axum::response::Response {
    match metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn the_schedule_takes_a_namespace_and_a_name() {
        assert_eq!(filter(""), Ok(Filter::default()));
        let (namespace, name) = (Some("a".to_owned()), Some("b".to_owned()));
        assert_eq!(filter("namespace=a&name=b"), Ok(Filter { namespace, name }));
        let error = "unknown parameter \"limit\": use namespace or name\n";
        assert_eq!(filter("limit=5"), Err(error.to_owned()));
    }

    /// The runtime of this test has one thread, which waits here without giving it back.
    #[tokio::test]
    async fn probes_are_answered_while_no_other_thread_is_free() {
        let (metrics, stop) = (Metrics::new().expect("metrics"), CancellationToken::new());
        let server = start(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics.clone(),
            Health::default(),
            Duration::from_secs(600),
            stop.clone(),
        );
        let (address, end) = server.expect("a server");

        assert!(get(address, "/healthz").starts_with("HTTP/1.0 200"));
        assert!(get(address, "/readyz").contains("not ready: starting"));
        assert!(get(address, "/metrics").contains("ecrsync_"));
        stop.cancel();
        end.await.expect("the server ends");
    }
}
