//! Several replicas with shards: fair shares, moves, and one writer for each repository.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::tools::workspace;
use testbed::traffic::Record;

use crate::support::{Operator, Rig, eventually};

const REPOSITORIES: usize = 12;

/// A rig whose operators may list and delete Leases.
async fn rig(name: &str) -> Rig {
    let rig = Rig::new(name).await;
    let rbac = std::fs::read_to_string(workspace().join("deploy/rbac-shards.yaml")).expect("RBAC");
    Cluster::shared().await.apply(&rbac).await.expect("the API server takes the RBAC");
    rig
}

async fn replica(rig: &Rig, shards: u16) -> Operator {
    rig.operator_with(&[&format!("--shards={shards}")], &[("LOG_FORMAT", "json")]).await
}

/// The value of a gauge of an operator; 0 while its port is closed.
async fn gauge(operator: &Operator, name: &str) -> usize {
    let page = operator.get("/metrics").await.map(|(_, page)| page).unwrap_or_default();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_default()
}

async fn shares(operators: &[&Operator]) -> Vec<usize> {
    let held = operators.iter().map(|operator| gauge(operator, "ecrsync_shards_held"));
    let mut shares = futures::future::join_all(held).await;
    shares.sort_unstable();
    shares
}

/// Waits until the operators have these numbers of shards, the least first. Returns the time.
async fn settled(operators: &[&Operator], expected: &[usize]) -> Duration {
    let began = Instant::now();
    eventually(&format!("shares of {expected:?}"), async || shares(operators).await == expected)
        .await;
    began.elapsed()
}

/// Requests a pass of every resource, and waits for all of them: every shard is worked on.
async fn all_answer(rig: &Rig, value: &str) {
    let names: Vec<_> = (0..REPOSITORIES).map(|number| format!("app-{number}")).collect();
    let answers = names.iter().map(|name| rig.request(name, value));
    futures::future::join_all(answers).await;
}

/// The lines of the audit trail in a log, by repository.
fn writes(operator: &Operator) -> BTreeMap<String, Vec<Value>> {
    let log = operator.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut writes = BTreeMap::<_, Vec<_>>::new();
    for line in lines.filter(|line| line["target"] == "ecr_sync::audit") {
        let repository = line["repository"].as_str().unwrap_or_default().to_owned();
        writes.entry(repository).or_default().push(line);
    }
    writes
}

#[tokio::test]
async fn replicas_share_the_shards_and_take_over_those_of_others_within_seconds() {
    let rig = rig("shards-move").await;
    let first = replica(&rig, 6).await;
    settled(&[&first], &[6]).await;
    let second = replica(&rig, 6).await;
    let took = settled(&[&first, &second], &[3, 3]).await;
    println!("a second replica has its share after {took:?}");

    for number in 0..REPOSITORIES {
        let image = rig.image("library/demo", &["1.26", "1.27"]);
        rig.apply(&format!("app-{number}"), json!({"image": image})).await;
    }
    for number in 0..REPOSITORIES {
        rig.wait_synced(&format!("app-{number}")).await;
    }
    let (of_first, of_second) = (writes(&first), writes(&second));
    assert!(!of_first.is_empty() && !of_second.is_empty(), "both replicas work");
    assert_eq!(of_first.len() + of_second.len(), REPOSITORIES, "no repository has two writers");

    let third = replica(&rig, 6).await;
    let took = settled(&[&first, &second, &third], &[2, 2, 2]).await;
    println!("a third replica has its share after {took:?}");
    all_answer(&rig, "three").await;

    let stopping = Instant::now();
    assert_eq!(first.terminate().await, 0);
    settled(&[&second, &third], &[3, 3]).await;
    let took = stopping.elapsed();
    println!("the shards of a stopped replica were taken over after {took:?}");
    assert!(took < Duration::from_secs(5), "3 s, and a busy machine: {took:?}");
    all_answer(&rig, "two").await;

    second.kill().await;
    let took = settled(&[&third], &[6]).await;
    println!("the shards of a killed replica were taken over after {took:?}");
    assert!(took < Duration::from_secs(15), "12 s, and a busy machine: {took:?}");
    all_answer(&rig, "one").await;

    for number in 0..REPOSITORIES {
        rig.apply(&format!("app-{number}"), json!({
            "image": rig.image("library/demo", &["1.26", "1.27"]), "resourceTags": {"team": "a"},
        }))
        .await;
    }
    for number in 0..REPOSITORIES {
        rig.wait_synced(&format!("app-{number}")).await;
        let repository = format!("app-{number}");
        let count = |operation: &str| {
            let is_tag = |request: &Record| !request.path.contains("sha256:");
            rig.ecr.count(|request| {
                request.operation == operation
                    && request.repository == repository
                    && is_tag(request)
            })
        };
        assert_eq!(count("CreateRepository"), 1, "{repository}");
        assert_eq!(count("PutManifest"), 2, "{repository}: each tag was written once");
    }
    assert_eq!(writes(&third).len(), REPOSITORIES, "the last replica has written to all");
    assert_eq!(third.terminate().await, 0);
}

#[tokio::test]
async fn replicas_with_another_number_of_shards_wait_until_the_former_ones_have_left() {
    let rig = rig("shards-layout").await;
    let (one, two) = (replica(&rig, 2).await, replica(&rig, 2).await);
    settled(&[&one, &two], &[1, 1]).await;
    let three = replica(&rig, 3).await;
    let alone = rig.operator().await;
    assert_eq!(gauge(&three, "ecrsync_shards").await, 3);

    assert_eq!(one.terminate().await, 0);
    settled(&[&two], &[2]).await;
    rig.apply("app-0", json!({})).await;
    rig.wait_synced("app-0").await;
    assert_eq!(shares(&[&three, &alone]).await, [0, 0], "one replica of the former layout is left");
    assert!(writes(&two).contains_key("app-0"));

    // Now the one without shards competes with the one for three.
    assert_eq!(alone.terminate().await, 0);
    assert_eq!(two.terminate().await, 0);
    let took = settled(&[&three], &[3]).await;
    println!("the next layout works after {took:?}");
    let alone = rig.operator().await;
    rig.request("app-0", "three").await;
    assert_eq!(shares(&[&alone]).await, [0]);

    assert_eq!(three.terminate().await, 0);
    settled(&[&alone], &[1]).await;
    rig.request("app-0", "alone").await;
}
