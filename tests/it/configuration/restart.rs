//! Cost of the first pass after a restart, and trust in the status that an earlier process wrote.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::traffic::Mark;

use super::drift::{calls, configured, counted, meddle, writes};
use crate::support::raw::{self, digest};
use crate::support::{ACCOUNT, Operator, REGION, Rig, eventually};

/// Starts the operator and waits for its first pass. Returns ECR's calls of that pass.
async fn first_pass(rig: &Rig) -> (Operator, Mark, Vec<String>) {
    let mark = rig.ecr.mark();
    let operator = rig.operator().await;
    eventually("a pass", async || counted(&operator, "ecrsync_syncs_total").await > 0.0).await;
    let calls = calls(rig, mark);
    (operator, mark, calls)
}

/// Changes the status as somebody with too many rights might.
async fn edit_status(rig: &Rig, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    let resources = rig.resources();
    resources.patch_status("app", &PatchParams::default(), &patch).await.expect("patched");
}

/// Returns the time of the last drift check in the status, in seconds.
async fn checked_at(rig: &Rig) -> i64 {
    let object = rig.resources().get("app").await.expect("it is there");
    let check = object.status.and_then(|status| status.drift_check).expect("recorded");
    check.time.0.as_second()
}

fn at(second: i64) -> Value {
    let time = k8s_openapi::jiff::Timestamp::from_second(second).expect("in range");
    json!({"driftCheck": {"time": time.to_string()}})
}

fn spec(rig: &Rig) -> Value {
    let mut spec = configured();
    spec["image"] = rig.image("library/demo", &["1.26", "1.27"]);
    spec
}

#[tokio::test]
async fn the_first_pass_after_a_restart_costs_one_call_and_no_status_write() {
    let rig = Rig::new("restart-brief").await;
    let operator = rig.operator().await;
    rig.apply("app", spec(&rig)).await;
    let version = rig.wait_synced("app").await.metadata.resource_version;
    assert_eq!(operator.terminate().await, 0);

    let (operator, mark, calls) = first_pass(&rig).await;
    assert_eq!(calls, ["DescribeImages"]);
    assert_eq!(writes(&rig, mark), [""; 0]);
    let object = rig.resources().get("app").await.expect("it is there");
    assert_eq!(object.metadata.resource_version, version);
    assert_eq!(operator.terminate().await, 0);

    // Another cluster ID means another owner tag, which has to be compared.
    let _operator = rig.operator_with(&["--cluster-id=new"], &[]).await;
    rig.wait_ready("app", "False", "RepositoryNotOwned").await;
}

#[tokio::test]
async fn a_record_that_is_old_or_from_the_future_or_of_another_repository_is_not_trusted() {
    let rig = Rig::new("restart-untrusted").await;
    let operator = rig.operator().await;
    rig.apply("app", spec(&rig)).await;
    let object = rig.wait_synced("app").await;
    let uri = object.status.and_then(|status| status.repository).expect("recorded").uri;
    assert_eq!(operator.terminate().await, 0);
    let now = checked_at(&rig).await;

    let hostile = json!({"repository": {"uri": "registry.example.com/other"}});
    for (what, status) in [
        ("too old", at(now - 7 * 3600)),
        ("from the future", at(now + 3600)),
        ("another repository", hostile),
        ("none", json!({"driftCheck": null})),
    ] {
        edit_status(&rig, status).await;
        let (operator, _, calls) = first_pass(&rig).await;
        assert!(calls.iter().any(|call| call == "GetLifecyclePolicy"), "{what}: {calls:?}");
        assert_eq!(operator.terminate().await, 0);
        let age = checked_at(&rig).await - now;
        assert!((0..600).contains(&age), "{what}: recorded again, {age} s later");
    }
    let object = rig.resources().get("app").await.expect("it is there");
    let status = object.status.and_then(|status| status.repository).expect("recorded");
    assert_eq!(status.uri, uri, "put right");
}

#[tokio::test]
async fn drift_is_corrected_after_a_restart_when_the_interval_since_the_last_check_is_over() {
    let rig = Rig::new("restart-drift").await;
    let operator = rig.operator().await;
    rig.apply("app", spec(&rig)).await;
    rig.wait_synced("app").await;
    let before = rig.repository("app");
    assert_eq!(operator.terminate().await, 0);
    meddle(&rig);
    let now = checked_at(&rig).await;

    let (operator, mark, calls) = first_pass(&rig).await;
    assert_eq!((calls, writes(&rig, mark)), (vec!["DescribeImages".to_owned()], Vec::new()));
    assert_eq!(operator.terminate().await, 0);

    edit_status(&rig, at(now - 7 * 3600)).await;
    let (_operator, _, _) = first_pass(&rig).await;
    assert_eq!(rig.repository("app").lifecycle_policy, before.lifecycle_policy);
    assert!(rig.ecr.repository(ACCOUNT, REGION, "app").is_some_and(|view| view.scan_on_push));
}

#[tokio::test]
async fn a_signature_is_copied_to_the_repository_that_ecr_describes_whatever_the_status_says() {
    let rig = Rig::new("restart-signed").await;
    let source = raw::Repository::new(rig.sources.open.host(), "restart/signed");
    let image = source.image_as("restart-signed", Some("1")).await;
    let operator = rig.operator().await;
    let mut spec = json!({"image": rig.image("restart/signed", &["1"])});
    spec["image"]["referrers"] = "All".into();
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    assert_eq!(operator.terminate().await, 0);

    let signature = source.signature(&image, "restart-signature", None).await;
    source.index(&[&signature], Some(&digest(&image).replace(':', "-"))).await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    other.set_nonblocking(true).expect("non-blocking");
    let uri = format!("{}/app", other.local_addr().expect("an address"));
    edit_status(&rig, json!({"repository": {"uri": uri}})).await;

    let (_operator, _, calls) = first_pass(&rig).await;
    assert!(rig.repository("app").images.contains_key(digest(&signature)), "{calls:?}");
    assert!(calls.iter().any(|call| call == "ListTagsForResource"), "{calls:?}");
    assert!(other.accept().is_err(), "nobody connects to the address in the status");
}
