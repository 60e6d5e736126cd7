//! A process of the operator: leader election and controller over an engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::network::{Line, kube_client};
use super::process::engine;
use super::world::World;
use crate::controller::{self, Cluster, Options, ResourceMetrics};
use crate::ecr::Share;
use crate::operator::election;
use crate::operator::{LeaderElection, server::Health};
use crate::sync::OwnerRules;
use crate::telemetry::Metrics;
use crate::tenancy::Tenancy;

/// The namespace of the Lease.
pub(super) const OPERATOR: &str = "operator";

/// A process of the operator.
pub(super) struct Replica {
    line: Line,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Replica {
    /// Starts the process with this number.
    pub(super) fn start(world: &World, process: u64) -> Self {
        let line = Line::new(process);
        let stop = CancellationToken::new();
        let client = kube_client(world, &line);
        let metrics = Metrics::new().expect("distinct names");
        let instance = format!("p{process}");
        let identity = controller::Process { cluster_id: "cluster".to_owned(), instance };
        let options = options(world);

        let election = LeaderElection { namespace: Some(OPERATOR.to_owned()), shards: 1 };
        let election = world.elects.then_some(election);
        let (candidate, rights) =
            election::candidate(&client, election, &options, &identity.instance);
        let owners = Arc::new(Cluster::new(client.clone()));
        let engine = engine(world, &line, Some(owners));
        let engine = Arc::new(engine.with_rights(rights));

        let stopping = stop.clone();
        let running = tokio::spawn(async move {
            let health = Health::default();
            let working = controller::run(
                client,
                engine,
                metrics.clone(),
                identity,
                options,
                candidate.assignment(),
                candidate.end_of_work(&stopping),
            );
            candidate.run(working, &health, &metrics, &Share::default(), &stopping).await;
        });
        Self { line, stop, running }
    }

    /// Cuts the process off from the API server, or connects it again.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.line.cut_off(is_cut_off);
    }

    /// Whether this process holds the lease.
    pub(super) fn leads(&self, world: &World) -> bool {
        let lease = world.api.get("leases", OPERATOR, "ecr-sync").unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        holder.starts_with(&format!("p{}_", self.line.process))
    }

    /// Ends the process as a crash does: nothing that it still does is seen outside.
    pub(super) fn kill(self) {
        self.line.cut();
        self.stop.cancel();
    }

    /// Asks the process to end, and waits for it.
    ///
    /// # Errors
    /// When it does not end within the time that Kubernetes grants.
    pub(super) async fn stop(self) -> Result<(), String> {
        /// Default of terminationGracePeriodSeconds.
        const GRACE: Duration = Duration::from_secs(30);

        self.stop.cancel();
        match tokio::time::timeout(GRACE, self.running).await {
            Ok(ended) => ended.map_err(|error| format!("the process panicked: {error}")),
            Err(_) => Err("the process does not end in 30 s after it was asked to".to_owned()),
        }
    }

    /// Whether the process has ended by itself, as one that lost the lease does.
    pub(super) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

fn options(world: &World) -> Options {
    Options {
        namespace: None,
        label_selector: None,
        watch_secrets: false,
        registry_config: None,
        mirrors: None,
        public_ecr_login: false,
        owners: OwnerRules::default(),
        adoption: world.adoptable.iter().map(|&name| name.to_owned()).collect(),
        tenancy: Tenancy::default(),
        dry_run: false,
        max_jobs: 3,
        max_timeout: Duration::from_secs(30 * 60),
        concurrency: 8,
        resource_metrics: ResourceMetrics::default(),
        startup_spread: Duration::ZERO,
    }
}
