//! Resources that cannot be decoded: they are reported, and do not affect the others.
//!
//! The schema refuses some of them. Those are older than the schema: created while another one was
//! installed.

use std::process::Command;
use std::time::Duration;

use ecr_sync::api::v1alpha1::crd;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::process::{Process, free_port};

use crate::support::{Operator, Rig, condition, eventually};

/// A permission policy that is nested this deep below `Statement`, as text: our own JSON parser
/// would refuse it.
fn deep(name: &str, namespace: &str, depth: usize) -> String {
    let statement = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let object = json!({"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"permissionPolicy": {"Statement": "DEEP"}}});
    object.to_string().replace("\"DEEP\"", &statement)
}

/// The value of a series on a page of metrics.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn undecodable(operator: &Operator) -> Option<f64> {
    let (_, page) = operator.get("/metrics").await?;
    value(&page, "ecrsync_undecodable_resources")
}

#[tokio::test]
async fn deep_resources_do_not_affect_the_others() {
    let rig = Rig::new("deep").await;
    let file = rig.folder().join("deep.json");
    let create = async |text: String| {
        std::fs::write(&file, text).expect("a file");
        rig.kubectl(&["create", "-f", &file.display().to_string()]).await;
    };

    for (name, depth) in [("deep-125", 125), ("deep-1000", 1_000), ("deep-20", 20)] {
        create(deep(name, &rig.namespace, depth)).await;
    }
    for name in ["good-1", "good-2"] {
        rig.apply(name, json!({"image": rig.image("library/demo", &["1.26"])})).await;
    }

    // The list has them, and then the watch.
    let operator = rig.operator().await;
    for name in ["good-1", "good-2"] {
        rig.wait_synced(name).await;
    }
    create(deep("deep-late", &rig.namespace, 1_000)).await;
    rig.apply("good-3", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("good-3").await;

    eventually("counted", async || undecodable(&operator).await == Some(3.0)).await;
    let log = operator.log();
    for name in ["deep-125", "deep-1000", "deep-late"] {
        let lines = log.lines().filter(|line| {
            line.contains("cannot be decoded and is not synced") && line.contains(name)
        });
        assert_eq!(lines.count(), 1, "{name}: {log}");
    }
    assert!(!log.contains(r#"{"a":{"a":"#), "the log quotes an object: {log}");

    // The resource says so itself, and it is repaired like any other.
    for name in ["deep-125", "deep-late"] {
        let arguments = ["get", "ers", name, "-n", &rig.namespace, "-o"];
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')]}";
        eventually("reported", async || {
            let ready = rig.kubectl(&[&arguments[..], &[ready]].concat()).await;
            ready.contains("InvalidSpec") && ready.contains("cannot be decoded")
        })
        .await;
    }
    let events = rig.told("InvalidSpec").await;
    assert!(events.iter().all(|event| event.0 == "Warning"), "{events:?}");
    let shallow = rig.wait_ready("deep-20", "False", "InvalidSpec").await;
    let (_, _, message) = condition(&shallow, "Ready").expect("set");
    let path = format!("permissionPolicy.Statement{}", ".a".repeat(15));
    assert!(message.contains(&format!("{path}: nested more than 16 levels")), "{message}");

    rig.kubectl(&["delete", "ers", "deep-late", "deep-1000", "-n", &rig.namespace]).await;
    let patch = r#"{"spec": {"permissionPolicy": null}}"#;
    let repair = ["patch", "ers", "deep-125", "-n", &rig.namespace, "--type=merge", "-p", patch];
    rig.kubectl(&repair).await;
    rig.wait_synced("deep-125").await;
    eventually("no longer counted", async || undecodable(&operator).await == Some(0.0)).await;
    assert_eq!(operator.get("/readyz").await.expect("served"), (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn a_resource_that_becomes_undecodable_stops() {
    let rig = Rig::new("becomes-deep").await;
    let operator = rig.operator().await;
    let fault = testbed::traffic::Fault::new(
        testbed::traffic::Match::operation("GetBlob"),
        testbed::traffic::Then::StallAfter(10),
    );
    rig.source.faults().add(fault);
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    let copying = async || rig.source.under_way(|request| request.operation == "GetBlob") > 0;
    eventually("copying", copying).await;

    let file = rig.folder().join("deep.json");
    std::fs::write(&file, deep("app", &rig.namespace, 500)).expect("a file");
    rig.kubectl(&["replace", "-f", &file.display().to_string()]).await;

    eventually("cancelled", async || !copying().await).await;
    let (_, page) = operator.get("/metrics").await.expect("served");
    assert!(!page.contains("ecrsync_resources{"), "{page}");
    rig.kubectl(&["delete", "ers", "app", "-n", &rig.namespace]).await;
    eventually("forgotten", async || undecodable(&operator).await == Some(0.0)).await;
}

#[tokio::test]
async fn a_resource_that_is_older_than_the_schema_does_not_affect_the_others() {
    let rig = Rig::new("older").await;
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(folder.path()).await.expect("a cluster of its own");
    let mut lax = serde_json::to_value(crd()).expect("JSON");
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    lax["spec"]["versions"][0]["selectableFields"] = json!([]);
    cluster.apply(&lax.to_string()).await.expect("a lax CRD");
    let crd_name = "crd/ecrrepositorysyncs.ecr-sync.io";
    let established = ["wait", "--for=condition=Established", crd_name, "--timeout=60s"];
    cluster.kubectl(&established).await.expect("established");
    cluster.create_namespace("lax").await.expect("a namespace");

    let object = |name: &str, spec: Value| {
        json!({"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
               "metadata": {"name": name, "namespace": "lax"}, "spec": spec})
        .to_string()
    };
    for object in [
        object("wrong", json!({"image": "hunter2"})),
        object("good", json!({"image": rig.image("library/demo", &["1.26"])})),
        deep("deep", "lax", 1_000),
    ] {
        cluster.apply(&object).await.expect("taken");
    }
    let strict = ecr_sync::api::v1alpha1::crd_yaml().expect("the CRD serialises");
    cluster.apply(&strict).await.expect("our CRD");

    let listen = format!("127.0.0.1:{}", free_port().expect("a port"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    command
        .args(["controller", "--namespace", "lax", "--listen", &listen])
        .env_clear()
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("ALLOW_PRIVATE_SOURCES", "127.0.0.0/8")
        .envs(rig.aws_environment());
    let operator = Process::spawn("ecr-sync", &command, &folder.path().join("operator.log"))
        .expect("it starts");

    let wait = ["wait", "--for=condition=Ready", "ers/good", "-n", "lax", "--timeout=60s"];
    cluster.kubectl(&wait).await.expect("the good one is synced");
    for name in ["wrong", "deep"] {
        eventually("reported", async || {
            let events = ["get", "events", "-n", "lax", "--field-selector", "reason=InvalidSpec"];
            cluster.kubectl(&events).await.is_ok_and(|events| events.contains(name))
        })
        .await;
        let log = operator.tail(usize::MAX);
        let told = log.lines().any(|line| {
            line.contains("cannot be decoded and is not synced") && line.contains(name)
        });
        assert!(told, "{name}: {log}");
    }

    let log = operator.tail(usize::MAX);
    assert!(!log.contains("hunter2"), "the log quotes an object: {log}");
    operator.signal("TERM");
    assert_eq!(operator.wait(Duration::from_secs(10)).await.expect("it ends"), 0);
}
