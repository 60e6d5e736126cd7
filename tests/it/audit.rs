//! The audit trail: one line for each write that ECR accepted, and none for anything else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::traffic::{Plane, Record};

use crate::support::desk::Desk;
use crate::support::{ACCOUNT, REGION, Rig, Sources};

/// The lines of the audit trail in a log of JSON.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "ecr_sync::audit").collect()
}

fn is_write(request: &Record) -> bool {
    let is_read = |operation: &str| {
        ["Get", "Describe", "List", "BatchCheck", "BatchGet", "AssumeRole"]
            .iter()
            .any(|verb| operation.starts_with(verb))
    };
    match request.plane {
        Plane::Control => !is_read(&request.operation),
        // A mount that is refused opens an upload instead.
        _ if is_mount(request) => request.status == Some(201),
        _ => ["PutManifest", "PutBlob"].contains(&request.operation.as_str()),
    }
}

fn is_mount(request: &Record) -> bool {
    request.operation == "StartUpload" && request.path.contains("mount=")
}

/// The operation of a line, as the stand-in calls it.
fn operation(line: &Value) -> String {
    match line["operation"].as_str().expect("an operation") {
        "PutImage" => "PutManifest".to_owned(),
        "CompleteLayerUpload" => "PutBlob".to_owned(),
        "MountLayer" => "StartUpload".to_owned(),
        other => other.to_owned(),
    }
}

/// Compares the lines with the requests that ECR accepted: operation, repository, request id.
fn compare(lines: &[Value], requests: &[Record]) {
    let writes = requests.iter().filter(|request| is_write(request));
    let accepted = writes.filter(|request| request.status.is_some_and(|status| status < 300));
    let mut expected: Vec<_> = accepted
        .map(|request| {
            let id = request.request_id.clone().unwrap_or_default();
            (request.operation.clone(), request.repository.clone(), id)
        })
        .collect();
    let mut actual: Vec<_> = lines
        .iter()
        .filter(|line| line["result"] == "OK")
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            (operation(line), text("repository"), text("request_id"))
        })
        .collect();

    expected.sort();
    actual.sort();
    assert_eq!(actual, expected);
    assert!(!actual.is_empty());
}

/// Field, value before and value after of the lines.
fn changes(lines: &[Value]) -> BTreeSet<(String, String, String)> {
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let change = |line| (text(line, "field"), text(line, "before"), text(line, "after"));
    lines.iter().map(change).filter(|(field, ..)| !field.is_empty()).collect()
}

fn lifecycle(days: u32) -> Value {
    json!({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged",
        "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days},
        "action": {"type": "expire"}}]})
}

#[tokio::test]
async fn every_write_of_the_controller_has_one_line() {
    let rig = Rig::new("audit").await;
    let operator = rig.operator_with(&["--log-format", "json"], &[]).await;
    let spec = |tags: &[&str], more: Value| {
        let mut spec = json!({"image": rig.image("library/demo", tags), "deletionPolicy": "ForceDelete",
            "imageTagMutability": "Mutable", "resourceTags": {"team": "a"}});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    };

    rig.apply("app", spec(&["1.26"], json!({"lifecyclePolicy": lifecycle(14)}))).await;
    rig.wait_synced("app").await;
    let changed = json!({"lifecyclePolicy": lifecycle(30), "imageTagMutability": "Immutable",
        "scanOnPush": true, "resourceTags": {"team": "b"}});
    rig.apply("app", spec(&["1.26", "1.27"], changed)).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.delete_tag(ACCOUNT, REGION, "app", "1.26"));
    let removed = json!({"lifecyclePolicy": {"rules": []}, "resourceTags": {"stage": "x"}});
    rig.apply("app", spec(&["1.26", "1.27"], removed)).await;
    rig.wait_synced("app").await;
    rig.resources().delete("app", &Default::default()).await.expect("deleted");
    rig.told("Deleted").await;

    let lines = lines(&operator.log());
    compare(&lines, &rig.ecr.log());
    for line in &lines {
        assert_eq!(line["resource"], "audit/app", "{line}");
        assert!(line["generation"].as_i64().is_some_and(|generation| generation >= 1), "{line}");
        assert!(line["before"].as_str().is_some_and(|text| text.chars().count() <= 201), "{line}");
    }

    let changes = changes(&lines);
    let has = |field: &str, before: &str, after: &str| {
        changes.iter().any(|change| {
            change.0 == field && change.1.starts_with(before) && change.2.starts_with(after)
        })
    };
    let digest = rig.sources.seeded.digest("library/demo", "1.27");
    for (field, before, after) in [
        ("repository", "", "app ecr-sync.io/"),
        ("imageTagMutability", "Mutable", "Immutable"),
        ("scanOnPush", "false", "true"),
        ("lifecyclePolicy", "{", "{"),
        ("lifecyclePolicy", "{", ""),
        ("resourceTags", "team=a", "team=b"),
        ("resourceTags", "team=b", ""),
        ("imageTag", "", &format!("1.27@{digest}")),
        ("repository", "arn:aws:ecr:", ""),
    ] {
        assert!(has(field, before, after), "{field}: {before} -> {after} is not in {changes:#?}");
    }
}

#[tokio::test]
async fn mounted_blobs_and_charts_have_one_line_each() {
    let rig = Rig::new("audit-kinds").await;
    rig.ecr.set_blob_mounting(ACCOUNT, REGION, true);
    let charts = ChartRepository::start(rig.folder().join("charts"), None).await.expect("charts");
    charts.package("stable", "app", "1.0.0").await.expect("helm packages");
    charts.index("stable").await.expect("helm indexes");
    let operator = rig.operator_with(&["--log-format", "json"], &[]).await;
    for name in ["first", "second"] {
        rig.apply(name, json!({"image": rig.image("library/demo", &["1.27"])})).await;
        rig.wait_synced(name).await;
    }
    let url = format!("http://{}/stable", charts.host());
    rig.apply("charts", json!({"chart": {"pullUrl": url, "name": "app", "tags": ["1.0.0"]}})).await;
    rig.wait_synced("charts").await;

    let lines = lines(&operator.log());
    let requests = rig.ecr.log();
    compare(&lines, &requests);
    assert!(requests.iter().any(|request| is_mount(request) && is_write(request)));
    let is_of_chart = |line: &&Value| line["resource"] == "audit-kinds/charts";
    let of_chart: Vec<_> = lines.iter().filter(is_of_chart).map(operation).collect();
    for wanted in ["CreateRepository", "PutBlob", "PutManifest"] {
        assert!(of_chart.contains(&wanted.to_owned()), "{wanted} is not in {of_chart:?}");
    }
    let tags = changes(&lines).into_iter().filter(|(field, ..)| field == "chartTag");
    assert!(tags.into_iter().any(|(.., after)| after.starts_with("1.0.0@sha256:")), "{lines:#?}");
}

#[tokio::test]
async fn every_write_of_the_command_line_has_one_line() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    let file = desk.write("app.yaml", &desk.entry("app", "library/demo", &["1.27"]));
    let arguments = ["sync", &file.display().to_string(), "--log-format", "json"];
    let output = desk.command(&arguments).output().expect("it runs");
    let log = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{log}");

    let lines = lines(&log);
    compare(&lines, &desk.ecr.log());
    assert!(lines.iter().all(|line| line["resource"] == "command line"), "{lines:?}");
}

#[tokio::test]
async fn a_refused_write_has_a_line_with_its_error() {
    let rig = Rig::new("audit-refused").await;
    let refusal = testbed::traffic::Then::aws_error(400, "AccessDeniedException", "not allowed");
    let call = testbed::traffic::Match::operation("CreateRepository");
    rig.ecr.faults().add(testbed::traffic::Fault::new(call, refusal));
    let operator = rig.operator_with(&["--log-format", "json"], &[]).await;
    rig.apply("app", json!({})).await;
    rig.wait_ready("app", "False", "AccessDenied").await;

    let lines = lines(&operator.log());
    let refused = lines.iter().filter(|line| line["result"] == "AccessDeniedException");
    assert!(refused.clone().count() >= 1, "{lines:?}");
    assert!(refused.clone().all(|line| line["operation"] == "CreateRepository"), "{lines:?}");
}
