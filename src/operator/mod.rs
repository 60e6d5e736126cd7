//! Life cycle of the controller process: signals, HTTP server, the wait for the cluster, leader
//! election.

mod egress;
pub(crate) mod election;
mod identity;
mod lease;
pub(crate) mod server;
mod shards;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use kube::{Api, Client, Config};

use crate::controller::{self, Cluster, Process};
use crate::ecr;
use crate::memory_budget::{Limit, mebibytes};
use crate::meter::Meter;
use crate::registry::{Egress, Transport, TransportOptions};
use crate::signals::Signals;
use crate::sync::{Bounds, Defaults, Engine};
use crate::telemetry::{Liveness, Metrics};
use egress::Egresses;
pub(crate) use egress::Options as EgressOptions;
use lease::End;
use server::Health;

/// Settings of the process.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) controller: controller::Options,
    /// ID of this cluster; if absent, the UID of the namespace kube-system.
    pub(crate) cluster_id: Option<String>,
    /// Leader election; without it every process works.
    pub(crate) leader_election: Option<LeaderElection>,
    /// /healthz fails if a pass is due and there is no progress for this time.
    pub(crate) watchdog: Duration,
    /// Address of /metrics, /healthz, /readyz and /schedule.
    pub(crate) listen: SocketAddr,
    /// Addresses and token servers that may be asked.
    pub(crate) egress: EgressOptions,
    /// Bounds of a pass.
    pub(crate) bounds: Bounds,
    /// Memory for documents of sources.
    pub(crate) memory: Limit,
    pub(crate) aws: ecr::Options,
    /// Defaults for what a spec leaves out.
    pub(crate) defaults: Defaults,
}

/// Place and number of the Leases.
#[derive(Clone, Debug)]
pub(crate) struct LeaderElection {
    /// Namespace; that of the pod, or of the kubeconfig's context, when absent.
    pub(crate) namespace: Option<String>,
    /// Number of shards. With one, one replica works.
    pub(crate) shards: u16,
}

/// A process that cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot configure the Kubernetes client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "lost the leader lease, another replica may be leading; exiting to restart as a follower"
    )]
    LeaseLost,
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// Signals, metrics: never seen to fail.
    #[error("cannot start")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn cannot_start(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Start(error.into())
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// A start that fails, and a leader lease that is lost. Nothing else but a signal ends a process
/// that runs.
pub(crate) async fn run(options: Options) -> Result<(), Error> {
    let Options {
        controller: options,
        cluster_id,
        leader_election,
        watchdog,
        listen,
        egress,
        bounds,
        memory,
        aws,
        defaults,
    } = options;
    let stop = Signals::new().map_err(cannot_start)?.into_token();
    let metrics = Metrics::new().map_err(cannot_start)?;
    let defaults = Arc::new(defaults);
    watch_files(&metrics, &options, &aws, &defaults);

    let health = Health::default();
    tokio::spawn(beat(metrics.liveness.clone()));
    let (_, server) =
        server::start(listen, metrics.clone(), health.clone(), watchdog, stop.clone())
            .map_err(|source| Error::Listen { address: listen, source })?;

    let config = Config::infer().await.map_err(|error| Error::Client(error.into()))?;
    let egress = Egresses::new(egress, &config).await;
    let client = Client::try_from(config).map_err(|error| Error::Client(error.into()))?;
    let waiting = wait::for_cluster(&client, cluster_id, options.namespace.as_deref(), &health);
    // While the API server answers, the certificates and the AWS configuration are read.
    let (cluster_id, connections) = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        ready = async { tokio::join!(waiting, connections(&aws, egress.own.clone())) } => ready,
    };
    let instance = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "ecr-sync".to_owned());
    let process = Process { cluster_id, instance };
    let (candidate, rights) =
        election::candidate(&client, leader_election, &options, &process.instance);
    let share = aws.share.clone();
    let (transport, sdk) = connections?;
    let connections = (transport.within(memory.budget()), sdk);
    let engine = engine(&client, &process, aws, connections, egress.of_tenants, &metrics, bounds);
    let engine = engine.with_defaults(defaults);
    let engine = Arc::new(engine.with_rights(rights));

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace.as_deref().unwrap_or("all"),
        cluster_id = process.cluster_id,
        %listen,
        memory_budget = mebibytes(memory.total),
        memory_budget_from = %memory.origin,
        "ecr-sync controller starts"
    );
    let checking = tokio::spawn(
        identity::Check {
            engine: engine.clone(),
            resources: match options.namespace.as_deref() {
                Some(namespace) => Api::namespaced(client.clone(), namespace),
                None => Api::all(client.clone()),
            },
            label_selector: options.label_selector.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
        }
        .run(),
    );
    let not_ready = tokio::spawn({
        let (stop, health) = (stop.clone(), health.clone());
        async move {
            stop.cancelled().await;
            tracing::info!("stopping");
            health.set_waiting("stopping");
        }
    });
    let assignment = candidate.assignment();
    let controller = controller::run(
        client,
        engine,
        metrics.clone(),
        process,
        options,
        assignment,
        candidate.end_of_work(&stop),
    );
    let end = candidate.run(controller, &health, &metrics, &share, &stop).await;

    // The controller ends on a signal only. Any other end is a bug that a restart may cure.
    stop.cancel();
    checking.abort();
    let _ended = tokio::join!(not_ready, server);
    tracing::info!("ecr-sync controller ends");
    if end == End::Lost { Err(Error::LeaseLost) } else { Ok(()) }
}

/// Tells that the threads that serve the network are free, once a second.
async fn beat(liveness: Liveness) {
    loop {
        liveness.beat();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Reads the certificates and the AWS configuration.
async fn connections(
    aws: &ecr::Options,
    egress: Arc<Egress>,
) -> Result<(Transport, SdkConfig), Error> {
    // The system's certificates are many files.
    let transport =
        tokio::task::spawn_blocking(move || Transport::new(&TransportOptions::default(), &egress));
    let (transport, sdk) = tokio::join!(transport, ecr::Session::configuration(aws));
    Ok((transport.map_err(cannot_start)?.map_err(cannot_start)?, sdk))
}

fn engine(
    client: &Client,
    process: &Process,
    aws: ecr::Options,
    (transport, sdk): (Transport, SdkConfig),
    egress_of_tenants: Egress,
    metrics: &Metrics,
    bounds: Bounds,
) -> Engine {
    let meter: Arc<dyn Meter> = Arc::new(metrics.requests.clone());
    let transport = transport.metered(meter.clone());

    let cluster = Arc::new(Cluster::new(client.clone()));
    // The ID keeps the sessions of two clusters apart in CloudTrail.
    let session_name = format!("{}-{}", aws.session_name, process.cluster_id);
    let aws = ecr::Options { session_name, ..aws };
    let session = ecr::Session::new(sdk, aws, transport.clone(), meter, Some(cluster.clone()));

    Engine::new(session, transport, egress_of_tenants, Some(cluster), bounds)
}

/// Makes the metrics report whether the files in use can be read.
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
