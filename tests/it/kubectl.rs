//! The output of kubectl: one screen with the sync state, its age and the problem; descriptions of
//! every field; events that read like a log.

use serde_json::json;

use crate::support::policies::keep;
use crate::support::{ACCOUNT, REGION, Rig, condition, eventually};

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
    rig.request("drifted", "now").await;

    let table = rig.kubectl(&["get", "ers", "-n", &rig.namespace]).await;
    let headings: Vec<_> = table.lines().next().expect("headings").split_whitespace().collect();
    let wanted = [
        "NAME",
        "REPOSITORY",
        "READY",
        "SINCE",
        "REASON",
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
    let object = rig.request("app", "drift").await;
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
