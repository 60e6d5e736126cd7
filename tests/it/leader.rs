//! Several replicas: one works, and another takes over when it stops, dies, or loses its Lease.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{Operator, Rig, condition, eventually};

async fn leads(operator: &Operator) -> bool {
    let page = operator.get("/metrics").await.map(|(_, page)| page).unwrap_or_default();
    page.contains("leader_election_master_status{name=\"ecr-sync\"} 1")
}

#[tokio::test]
async fn a_follower_waits_ready_and_takes_over_after_a_clean_stop() {
    let rig = Rig::new("leader-clean").await;
    let first = rig.operator().await;
    eventually("leading", async || leads(&first).await).await;
    let second = rig.operator().await;
    assert_eq!(
        second.get("/readyz").await.expect("ready").0,
        200,
        "a follower is ready to take over"
    );
    rig.apply("app", json!({})).await;
    rig.wait_synced("app").await;
    assert!(!leads(&second).await);
    assert_eq!(first.terminate().await, 0);
    let released = std::time::Instant::now();
    eventually("taken over", async || leads(&second).await).await;
    // Before the lease expires, which takes 9 s.
    assert!(released.elapsed().as_secs() < 5, "{:?}", released.elapsed());
    rig.apply("other", json!({})).await;
    rig.wait_synced("other").await;
}

#[tokio::test]
async fn a_process_that_works_without_election_counts_as_the_leader() {
    let rig = Rig::new("leader-alone").await;
    let operator = rig.operator_with(&["--leader-election=false"], &[]).await;
    eventually("leading", async || leads(&operator).await).await;
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn a_follower_takes_over_when_the_leader_dies() {
    let rig = Rig::new("leader-killed").await;
    let first = rig.operator().await;
    eventually("leading", async || leads(&first).await).await;
    let second = rig.operator().await;
    first.kill().await;
    let killed = std::time::Instant::now();
    rig.apply("app", json!({})).await;
    eventually("taken over", async || leads(&second).await).await;
    // The term of 9 s, and a busy machine.
    assert!(killed.elapsed().as_secs() < 12, "{:?}", killed.elapsed());
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_stops_at_once() {
    let rig = Rig::new("leader-lost").await;
    let operator = rig.operator().await;
    eventually("leading", async || leads(&operator).await).await;
    rig.apply("app", json!({})).await;
    rig.wait_synced("app").await;
    let leases: Api<Lease> = Api::namespaced(rig.client.clone(), "ecr-sync-system");
    let log = operator.log();
    let name = log
        .split("acquired the leader lease lease=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("logged");
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "somebody-else"}}));
    leases.patch(name, &PatchParams::default(), &taken).await.expect("taken");
    assert_eq!(operator.exit_code().await, 1, "{}", operator.log());
    assert!(operator.log().contains("another process holds the lease"), "{}", operator.log());
    rig.apply("late", json!({})).await;
    let late = rig.resources().get("late").await.expect("it is there");
    assert_eq!(condition(&late, "Ready"), None);
}
