//! `/metrics`, `/healthz`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// Whether the process is ready. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<AtomicBool>);

impl Health {
    pub(super) fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
    let liveness = metrics.liveness.clone();
    let routes = Router::new()
        .route(
            "/healthz",
            get(move || async move {
                if liveness.is_stuck_for(watchdog) {
                    (StatusCode::INTERNAL_SERVER_ERROR, "work is due and nothing was finished for too long\n")
                } else {
                    (StatusCode::OK, "ok\n")
                }
            }),
        )
        .route(
            "/readyz",
            get(move || async move {
                if health.is_ready() {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            }),
        )
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
