//! The dashboard: what its panels ask for, and how they show it.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{named, promtool, read, rows};

fn panels() -> Vec<Value> {
    let text = read("deploy/monitoring/dashboard.json");
    let mut dashboard: Value = serde_json::from_str(&text).expect("JSON");
    match dashboard["panels"].take() {
        Value::Array(panels) => panels,
        other => panic!("no panels: {other}"),
    }
}

fn panel(title: &str) -> Value {
    let panel = panels().into_iter().find(|panel| panel["title"] == title);
    panel.unwrap_or_else(|| panic!("no panel {title}"))
}

/// The expressions of a panel.
fn expressions(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// The color of a series, and its mode.
fn color<'a>(panel: &'a Value, series: &str) -> &'a Value {
    let overrides = panel["fieldConfig"]["overrides"].as_array().expect("overrides");
    let of_series = overrides.iter().find(|over| over["matcher"]["options"] == series);
    &of_series.unwrap_or_else(|| panic!("{series} has no override"))["properties"][0]["value"]
}

#[test]
fn the_dashboard_is_well_formed() {
    let panels = panels();
    let ids: BTreeSet<_> =
        panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are distinct");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(
            !expressions(panel).is_empty() && panel["description"].is_string(),
            "{}",
            panel["title"]
        );
    }
}

#[test]
fn panels_do_not_cover_one_another() {
    let mut cells = BTreeSet::new();
    for panel in panels() {
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{} leaves the grid", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} covers another panel at {cell:?}", panel["title"]);
        }
    }
}

#[test]
fn every_panel_that_can_be_limited_to_a_namespace_is() {
    let by_namespace: BTreeSet<_> = rows()
        .into_iter()
        .filter(|row| row.labels.iter().any(|label| label == "namespace"))
        .map(|row| row.name)
        .collect();
    assert!(by_namespace.len() >= 4, "{by_namespace:?}");
    for panel in panels() {
        for expression in expressions(&panel) {
            let can = !named(&expression).is_disjoint(&by_namespace);
            assert_eq!(
                can,
                expression.contains(r#"namespace=~"$namespace""#),
                "{}: {expression}",
                panel["title"]
            );
        }
    }
}

#[test]
fn what_failed_is_red() {
    let tags = panel("Tags");
    assert_eq!(color(&tags, "failed")["mode"], "thresholds");
    let steps = &tags["fieldConfig"]["defaults"]["thresholds"]["steps"];
    assert_eq!(steps[0]["color"], "green");
    assert_eq!((&steps[1]["color"], &steps[1]["value"]), (&"red".into(), &1.into()));

    for (title, series, wanted) in [
        ("Tags", "synced", "green"),
        ("Ready", "True", "green"),
        ("Ready", "False", "red"),
        ("Passes by result", "Succeeded", "green"),
        ("Reconciles", "error", "red"),
    ] {
        let panel = panel(title);
        assert_eq!(color(&panel, series)["fixedColor"], wanted, "{title}: {series}");
    }
    for title in ["Passes by result", "AWS errors"] {
        let color = &panel(title)["fieldConfig"]["defaults"]["color"];
        assert_eq!((&color["mode"], &color["fixedColor"]), (&"shades".into(), &"red".into()));
    }
}

#[test]
fn limits_of_alerts_are_lines_in_the_panels() {
    let alerts = read("deploy/monitoring/alerts.yaml");
    for (title, alert, limit, above) in [
        ("Waiting time", "ecrsync_oldest_due_seconds > 900", 900, "red"),
        ("Lifetime of ECR tokens", "- time() < 3600", 3600, "green"),
    ] {
        assert!(alerts.contains(alert), "{alert}");
        let defaults = &panel(title)["fieldConfig"]["defaults"];
        let step = &defaults["thresholds"]["steps"][1];
        assert_eq!((&step["value"], &step["color"]), (&limit.into(), &above.into()), "{title}");
        assert_eq!(defaults["custom"]["thresholdsStyle"]["mode"], "line", "{title}");
    }
}

#[test]
fn a_rate_of_seconds_is_not_shown_as_seconds() {
    let rate = Regex::new(r"rate\([a-z_]+_seconds_total").expect("a pattern");
    let rates: Vec<_> = panels()
        .into_iter()
        .filter(|panel| expressions(panel).iter().any(|expression| rate.is_match(expression)))
        .collect();
    assert!(rates.len() >= 2, "throttling and CPU");
    for panel in rates {
        assert_eq!(panel["fieldConfig"]["defaults"]["unit"], "short", "{}", panel["title"]);
    }
}

#[test]
fn suspended_resources_unreadable_sources_and_the_last_pass_have_panels() {
    for (title, part) in [
        ("Suspended", r#"suspended="true""#),
        ("Unreadable sources", r#"type=~"ImageSynced|ChartSynced",status="Unknown""#),
        ("Sources that cannot be read", r#"type=~"ImageSynced|ChartSynced",status="Unknown""#),
        ("Last pass", "ecrsync_last_pass_newest_timestamp_seconds"),
        ("Longest without a pass", "ecrsync_last_pass_oldest_timestamp_seconds"),
        ("Leaders", "leader_election_master_status"),
    ] {
        let expressions = expressions(&panel(title));
        assert!(expressions[0].contains(part), "{title}: {expressions:?}");
    }
}

#[test]
fn the_queue_is_shown_by_class_and_place_with_the_time_to_the_first_call() {
    for (title, metric, unit) in [
        ("Waiting by class", "ecrsync_queue_waiting", "short"),
        ("Longest wait by class", "ecrsync_queue_oldest_seconds", "s"),
        ("Passes by place", "ecrsync_queue_begun", "short"),
        ("From a change to the first AWS call", "ecrsync_change_to_first_call_seconds", "s"),
    ] {
        let panel = panel(title);
        for expression in expressions(&panel) {
            assert_eq!(named(&expression), [metric.to_owned()].into(), "{title}: {expression}");
        }
        assert_eq!(panel["fieldConfig"]["defaults"]["unit"], unit, "{title}");
    }
    let shown: BTreeSet<_> = panels().iter().flat_map(expressions).collect();
    let shown: BTreeSet<_> = shown.iter().flat_map(|expression| named(expression)).collect();
    let runbook = named(&read("docs/runbook.md"));
    for row in rows().into_iter().filter(|row| row.name.starts_with("ecrsync_queue_")) {
        assert!(shown.contains(&row.name), "{} has a panel", row.name);
        assert!(runbook.contains(&row.name), "{} is in the runbook", row.name);
    }
}

/// The series of each resource exist only with a flag, or with kube-state-metrics.
#[test]
fn only_the_last_row_needs_series_of_each_resource() {
    let panels = panels();
    let last = panels.iter().rposition(|panel| panel["type"] == "row").expect("rows");
    assert_eq!(panels[last]["title"], "Each resource");
    for (index, panel) in panels.iter().enumerate() {
        for expression in expressions(panel) {
            let needs = expression.contains("ecrsync_resource_");
            assert_eq!(needs, index > last, "{}: {expression}", panel["title"]);
        }
    }
}

#[test]
fn promtool_can_parse_every_expression() {
    let expressions: Vec<_> = panels().iter().flat_map(expressions).collect();
    let rules = expressions.iter().enumerate().map(|(index, expression)| {
        let expression =
            expression.replace("$__rate_interval", "5m").replace("$namespace", "team-.*");
        serde_json::json!({"record": format!("panel:{index}"), "expr": expression})
    });
    let groups =
        serde_json::json!({"groups": [{"name": "panels", "rules": rules.collect::<Vec<_>>()}]});
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML.
    std::fs::write(folder.path().join("panels.yaml"), groups.to_string()).expect("written");
    promtool(folder.path(), &["check", "rules", "panels.yaml"]);
}
