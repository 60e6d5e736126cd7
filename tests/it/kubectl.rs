//! The output of kubectl: one screen with the sync state, its age and the problem; descriptions of
//! every field; events that read like a log.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use testbed::traffic::{Fault, Match, Then};

use crate::support::policies::keep;
use crate::support::{
    ACCOUNT, Kstatus, Operator, REGION, Rig, condition, eventually, is_observed, kstatus,
};

/// The cell of `kubectl get` in the row of this name and the column of this heading.
fn cell<'a>(table: &'a str, name: &str, heading: &str) -> &'a str {
    let head = table.lines().next().expect("headings");
    // A heading may be a part of another one: AGE is in IMAGE.
    let is_start = |at: &usize| !head[*at..].starts_with(' ') && head[..*at].ends_with(' ');
    let starts: Vec<_> = (1..head.len()).filter(is_start).collect();
    let column = head.split_whitespace().skip(1).position(|h| h == heading);
    let column = column.unwrap_or_else(|| panic!("no column {heading}: {head}"));
    let is_it = |line: &&str| line.split_whitespace().next() == Some(name);
    let row = table.lines().find(is_it).unwrap_or_else(|| panic!("no row {name}: {table}"));
    let (from, to) =
        (starts[column], starts.get(column + 1).map_or(row.len(), |end| *end.min(&row.len())));
    row.get(from..to).unwrap_or_default().trim()
}

#[tokio::test]
async fn one_screen_shows_the_sync_state_its_age_and_the_problem() {
    let rig = Rig::new("kubectl-screen").await;
    let _operator = rig.operator().await;
    rig.apply(
        "good",
        json!({"repositoryName": "team/good",
        "image": rig.image("library/demo", &["1.26", "1.27"])}),
    )
    .await;
    rig.apply("mistake", json!({"image": rig.image("library/demo", &["1.26", "1.72"])})).await;
    rig.apply("drifted", json!({"lifecyclePolicy": keep(50), "driftPolicy": "Report"})).await;
    rig.wait_synced("good").await;
    rig.wait_ready("mistake", "False", "PartiallySynced").await;
    rig.wait_synced("drifted").await;
    assert!(rig.ecr.set_lifecycle_policy(ACCOUNT, REGION, "drifted", None));
    rig.force("drifted", "now").await;

    let table = rig.kubectl(&["get", "ers", "-n", &rig.namespace]).await;
    let headings: Vec<_> = table.lines().next().expect("headings").split_whitespace().collect();
    let wanted = [
        "NAME",
        "REPOSITORY",
        "READY",
        "SINCE",
        "REASON",
        "SUSPENDED",
        "IMAGE",
        "CHART",
        "CHANGED",
        "AGE",
        "PROBLEM",
    ];
    assert_eq!(headings, wanted, "{table}");
    for (name, column, text) in [
        ("good", "REPOSITORY", "team/good"),
        ("good", "READY", "True"),
        ("good", "IMAGE", "2/2"),
        ("good", "PROBLEM", ""),
        ("mistake", "READY", "False"),
        ("mistake", "REASON", "PartiallySynced"),
        ("mistake", "IMAGE", "1/2"),
        ("drifted", "READY", "True"),
    ] {
        assert_eq!(cell(&table, name, column), text, "{column} of {name}:\n{table}");
    }
    for (name, column) in
        [("good", "SINCE"), ("good", "CHANGED"), ("mistake", "SINCE"), ("good", "AGE")]
    {
        let age = cell(&table, name, column);
        assert!(age.ends_with(['s', 'm']), "{column} of {name} is {age:?}:\n{table}");
    }
    let problem = cell(&table, "mistake", "PROBLEM");
    assert!(
        problem.starts_with("1/2 tags; 1.72: SourceNotFound: cannot read manifest of "),
        "{table}"
    );
    // While Ready is True.
    assert!(cell(&table, "drifted", "PROBLEM").starts_with("lifecyclePolicy"), "{table}");
}

#[tokio::test]
async fn suspended_resources_say_so_and_nobody_waits_for_them() {
    let rig = Rig::new("kubectl-suspended").await;
    let operator = rig.operator().await;
    let image = |tag: &str| rig.image("library/demo", &[tag]);
    rig.apply("born", json!({"image": image("1.26"), "suspend": true})).await;
    rig.apply("good", json!({"image": image("1.26")})).await;
    rig.apply("mistake", json!({"image": image("1.72")})).await;
    rig.wait_synced("good").await;
    rig.wait_ready("mistake", "False", "SourceNotFound").await;
    rig.apply("good", json!({"image": image("1.26"), "suspend": true})).await;
    rig.apply("mistake", json!({"image": image("1.72"), "suspend": true})).await;
    for name in ["born", "good", "mistake"] {
        let object = rig.wait(name, "observed", is_observed).await;
        assert_eq!(kstatus(&object), Kstatus::Current, "{object:#?}");
    }

    let table = rig.kubectl(&["get", "ers", "-n", &rig.namespace]).await;
    for (name, column, text) in [
        ("born", "SUSPENDED", "true"),
        ("born", "READY", ""),
        ("good", "SUSPENDED", "true"),
        ("good", "READY", "True"),
        ("mistake", "SUSPENDED", "true"),
        ("mistake", "READY", ""),
    ] {
        assert_eq!(cell(&table, name, column), text, "{column} of {name}:\n{table}");
    }
    assert!(cell(&table, "mistake", "PROBLEM").starts_with("0/1 tags; 1.72: "), "{table}");
    assert!(rig.ecr.repository(ACCOUNT, REGION, "born").is_none());

    // Once observed, nothing is written, not even by another process.
    let versions = async || {
        let listed = rig.resources().list(&ListParams::default()).await.expect("a list");
        listed.items.iter().map(ResourceExt::resource_version).collect::<Vec<_>>()
    };
    let before = versions().await;
    assert_eq!(operator.terminate().await, 0);
    let _operator = rig.operator().await;
    rig.apply("later", json!({})).await;
    rig.wait_synced("later").await;
    rig.kubectl(&["delete", "ers", "later", "-n", &rig.namespace]).await;
    assert_eq!(versions().await, before);

    rig.apply("born", json!({"image": image("1.26"), "suspend": false})).await;
    rig.wait_synced("born").await;
}

#[tokio::test]
async fn the_problem_of_a_ready_resource_is_its_unreadable_source() {
    let rig = Rig::new("kubectl-unreadable").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    let refused = Then::Status { code: 401, headers: Vec::new(), body: String::new() };
    rig.source.faults().add(Fault::new(Match::default(), refused));
    rig.request("app", "now").await;

    let table = rig.kubectl(&["get", "ers", "-n", &rig.namespace]).await;
    assert_eq!(cell(&table, "app", "READY"), "True", "{table}");
    let problem = cell(&table, "app", "PROBLEM");
    assert!(problem.contains("401 Unauthorized"), "{table}");
}

async fn page(operator: &Operator, path: &str) -> String {
    operator.get(path).await.map(|(_, text)| text).unwrap_or_default()
}

#[tokio::test]
async fn the_schedule_shows_the_last_and_the_next_pass_and_writes_nothing() {
    let rig = Rig::new("kubectl-schedule").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"interval": "1h"})).await;
    rig.apply("born", json!({"suspend": true})).await;
    let object = rig.wait_synced("app").await;
    rig.wait("born", "observed", is_observed).await;

    let times = async || {
        let page = page(&operator, "/schedule").await;
        let line = page.lines().find(|line| line.starts_with("kubectl-schedule/app "));
        let cells: Vec<_> = line.unwrap_or_default().split_whitespace().skip(1).collect();
        let time = |cell: Option<&&str>| cell.and_then(|cell| cell.parse::<Timestamp>().ok());
        Some((time(cells.first())?, time(cells.get(1))?))
    };
    eventually("scheduled", async || times().await.is_some()).await;
    let (last, next) = times().await.expect("both");
    let minutes = next.duration_since(last).as_secs() / 60;
    assert!((50..=70).contains(&minutes), "an hour with jitter: {minutes} min");
    let page = page(&operator, "/schedule").await;
    let born = page.lines().find(|line| line.starts_with("kubectl-schedule/born "));
    assert!(born.is_some_and(|line| line.ends_with(" suspended")), "{page}");

    // A check that changes nothing shows here, and is not written.
    let answered = rig.request("app", "now").await;
    eventually("later", async || times().await.is_some_and(|(later, _)| later >= last)).await;
    assert_eq!(answered.status.map(|s| s.conditions), object.status.map(|s| s.conditions));
}

/// The commands in the runbook's section about a reason.
fn runbook(reason: &str) -> Vec<String> {
    let path = testbed::tools::workspace().join("docs/runbook.md");
    let text = std::fs::read_to_string(path).expect("the runbook");
    let (_, section) = text.split_once(&format!("\n### {reason}\n")).expect("a section");
    let (_, block) = section.split_once("```sh\n").expect("commands");
    let (block, _) = block.split_once("```").expect("an end");
    block.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_runbooks_commands_find_both_sides_of_a_conflict() {
    let rig = Rig::new("kubectl-conflict").await;
    let _operator = rig.operator().await;
    // One names the repository, the other has it by its own name.
    rig.apply("nginx", json!({})).await;
    rig.wait_synced("nginx").await;
    rig.a_second_after("nginx").await;
    rig.apply("web", json!({"repositoryName": "nginx"})).await;
    rig.apply("other", json!({"repositoryName": "other"})).await;
    rig.wait_ready("web", "False", "Conflict").await;

    let mut output = String::new();
    for command in runbook("Conflict").iter().filter(|line| line.contains(" get ers -A ")) {
        let command = command.split('#').next().unwrap_or_default().trim();
        let arguments: Vec<_> = command.split_whitespace().skip(1).collect();
        output.push_str(&rig.kubectl(&arguments).await);
    }
    let rows: Vec<_> = output.lines().filter(|line| line.starts_with(&rig.namespace)).collect();
    let names: Vec<_> = rows.iter().filter_map(|row| row.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["web", "nginx"], "{output}");
}

#[tokio::test]
async fn explain_has_a_text_for_every_field() {
    let rig = Rig::new("kubectl-explain").await;
    for (field, text) in [
        ("ers", "EcrRepositorySync is one Amazon ECR repository"),
        ("ers.spec", "Desired state of one ECR repository"),
        ("ers.spec.image.tagSelector.semver", "Version constraint in the syntax of Helm and Flux"),
        ("ers.spec.lifecyclePolicy.rules.selection.countType", "Quantity that is counted"),
        (
            "ers.spec.chart.onSourceChange",
            "Handling of a version in ECR whose archive the source replaced",
        ),
        ("ers.status.history.changes", "Changes in ECR"),
    ] {
        let shown = rig.kubectl(&["explain", field]).await;
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(text), "{field}: {shown}");
    }
}

#[tokio::test]
async fn events_read_like_a_log_of_changes() {
    let rig = Rig::new("kubectl-events").await;
    let _operator = rig.operator().await;
    let spec = |tags: &[&str], images: u32| {
        let image = rig.image("library/demo", tags);
        json!({"image": image, "lifecyclePolicy": keep(images)})
    };
    rig.apply("app", spec(&["1.26"], 50)).await;
    rig.wait_synced("app").await;
    // Nothing changes, so there is no event.
    rig.request("app", "quiet").await;
    rig.apply("app", spec(&["1.26", "1.72"], 50)).await;
    rig.wait_ready("app", "False", "PartiallySynced").await;
    rig.apply("app", spec(&["1.26", "1.27"], 60)).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.set_lifecycle_policy(ACCOUNT, REGION, "app", None));
    let object = rig.force("app", "drift").await;
    assert_eq!(condition(&object, "Ready").map(|ready| ready.0), Some("True"));

    let log = async || {
        let shown = rig
            .kubectl(&["events", "--for", "ers/app", "-n", &rig.namespace, "--no-headers"])
            .await;
        let line = |line: &str| {
            let (_age, rest) = line.split_once(char::is_whitespace)?;
            let mut cells = rest.split_whitespace();
            let (type_, reason) = (cells.next()?.to_owned(), cells.next()?.to_owned());
            let _object = cells.next()?;
            Some((type_, reason, cells.collect::<Vec<_>>().join(" ")))
        };
        shown.lines().filter_map(line).collect::<Vec<_>>()
    };
    let wanted = [
        (
            "Normal",
            "Synced",
            vec!["created repository app", "lifecyclePolicy", "copied tag 1.26 (sha256:"],
        ),
        ("Warning", "PartiallySynced", vec!["1/2 tags; 1.72: SourceNotFound: "]),
        ("Normal", "Synced", vec!["replaced lifecyclePolicy", "copied tag 1.27 (sha256:"]),
        ("Normal", "Synced", vec!["lifecyclePolicy"]),
        ("Warning", "DriftDetected", vec!["drift corrected: lifecyclePolicy"]),
    ];
    eventually("all told", async || log().await.len() >= wanted.len()).await;
    let told = log().await;
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
    for ((type_, reason, words), told) in wanted.iter().zip(&told) {
        assert_eq!((*type_, *reason), (told.0.as_str(), told.1.as_str()), "{told:#?}");
        assert!(words.iter().all(|word| told.2.contains(word)), "{words:?} in {told:#?}");
    }
}
