//! Wiring and life cycle of the controller process.

mod lease;
mod server;
mod wait;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as Record;
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::controller::{self, Identity, LiveOwners, LiveTokens};
use crate::ecr;
use crate::meter::Meter;
use crate::registry::{Transport, TransportOptions};
use crate::sync::{Defaults, Engine, Limits};
use crate::telemetry::Metrics;
use lease::{End, Lease};
use server::Health;

/// How the process runs.
#[derive(Debug)]
pub struct Options {
    /// What is watched, and how.
    pub controller: controller::Options,
    /// Identity of this cluster; the uid of the namespace kube-system when absent.
    pub cluster_id: Option<String>,
    /// Leader election; without it every process works.
    pub leader_election: Option<LeaderElection>,
    /// /healthz fails when work is due and nothing was finished for so long.
    pub watchdog: Duration,
    /// Where /metrics, /healthz and /readyz are served.
    pub listen: SocketAddr,
    /// Bounds of a pass.
    pub limits: Limits,
    /// AWS.
    pub aws: ecr::Options,
    /// What repositories get whose spec says nothing.
    pub defaults: Defaults,
}

/// Where the Lease is.
#[derive(Clone, Debug, Default)]
pub struct LeaderElection {
    /// Its namespace; that of the pod, or of the kubeconfig's context, when absent.
    pub namespace: Option<String>,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to an API server.
    #[error("cannot configure the Kubernetes client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process may work by now.
    #[error(
        "the lease was lost: another process may lead by now; this one ends and starts over as a follower"
    )]
    LeaseLost,
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
        controller: options,
        cluster_id,
        leader_election,
        watchdog,
        listen,
        limits,
        aws,
        defaults,
    } = options;
    let stop = on_signal().map_err(|error| Error::Start(error.into()))?;
    let metrics = Metrics::new().map_err(|error| Error::Start(error.into()))?;
    let defaults = Arc::new(defaults);
    watch_files(&metrics, &options, &aws, &defaults);
    let health = Health::default();
    let server = server::start(listen, metrics.clone(), health.clone(), watchdog, stop.clone())
        .await
        .map_err(|source| Error::Listen { address: listen, source })?;

    let client = Client::try_default().await.map_err(|error| Error::Client(error.into()))?;
    let cluster_id = match cluster_id {
        Some(id) => id,
        None => tokio::select! {
            () = stop.cancelled() => return Ok(()),
            id = wait::uid_of_kube_system(&client, &health) => id,
        },
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = wait::for_resource(&client, options.namespace.as_deref(), &health) => {}
    }
    let meter: Arc<dyn Meter> = Arc::new(metrics.clone());
    let transport =
        Transport::new(&TransportOptions::default()).map_err(|error| Error::Start(error.into()))?;
    let transport = transport.metered(meter.clone());
    let tokens = Arc::new(LiveTokens::new(client.clone()));
    // Sessions of two clusters stay apart in CloudTrail.
    let aws = ecr::Options { session_name: format!("{}-{cluster_id}", aws.session_name), ..aws };
    let session = ecr::Session::load(aws, transport.clone(), meter, Some(tokens)).await;
    let owners = Arc::new(LiveOwners::new(client.clone()));
    let engine =
        Arc::new(Engine::new(session, transport, Some(owners), limits).with_defaults(defaults));
    let instance = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "ecr-sync".to_owned());
    let identity = Identity { cluster_id, instance };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace.as_deref().unwrap_or("all"),
        cluster_id = identity.cluster_id,
        %listen,
        "ecr-sync controller starts"
    );
    let lease = leader_election.map(|election| {
        let namespace = election.namespace.or_else(|| std::env::var("POD_NAMESPACE").ok());
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let name = lease_name(options.namespace.as_deref(), options.label_selector.as_deref());
        let identity = format!(
            "{}_{:016x}",
            identity.instance,
            RandomState::new().hash_one(std::process::id())
        );
        Lease::new(Api::namespaced(client.clone(), &namespace), name, identity)
    });
    health.set_ready();
    let not_ready = {
        let (stop, health) = (stop.clone(), health.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            tracing::info!("told to stop");
            health.set_waiting("stopping");
        })
    };
    let end = match lease {
        None => {
            controller::run(client, engine, metrics, identity, options, stop.clone()).await;
            End::Released
        }
        Some(lease) => tokio::select! {
            () = stop.cancelled() => End::Released,
            record = lease.acquire() => {
                tracing::info!(lease = lease.name(), "this process leads");
                metrics.leader.set(1);
                let controller = controller::run(client, engine, metrics.clone(), identity, options, stop.clone());
                let end = lead(controller, &lease, record, &stop).await;
                metrics.leader.set(0);
                end
            }
        },
    };
    // The controller's stream ends on a signal only; anything else is a defect that a restart may
    // cure.
    stop.cancel();
    let _ended = tokio::join!(not_ready, server);
    tracing::info!("ecr-sync controller ends");
    if end == End::Lost { Err(Error::LeaseLost) } else { Ok(()) }
}

/// Lets the metrics tell of the files that are in use.
fn watch_files(
    metrics: &Metrics,
    options: &controller::Options,
    aws: &ecr::Options,
    defaults: &Arc<Defaults>,
) {
    let files = &metrics.files;
    options.mirrors.iter().for_each(|mirrors| files.watch("mirrors", mirrors.clone()));
    options.tenancy.file().into_iter().for_each(|tenants| files.watch("tenants", tenants.clone()));
    aws.roles.iter().for_each(|roles| files.watch("roles", roles.clone()));
    files.watch("defaults", defaults.clone());
}

/// Works while the lease is held. It is given back when the work has ended; when it is lost, work
/// ends at once.
async fn lead(
    controller: impl Future<Output = ()>,
    lease: &Lease,
    record: Record,
    stop: &CancellationToken,
) -> End {
    let done = CancellationToken::new();
    let working = async {
        controller.await;
        done.cancel();
    };
    let holding = async {
        let end = lease.hold(record, &done).await;
        if end == End::Lost {
            stop.cancel();
        }
        end
    };
    let ((), end) = tokio::join!(working, holding);
    end
}

/// Operators that watch different things do not wait for each other.
fn lease_name(namespace: Option<&str>, label_selector: Option<&str>) -> String {
    if namespace.is_none() && label_selector.is_none() {
        return "ecr-sync".to_owned();
    }
    let scope = format!("{}/{}", namespace.unwrap_or_default(), label_selector.unwrap_or_default());
    let hash = crate::registry::Digest::sha256_of(scope.as_bytes());
    format!("ecr-sync-{}", hash.hex().chars().take(10).collect::<String>())
}

/// A token that SIGTERM or SIGINT cancels.
fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
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
