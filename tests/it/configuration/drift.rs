//! Cost of a pass without changes, and handling of changes by others.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::traffic::{Mark, Plane};

use crate::support::corpus::Maker;
use crate::support::policies::{keep, pull};
use crate::support::{ACCOUNT, Operator, REGION, Rig, condition, docker_secret, eventually};

/// A spec with every field that can drift.
pub(super) fn configured() -> Value {
    json!({
        "lifecyclePolicy": keep(200_000), "permissionPolicy": pull("210987654321"),
        "resourceTags": {"team": "platform"},
        "imageTagMutability": "Mutable", "scanOnPush": true,
    })
}

/// ECR's calls since `mark`, in the order of their names.
pub(super) fn calls(rig: &Rig, mark: Mark) -> Vec<String> {
    let control =
        rig.ecr.log_since(mark).into_iter().filter(|request| request.plane == Plane::Control);
    let mut calls: Vec<_> = control.map(|request| request.operation).collect();
    calls.retain(|operation| {
        !matches!(operation.as_str(), "GetAuthorizationToken" | "GetCallerIdentity")
    });
    calls.sort();
    calls
}

pub(super) fn writes(rig: &Rig, mark: Mark) -> Vec<String> {
    rig.ecr.log_since(mark).into_iter().filter(|r| r.is_write()).map(|r| r.operation).collect()
}

/// The sum of a counter's series on the operator's page.
pub(super) async fn counted(operator: &Operator, name: &str) -> f64 {
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    let series = page.lines().filter(|line| line.starts_with(name));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Makes the operator check a resource that uses the Secret `login`, as it does after the interval,
/// and waits until it has done so.
async fn periodic_pass(rig: &Rig, operator: &Operator, number: u32) {
    let passes = counted(operator, "ecrsync_syncs_total").await;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let touched = Patch::Merge(json!({"metadata": {"labels": {"pass": number.to_string()}}}));
    secrets.patch("login", &PatchParams::default(), &touched).await.expect("touched");
    eventually("looked at", async || counted(operator, "ecrsync_syncs_total").await > passes).await;
}

async fn create_login(rig: &Rig) {
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = docker_secret(&rig.source.host(), "any", "any");
    secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
}

#[tokio::test]
async fn a_pass_that_finds_all_in_order_costs_one_call_per_hundred_tags_whatever_the_repository_holds()
 {
    let rig = Rig::new("drift-no-op").await;
    let operator = rig.operator_with(&["--put-image-rate=1000"], &[]).await;
    create_login(&rig).await;
    let tags = Maker::new(rig.sources.open.host()).tags_that_share("drift/many", 120, 1).await;
    let spec = |more: &[&str]| {
        let tags: Vec<_> = tags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let mut spec = configured();
        spec["image"] = rig.image("drift/many", &tags);
        spec["image"]["secretRef"] = json!({"name": "login"});
        spec
    };
    rig.apply("app", spec(&[])).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.fill(ACCOUNT, REGION, "app", &tags[0], 100_000));

    let mark = rig.ecr.mark();
    periodic_pass(&rig, &operator, 1).await;
    assert_eq!(calls(&rig, mark), ["DescribeImages"; 2], "120 tags are two batches");
    let mark = rig.ecr.mark();
    rig.request("app", "asked").await;
    assert_eq!(calls(&rig, mark), ["DescribeImages"; 2], "on demand, too");

    // Three tags that the source does not have: the pass fails, and reads nothing else.
    rig.apply("app", spec(&["gone-1", "gone-2", "gone-3"])).await;
    rig.wait_ready("app", "False", "PartiallySynced").await;
    let mark = rig.ecr.mark();
    periodic_pass(&rig, &operator, 2).await;
    assert_eq!(calls(&rig, mark), ["DescribeImages"; 2], "what is missing for good costs nothing");

    // Forced, everything is read and nothing is written.
    let mark = rig.ecr.mark();
    rig.force("app", "now").await;
    let calls = calls(&rig, mark);
    for once in
        ["DescribeRepositories", "GetLifecyclePolicy", "GetRepositoryPolicy", "ListTagsForResource"]
    {
        assert_eq!(
            calls.iter().filter(|operation| *operation == once).count(),
            1,
            "{once} in {calls:?}"
        );
    }
    assert_eq!(writes(&rig, mark), [""; 0]);
}

#[tokio::test]
async fn a_deleted_repository_is_noticed_with_one_call_and_created_again() {
    let rig = Rig::new("drift-recreate").await;
    let operator = rig.operator().await;
    create_login(&rig).await;
    let mut spec = configured();
    spec["image"] = rig.image("library/demo", &["1.26"]);
    spec["image"]["secretRef"] = json!({"name": "login"});
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.delete_repository(ACCOUNT, REGION, "app"));
    let mark = rig.ecr.mark();
    periodic_pass(&rig, &operator, 1).await;
    let calls = calls(&rig, mark);
    assert_eq!(
        calls.iter().filter(|operation| *operation == "DescribeImages").count(),
        1,
        "it told all: {calls:?}"
    );
    assert_eq!(
        calls.iter().filter(|operation| *operation == "CreateRepository").count(),
        1,
        "{calls:?}"
    );
    assert_eq!(rig.repository("app").tags.len(), 1);
}

/// Changes every field behind the operator's back.
pub(super) fn meddle(rig: &Rig) {
    assert!(rig.ecr.set_lifecycle_policy(ACCOUNT, REGION, "app", Some(&keep(3))));
    assert!(rig.ecr.set_policy(ACCOUNT, REGION, "app", None));
    assert!(rig.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]));
    assert!(rig.ecr.set_scan_on_push(ACCOUNT, REGION, "app", false));
    let mut tags = rig.repository("app").resource_tags;
    tags.insert("team".to_owned(), "theirs".to_owned());
    assert!(rig.ecr.set_resource_tags(ACCOUNT, REGION, "app", tags));
}

const FIELDS: [&str; 5] =
    ["lifecyclePolicy", "permissionPolicy", "imageTagMutability", "scanOnPush", "resourceTags"];

#[tokio::test]
async fn every_field_that_somebody_changed_is_named_and_put_right() {
    let rig = Rig::new("drift-correct").await;
    let operator = rig.operator().await;
    rig.apply("app", configured()).await;
    rig.wait_synced("app").await;
    let before = rig.repository("app");
    meddle(&rig);
    rig.force("app", "now").await;
    let after = rig.repository("app");
    assert_eq!(after.lifecycle_policy, before.lifecycle_policy);
    assert_eq!(after.policy, before.policy);
    assert_eq!(after.resource_tags, before.resource_tags);
    assert_eq!((after.mutability.as_str(), after.scan_on_push), ("MUTABLE", true));
    let told = rig.told("DriftDetected").await;
    assert_eq!(told.len(), 1, "{told:?}");
    for field in FIELDS {
        assert!(told[0].2.contains(field), "{field} is not in {told:?}");
        for metric in ["detected", "corrected"] {
            let series = format!("ecrsync_drift_{metric}_total{{field=\"{field}\"}}");
            assert!((counted(&operator, &series).await - 1.0).abs() < 0.1, "{series}");
        }
    }
    let mark = rig.ecr.mark();
    rig.force("app", "again").await;
    assert_eq!(writes(&rig, mark), [""; 0]);
}

#[tokio::test]
async fn drift_is_only_reported_if_the_spec_says_so() {
    let rig = Rig::new("drift-report").await;
    let operator = rig.operator().await;
    let mut spec = configured();
    spec["driftPolicy"] = "Report".into();
    rig.apply("app", spec.clone()).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(
        condition(&object, "ConfigurationSynced").map(|c| c.0),
        Some("True"),
        "the spec itself is carried out"
    );
    meddle(&rig);
    let mark = rig.ecr.mark();
    let object = rig.force("app", "now").await;
    assert_eq!(writes(&rig, mark), [""; 0]);
    assert_eq!(condition(&object, "Ready").map(|c| c.0), Some("True"));
    let (status, reason, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert_eq!((status, reason), ("False", "DriftDetected"));
    for field in FIELDS {
        assert!(message.contains(field), "{field} is not in {message}");
        let series = format!("ecrsync_drift_detected_total{{field=\"{field}\"}}");
        assert!((counted(&operator, &series).await - 1.0).abs() < 0.1, "{series}");
    }
    assert!(
        message.contains("lifecyclePolicy rules[0].selection.countNumber: is 3, not 200000"),
        "{message}"
    );
    // Reported once, also across a restart; and corrected when the spec says so.
    rig.force("app", "again").await;
    assert_eq!(rig.told("DriftDetected").await.len(), 1);
    assert_eq!(operator.terminate().await, 0);
    let operator = rig.operator().await;
    rig.request("app", "restarted").await;
    assert_eq!(writes(&rig, mark), [""; 0]);
    drop(operator);
    let _operator = rig.operator().await;
    spec["driftPolicy"] = "Correct".into();
    rig.apply("app", spec).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(condition(&object, "ConfigurationSynced").map(|c| c.0), Some("True"));
    assert!(rig.repository("app").scan_on_push);
}

#[tokio::test]
async fn a_policy_that_is_rewritten_each_time_is_written_twice() {
    let rig = Rig::new("drift-rewritten").await;
    let _operator = rig.operator().await;
    rig.ecr.create_repository(ACCOUNT, REGION, "app", std::collections::BTreeMap::new());
    assert!(rig.ecr.rewrite_policies(ACCOUNT, REGION, "app"));
    let puts = || {
        let of = |name: &'static str| rig.ecr.count(move |request| request.operation == name);
        (of("PutLifecyclePolicy"), of("SetRepositoryPolicy"))
    };
    rig.apply("app", configured()).await;
    let object = rig.wait_synced("app").await;
    let (_, reason, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert_eq!(reason, "DriftDetected", "ECR's answer tells at once");
    assert!(
        message.contains(
            "lifecyclePolicy rules[0].description: \"rewritten\" exists in ECR but is not wanted"
        ),
        "{message}"
    );
    assert_eq!(puts(), (1, 1));
    for (request, expected) in [("first", (2, 2)), ("second", (2, 2)), ("third", (2, 2))] {
        let object = rig.force("app", request).await;
        assert_eq!(puts(), expected, "{request}");
        let (_, reason, message) = condition(&object, "ConfigurationSynced").expect("set");
        assert_eq!(reason, "DriftDetected");
        assert!(message.contains("permissionPolicy Statement[0].Sid"), "{message}");
    }
    let object = rig.resources().get("app").await.expect("it is there");
    let (_, _, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert!(message.contains("ECR returned a different value after both attempts"), "{message}");
    // A change of another field of the spec does not cause a retry. Another value in ECR does, and
    // another policy does.
    let mut spec = configured();
    spec["interval"] = "2h".into();
    rig.apply("app", spec.clone()).await;
    rig.wait_synced("app").await;
    assert_eq!(puts(), (2, 2));
    assert!(rig.ecr.set_policy(ACCOUNT, REGION, "app", Some(&pull("111122223333"))));
    rig.force("app", "changed").await;
    assert_eq!(puts(), (2, 3));
    spec["lifecyclePolicy"] = keep(100_000);
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    assert_eq!(puts().0, 3);
}
