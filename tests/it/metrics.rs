//! The numbers on the metrics page match those of the servers.

use std::collections::BTreeSet;

use serde_json::json;
use testbed::traffic::Pulls;

use crate::support::{ACCOUNT, REGION, Rig};
use crate::{monitoring, rate_limits};

/// The value of a series; `None` if it is not on the page.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn a_copy_and_a_correction_are_counted_as_the_servers_saw_them() {
    let rig = Rig::new("metrics").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    let uploaded: u64 = rig
        .ecr
        .log()
        .iter()
        .filter(|r| r.operation == "PutBlob")
        .map(|request| request.received)
        .sum();
    assert!(uploaded > 0);

    assert!(rig.ecr.delete_tag(ACCOUNT, REGION, "app", "1.26"));
    rig.request("app", "now").await;
    assert!(rig.repository("app").tags.contains_key("1.26"), "put right");

    let (_, page) = operator.get("/metrics").await.expect("metrics");
    let name = "{name=\"ecrrepositorysync\"}";
    let controller = "{controller=\"ecrrepositorysync\"}";
    for (series, wanted) in [
        ("ecrsync_copied_bytes_total".to_owned(), uploaded as f64),
        ("ecrsync_tags_copied_total".to_owned(), 2.0),
        ("ecrsync_drift_corrected_total{field=\"imageTag\"}".to_owned(), 1.0),
        ("ecrsync_syncs_total{result=\"Succeeded\"}".to_owned(), 2.0),
        ("ecrsync_oldest_due_seconds".to_owned(), 0.0),
        (format!("workqueue_adds_total{name}"), 2.0),
        (format!("workqueue_retries_total{name}"), 0.0),
        (format!("workqueue_depth{name}"), 0.0),
        (format!("workqueue_queue_duration_seconds_count{name}"), 2.0),
        (format!("workqueue_work_duration_seconds_count{name}"), 2.0),
        (format!("workqueue_unfinished_work_seconds{name}"), 0.0),
        (format!("workqueue_longest_running_processor_seconds{name}"), 0.0),
        (format!("controller_runtime_active_workers{controller}"), 0.0),
        (format!("controller_runtime_reconcile_errors_total{controller}"), 0.0),
        (format!("controller_runtime_reconcile_panics_total{controller}"), 0.0),
    ] {
        assert_eq!(value(&page, &series), Some(wanted), "{series} in\n{page}");
    }
    let reconciles = value(
        &page,
        "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"success\"}",
    );
    assert!(reconciles.is_some_and(|count| count >= 2.0), "{page}");
    // At least the result of each pass.
    assert!(
        value(&page, "ecrsync_status_writes_total").is_some_and(|count| count >= 2.0),
        "{page}"
    );
}

#[tokio::test]
async fn a_working_operator_shows_every_documented_metric_and_no_other() {
    let rig = Rig::new("metrics-all").await;
    // These create series that do not exist before their first event: a source that counts pulls,
    // and a rate limit that causes waits.
    rate_limits::limit(rig.source.faults(), &Pulls::new(100, 90));
    let flags = ["--put-image-rate", "1", "--resource-metrics", "all"];
    let operator = rig.operator_with(&flags, &[]).await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27"])})).await;
    rig.apply("problem", json!({"image": rig.image("library/demo", &["9.99"])})).await;
    rig.wait_synced("app").await;
    rig.wait_ready("problem", "False", "SourceNotFound").await;

    let (_, page) = operator.get("/metrics").await.expect("metrics");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let live: BTreeSet<_> = types
        .filter(|(name, _)| !name.starts_with("process_"))
        .map(|(name, type_)| (name.to_owned(), type_.to_owned()))
        .collect();
    assert_eq!(live, monitoring::documented(), "left: /metrics; right: docs/observability.md");

    let waited = value(&page, "ecrsync_throttle_wait_seconds_total{action=\"PutImage\"}");
    assert!(
        waited.is_some_and(|seconds| seconds > 0.0),
        "our own limit made requests wait: {waited:?}"
    );
    let left = value(&page, "ecrsync_registry_pulls_remaining{host_class=\"other\"}");
    assert!(left.is_some_and(|left| left < 90.0), "what the source said last: {left:?}");
    for kind in ["tags", "manifests", "blobs", "bytes"] {
        let series = format!("ecrsync_copy_pending{{kind=\"{kind}\"}}");
        assert_eq!(value(&page, &series), Some(0.0), "no pass runs any more");
    }
}
