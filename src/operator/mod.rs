//! Wiring and life cycle of the controller process.

mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::controller::{self, LiveOwners};
use crate::credentials::DockerConfig;
use crate::ecr;
use crate::registry::{Transport, TransportOptions};
use crate::sync::Engine;
use crate::telemetry::Metrics;
use server::Health;

/// How the process runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only namespace to watch; all when absent.
    pub namespace: Option<String>,
    /// Only resources with these labels; all when absent.
    pub label_selector: Option<String>,
    /// Whether Secrets are watched.
    pub watch_secrets: bool,
    /// Logins for sources whose resource names no Secret.
    pub registry_config: Option<Arc<DockerConfig>>,
    /// Nothing is written to ECR.
    pub dry_run: bool,
    /// Identity of this cluster; the uid of the namespace kube-system when absent.
    pub cluster_id: Option<String>,
    /// Resources synced at the same time.
    pub max_jobs: usize,
    /// Reconciles at the same time.
    pub concurrency: u16,
    /// Periodic checks that are due at the start are spread over this time.
    pub startup_spread: Duration,
    /// Where /metrics, /healthz and /readyz are served.
    pub listen: SocketAddr,
    /// AWS.
    pub aws: ecr::Options,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to an API server.
    #[error("cannot configure the Kubernetes client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cluster's identity.
    #[error(
        "cannot read the namespace kube-system for this cluster's identity; allow it (get namespaces) or set --cluster-id"
    )]
    ClusterId(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The HTTP server.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals, metrics: never seen to fail.
    #[error("cannot start")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start. Once it runs, nothing ends it but a signal.
pub async fn run(options: Options) -> Result<(), Error> {
    let Options {
        namespace,
        label_selector,
        watch_secrets,
        registry_config,
        dry_run,
        cluster_id,
        max_jobs,
        concurrency,
        startup_spread,
        listen,
        aws,
    } = options;
    let stop = on_signal().map_err(|error| Error::Start(error.into()))?;
    let metrics = Metrics::new().map_err(|error| Error::Start(error.into()))?;
    let health = Health::default();
    let server = server::start(listen, metrics.clone(), health.clone(), stop.clone())
        .await
        .map_err(|source| Error::Listen { address: listen, source })?;

    let client = Client::try_default().await.map_err(|error| Error::Client(error.into()))?;
    let cluster_id = match cluster_id {
        Some(id) => id,
        None => tokio::select! {
            () = stop.cancelled() => return Ok(()),
            id = uid_of_kube_system(&client) => id?,
        },
    };
    let transport = Transport::new(&TransportOptions::default()).map_err(|error| Error::Start(error.into()))?;
    let session = ecr::Session::load(aws, transport.clone()).await;
    let engine = Arc::new(Engine::new(session, transport, Some(Arc::new(LiveOwners::new(client.clone())))));
    let instance =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "ecr-sync".to_owned());
    let options = controller::Options {
        namespace,
        label_selector,
        watch_secrets,
        registry_config,
        dry_run,
        cluster_id,
        max_jobs,
        concurrency,
        startup_spread,
        instance,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace.as_deref().unwrap_or("all"),
        cluster_id = options.cluster_id,
        %listen,
        "ecr-sync controller starts"
    );
    health.set_ready(true);
    let not_ready = {
        let (stop, health) = (stop.clone(), health.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            tracing::info!("told to stop");
            health.set_ready(false);
        })
    };
    controller::run(client, engine, metrics, options, stop.clone()).await;
    // The controller's stream ends on a signal only; anything else is a defect that a restart may cure.
    stop.cancel();
    let _ended = tokio::join!(not_ready, server);
    tracing::info!("ecr-sync controller ends");
    Ok(())
}

/// A token that SIGTERM or SIGINT cancels.
fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

/// Waits for an API server that is not there yet: pods often start before it.
async fn uid_of_kube_system(client: &Client) -> Result<String, Error> {
    const DEADLINE: Duration = Duration::from_secs(10);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut wait = Duration::from_millis(200);
    loop {
        let error: Box<dyn std::error::Error + Send + Sync> =
            match tokio::time::timeout(DEADLINE, namespaces.get_metadata("kube-system")).await {
                Ok(Ok(namespace)) => return Ok(namespace.uid().unwrap_or_default()),
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() || status.code == 401 => {
                    return Err(Error::ClusterId(kube::Error::Api(status).into()));
                }
                Ok(Err(error)) => error.into(),
                Err(late) => late.into(),
            };
        tracing::warn!(%error, "the API server cannot be reached yet");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}
