//! `/metrics`, `/healthz`, `/readyz`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// Whether the process is ready, and what it waits for if not. Clones share the answer.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<Mutex<Option<String>>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some("starting".to_owned()))))
    }
}

impl Health {
    pub(super) fn set_ready(&self) {
        *self.lock() = None;
    }

    /// Returns whether this is news.
    pub(super) fn set_waiting(&self, why: &str) -> bool {
        let before = self.lock().replace(why.to_owned());
        before.as_deref() != Some(why)
    }

    fn waits_for(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
                    (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "work is due and nothing was finished for too long\n",
                    )
                } else {
                    (StatusCode::OK, "ok\n")
                }
            }),
        )
        .route(
            "/readyz",
            get(move || async move {
                match health.waits_for() {
                    None => (StatusCode::OK, "ok\n".to_owned()),
                    Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
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
