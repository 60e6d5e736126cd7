//! `/metrics`, `/healthz`, `/readyz`, `/schedule`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// Readiness of the process: the reasons why it is not ready, if it is not. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<Mutex<Reasons>>);

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

/// Serves until `stop` is cancelled.
pub(super) async fn start(
    listen: SocketAddr,
    metrics: Metrics,
    health: Health,
    watchdog: Duration,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz, /readyz and /schedule");

    let liveness = metrics.liveness.clone();
    let healthz = move || async move {
        if liveness.is_stuck_for(watchdog) {
            let text = "work is due, but nothing was finished for too long\n";
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
    let schedule = metrics.schedule.clone();
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/schedule", get(move || async move { schedule.page() }))
        .route("/metrics", get(move || async move { page(&metrics) }));

    Ok(tokio::spawn(async move {
        // A scraper that keeps its connection open must not keep the process alive.
        tokio::select! {
            result = axum::serve(listener, routes) => {
                if let Err(error) = result {
                    tracing::error!(%error, "the HTTP server ended");
                }
            }
            () = stop.cancelled() => {}
        }
    }))
}

fn page(metrics: &Metrics) -> axum::response::Response {
    match metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
