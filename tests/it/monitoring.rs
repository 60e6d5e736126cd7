//! Documents, alerts and dashboard name only metrics that exist.

mod dashboard;
mod kube_state_metrics;
mod plots;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ecr_sync::telemetry::Metrics;
use regex::Regex;

/// The page that the alerts link to, unless the chart names another.
const PAGE: &str = "https://github.com/ecr-sync/ecr-sync/blob/main/docs/observability.md";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names and types of our metrics.
fn metrics() -> BTreeSet<(String, String)> {
    let page = Metrics::new().expect("distinct names").page().expect("encodes");
    let described = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '));
    let ours = described.filter(|(name, _)| !name.starts_with("process_"));
    // A vector without a series has no line: its name is in the document and in the code.
    ours.map(|(name, type_)| (name.to_owned(), type_.to_owned())).collect()
}

/// Words in `text` that look like our metrics, without the suffixes of a histogram's series.
fn named(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(ecrsync|workqueue|controller_runtime|leader_election)_[a-z_]+")
        .expect("a pattern");
    let base = |name: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|s| name.strip_suffix(s))
            .unwrap_or(name)
            .to_owned()
    };
    name.find_iter(text).map(|found| base(found.as_str())).collect()
}

/// Names of metrics in `text` that are not among `names`. `ecrsync_resource_*` means several
/// metrics.
fn unknown(text: &str, names: &BTreeSet<String>) -> Vec<String> {
    let is_known = |name: &String| {
        names.contains(name)
            || (name.ends_with('_') && names.iter().any(|known| known.starts_with(name.as_str())))
    };
    named(text).into_iter().filter(|name| !is_known(name)).collect()
}

/// A row of the table in docs/observability.md.
struct Row {
    name: String,
    type_: String,
    labels: Vec<String>,
}

/// The table of docs/observability.md.
fn rows() -> Vec<Row> {
    let page = read("docs/observability.md");
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let type_ = cells.next()?.to_owned();
        let labels = cells.next()?.split(", ").map(str::to_owned).collect();
        ["counter", "gauge", "histogram"].contains(&type_.as_str()).then_some(Row {
            name,
            type_,
            labels,
        })
    };
    page.lines().filter(|line| line.starts_with('|')).filter_map(row).collect()
}

/// The documented metrics: names and types.
pub(crate) fn documented() -> BTreeSet<(String, String)> {
    rows().into_iter().map(|row| (row.name, row.type_)).collect()
}

/// Runs promtool, which must succeed.
fn promtool(folder: &Path, arguments: &[&str]) {
    let promtool = testbed::tools::find("promtool").expect("make tools");
    let output =
        Command::new(&promtool).args(arguments).current_dir(folder).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
}

#[test]
fn every_metric_is_documented_with_its_type() {
    let documented = documented();
    let metrics = metrics();
    let missing: Vec<_> = metrics.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/observability.md: {missing:?}");
    let files = crate::docs::files("src/telemetry", "rs");
    let code: String = files.iter().map(|file| read(&file.to_string_lossy())).collect();
    for (name, _) in &documented {
        assert!(code.contains(&format!("\"{name}\"")), "{name} is documented and does not exist");
    }

    let names: BTreeSet<String> = documented.into_iter().map(|(name, _)| name).collect();
    let unknown = unknown(&code, &names);
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
}

#[test]
fn no_document_speaks_of_a_metric_that_does_not_exist() {
    let known: BTreeSet<String> = documented().into_iter().map(|(name, _)| name).collect();
    for document in crate::docs::documents() {
        let unknown = unknown(&read(&document.to_string_lossy()), &known);
        assert!(unknown.is_empty(), "{}: {unknown:?}", document.display());
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let known: BTreeSet<String> = documented().into_iter().map(|(name, _)| name).collect();
    for file in [
        "deploy/monitoring/alerts.yaml",
        "deploy/monitoring/alerts_test.yaml",
        "deploy/monitoring/dashboard.json",
    ] {
        let text = read(file);
        assert!(named(&text).len() > 3, "{file} asks for nothing");
        let unknown = unknown(&text, &known);
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_test_and_a_section_that_its_link_leads_to() {
    let alerts = read("deploy/monitoring/alerts.yaml");
    let (tests, sections) =
        (read("deploy/monitoring/alerts_test.yaml"), read("docs/observability.md"));
    let names: Vec<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}")), "{name} has no test");
        assert!(sections.contains(&format!("\n### {name}\n")), "{name} has no section");
        let link = format!("runbook_url: {PAGE}#{}\n", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} has no link");
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring");
    promtool(&folder, &["check", "rules", "alerts.yaml"]);
    promtool(&folder, &["test", "rules", "alerts_test.yaml"]);
}
