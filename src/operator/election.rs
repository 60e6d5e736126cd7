//! Leader election: the controller runs while this process holds the lease. Without election, it
//! runs at once.

use std::future::Future;

use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::LeaderElection;
use super::lease::{End, Lease};
use super::server::Health;
use crate::controller;
use crate::registry::Digest;
use crate::telemetry::{Kind, Metrics};
use crate::writes::Leadership;

/// The lease that this process competes for, and its right to write.
pub(crate) fn lease(
    client: &Client,
    election: LeaderElection,
    options: &controller::Options,
    instance: &str,
) -> (Lease, Leadership) {
    let namespace = election.namespace.or_else(|| std::env::var("POD_NAMESPACE").ok());
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let name = name(options.namespace.as_deref(), options.label_selector.as_deref());
    let identity = format!("{instance}_{:016x}", fastrand::u64(..));
    let (grant, leadership) = Leadership::elected();
    let leases = Api::namespaced(client.clone(), &namespace);
    (Lease::new(leases, name, identity, grant), leadership)
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

/// Waits for the lease, then runs the controller while the lease is held. The lease is released
/// when the controller has ended; when the lease is lost, the controller is stopped at once.
/// Without a lease, this process works alone, and is its own leader.
///
/// `health` is set to ready when the role of the process is known: a leader still waits for its
/// first list, which `metrics.watches` knows; a follower is ready to take over.
pub(crate) async fn run(
    controller: impl Future<Output = ()>,
    lease: Option<&Lease>,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> End {
    let Some(lease) = lease else {
        metrics.watches.expect(Kind::Resources);
        health.set_ready();
        metrics.leader.set(1);
        controller.await;
        metrics.leader.set(0);
        return End::Released;
    };

    let record = tokio::select! {
        () = stop.cancelled() => return End::Released,
        record = lease.acquire(health) => record,
    };
    metrics.watches.expect(Kind::Resources);
    health.set_ready();
    tracing::info!(lease = lease.name(), "acquired the leader lease");
    metrics.leader.set(1);

    let done = CancellationToken::new();
    let working = async {
        controller.await;
        done.cancel();
    };
    let holding = async {
        let end = lease.hold(record, &done, &metrics.liveness).await;
        if end == End::Lost {
            stop.cancel();
        }
        end
    };
    let ((), end) = tokio::join!(working, holding);

    metrics.leader.set(0);
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_without_election_leads_while_it_works() {
        let metrics = Metrics::new().expect("distinct names");
        let working = async { assert_eq!(metrics.leader.get(), 1) };

        let end = run(working, None, &Health::default(), &metrics, &CancellationToken::new()).await;

        assert_eq!(end, End::Released);
        assert_eq!(metrics.leader.get(), 0);
    }
}
