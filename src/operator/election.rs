//! Leader election: the controller runs while this process holds the lease, or a shard. Without
//! election, it runs at once.

use std::convert::Infallible;
use std::future::Future;

use k8s_openapi::api::coordination::v1::Lease as Record;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::LeaderElection;
use super::lease::{End, Lease};
use super::server::Health;
use super::shards::Replica;
use crate::controller;
use crate::ecr::Share;
use crate::registry::Digest;
use crate::shard::{Assignment, Layout};
use crate::telemetry::{Kind, Metrics};
use crate::writes::{Leadership, Rights};

/// The part of this process among its replicas.
pub(crate) enum Candidate {
    /// Without election: the process works alone, and is its own leader.
    Alone,
    /// One replica works, and the others wait.
    Leader(Box<Lease>),
    /// Every replica works on its shards.
    Shards(Box<Replica>, Assignment),
}

/// Returns the part of this process among its replicas, and its rights to write.
pub(crate) fn candidate(
    client: &Client,
    election: Option<LeaderElection>,
    options: &controller::Options,
    instance: &str,
) -> (Candidate, Rights) {
    let Some(LeaderElection { namespace, shards }) = election else {
        return (Candidate::Alone, Rights::default());
    };
    let namespace = namespace.or_else(|| std::env::var("POD_NAMESPACE").ok());
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let leases: Api<Record> = Api::namespaced(client.clone(), &namespace);
    let name = name(options.namespace.as_deref(), options.label_selector.as_deref());
    let identity = format!("{instance}_{:016x}", fastrand::u64(..));

    let layout = Layout::of(shards);
    if layout.shards() == 1 {
        let (grant, leadership) = Leadership::elected();
        let lease = Lease::new(leases, name, identity, grant);
        return (Candidate::Leader(Box::new(lease)), leadership.into());
    }
    let (grants, rights) = Rights::elected(layout);
    let assignment = Assignment::new(layout);
    let replica = Replica::new(leases, name, identity, assignment.clone(), grants);
    (Candidate::Shards(Box::new(replica), assignment), rights)
}

/// The name of the lease. Operators that watch different resources do not wait for each other.
fn name(namespace: Option<&str>, label_selector: Option<&str>) -> String {
    if namespace.is_none() && label_selector.is_none() {
        return "ecr-sync".to_owned();
    }
    let scope = format!("{}/{}", namespace.unwrap_or_default(), label_selector.unwrap_or_default());
    let hash = Digest::sha256_of(scope.as_bytes());
    format!("ecr-sync-{}", hash.hex().chars().take(10).collect::<String>())
}

impl Candidate {
    /// Returns the assignment of shards to the controller, if there are shards.
    pub(crate) fn assignment(&self) -> Option<Assignment> {
        match self {
            Self::Alone | Self::Leader(_) => None,
            Self::Shards(_, assignment) => Some(assignment.clone()),
        }
    }

    /// Returns the token that ends the controller, after `stop`.
    pub(crate) fn end_of_work(&self, stop: &CancellationToken) -> CancellationToken {
        match self {
            Self::Alone => stop.clone(),
            Self::Leader(lease) => lease.drained(),
            Self::Shards(replica, _) => replica.drained(),
        }
    }

    /// Runs the controller while this process may work. `share` is set to the part of the shards
    /// that it holds.
    ///
    /// `health` is set to ready when the role of the process is known: a leader still waits for its
    /// first list, which `metrics.watches` knows; a follower is ready to take over.
    pub(crate) async fn run(
        self,
        controller: impl Future<Output = ()>,
        health: &Health,
        metrics: &Metrics,
        share: &Share,
        stop: &CancellationToken,
    ) -> End {
        match self {
            Self::Alone => {
                metrics.watches.expect(Kind::Resources);
                health.set_ready();
                metrics.leads(1, 1);
                controller.await;
                metrics.leads(0, 1);
                End::Released
            }
            Self::Leader(lease) => lead(controller, &lease, health, metrics, stop).await,
            Self::Shards(replica, assignment) => {
                let report = |held: usize| {
                    let shards = assignment.layout().shards();
                    metrics.leads(held, shards);
                    share.set(held.try_into().unwrap_or_default(), shards.into());
                };
                let reporting = report_held(&assignment, report);
                let working = work(controller, *replica, &assignment, health, metrics, stop);
                tokio::select! {
                    () = working => {}
                    never = reporting => match never {},
                }
                report(0);
                End::Released
            }
        }
    }
}

/// Waits for the lease, then runs the controller while the lease is held. The lease is released
/// when the controller has ended; when the lease is lost, the controller is stopped at once.
async fn lead(
    controller: impl Future<Output = ()>,
    lease: &Lease,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> End {
    metrics.leads(0, 1);
    let record = tokio::select! {
        () = stop.cancelled() => return End::Released,
        record = lease.acquire(health) => record,
    };
    metrics.watches.expect(Kind::Resources);
    health.set_ready();
    tracing::info!(lease = lease.name(), "acquired the leader lease");
    metrics.leads(1, 1);

    let done = CancellationToken::new();
    let working = async {
        controller.await;
        done.cancel();
    };
    let holding = async {
        let end = lease.hold(record, &done, stop, &metrics.liveness).await;
        if end == End::Lost {
            stop.cancel();
        }
        end
    };
    let draining = async {
        tokio::select! {
            () = lease.drain(stop) => {}
            () = done.cancelled() => {}
        }
    };
    let ((), end, ()) = tokio::join!(working, holding, draining);

    metrics.leads(0, 1);
    end
}

/// Runs the controller from the first shard on. Its shards are released when it has ended.
async fn work(
    controller: impl Future<Output = ()>,
    replica: Replica,
    assignment: &Assignment,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    let done = CancellationToken::new();
    let working = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = assignment.begun() => {
                metrics.watches.expect(Kind::Resources);
                controller.await;
            }
        }
        done.cancel();
    };
    let holding = replica.run(&done, stop, health, &metrics.liveness);
    tokio::join!(working, holding);
}

/// Reports the number of shards that are assigned to the controller, when it changes.
async fn report_held(assignment: &Assignment, report: impl Fn(usize)) -> Infallible {
    let mut assigned = assignment.assigned();
    loop {
        report(assigned.borrow_and_update().len());
        // The sender is `assignment`.
        let _open = assigned.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_without_election_leads_while_it_works() {
        let metrics = Metrics::new().expect("distinct names");
        let shows = |line: &str| metrics.page().expect("a page").contains(line);
        let working = async {
            assert!(shows("leader_election_master_status{name=\"ecr-sync\"} 1\n"));
            assert!(shows("ecrsync_shards_held 1\n"));
        };

        let end = Candidate::Alone
            .run(
                working,
                &Health::default(),
                &metrics,
                &Share::default(),
                &CancellationToken::new(),
            )
            .await;

        assert_eq!(end, End::Released);
        assert!(shows("leader_election_master_status{name=\"ecr-sync\"} 0\n"));
        assert!(shows("ecrsync_shards_held 0\n"));
        assert!(shows("ecrsync_shards 1\n"));
    }
}
