//! Metrics of the process. Reconcile metrics have controller-runtime's names, as existing
//! dashboards expect. Label values are from closed sets: never a tag, a digest or a resource name.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, register_gauge_with_registry, register_histogram_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry,
    register_int_gauge_with_registry,
};

use tokio::runtime::Handle;

use super::copies::Copies;
use super::files::Files;
use super::liveness::Liveness;
use super::queue::Queue;
use super::requests::Requests;
use super::resources::Resources;
use super::watches::Watches;
use crate::class::Class;
use crate::sync::{Field, Report};

/// Value of the label `controller`: the kind in lower case, as in controller-runtime.
const CONTROLLER: &str = "ecrrepositorysync";

/// All metrics of the process. Clones share the values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_total: IntCounterVec,
    reconcile_errors: IntCounter,
    reconcile_time: Histogram,
    /// Reconciles that panicked.
    pub reconcile_panics: IntCounter,
    leader: IntGauge,
    shards: IntGauge,
    shards_held: IntGauge,
    /// Status patches sent.
    pub status_writes: IntCounter,
    /// The resources.
    pub resources: Resources,
    /// Metrics of the job pool.
    pub queue: Queue,
    /// Whether due passes get done.
    pub liveness: Liveness,
    /// Requests, waits and bytes: the [`Meter`](crate::meter::Meter) of the process.
    pub requests: Requests,
    passes: IntCounterVec,
    tags_copied: IntCounter,
    tags_pruned: IntCounter,
    corrected: IntCounterVec,
    detected: IntCounterVec,
    oldest_due: Gauge,
    tasks: IntGauge,
    /// The runtime whose tasks are counted.
    runtime: Option<Handle>,
    /// Remaining copies of the running passes.
    pub copies: Copies,
    /// State of the reloaded files.
    pub files: Files,
    /// State of the watches of the API server.
    pub watches: Watches,
    /// 0 if resources need the operator's AWS identity, and AWS does not accept it.
    pub identity: IntGauge,
}

impl Metrics {
    /// Registers all metrics. The tasks are those of the runtime that calls this.
    ///
    /// # Errors
    /// When two metrics have the same name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let controller =
            |name: &str, help: &str| Opts::new(name, help).const_label("controller", CONTROLLER);
        let registry = &Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;

        let liveness = Liveness::default();
        let metrics = Self {
            registry: registry.clone(),
            reconcile_total: register_int_counter_vec_with_registry!(
                controller("controller_runtime_reconcile_total", "Reconciles by result."),
                &["result"],
                registry
            )?,
            reconcile_errors: register_int_counter_with_registry!(
                controller("controller_runtime_reconcile_errors_total", "Reconciles that failed."),
                registry
            )?,
            reconcile_time: register_histogram_with_registry!(
                HistogramOpts::from(controller(
                    "controller_runtime_reconcile_time_seconds",
                    "Duration of a reconcile.",
                ))
                .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0]),
                registry
            )?,
            reconcile_panics: register_int_counter_with_registry!(
                controller(
                    "controller_runtime_reconcile_panics_total",
                    "Reconciles that panicked."
                ),
                registry
            )?,
            leader: register_int_gauge_with_registry!(
                Opts::new(
                    "leader_election_master_status",
                    "1 if this process is the leader, holds a shard, or works without election.",
                )
                .const_label("name", "ecr-sync"),
                registry
            )?,
            shards: register_int_gauge_with_registry!(
                "ecrsync_shards",
                "Number of shards of all resources (--shards).",
                registry
            )?,
            shards_held: register_int_gauge_with_registry!(
                "ecrsync_shards_held",
                "Shards that this process works on.",
                registry
            )?,
            status_writes: register_int_counter_with_registry!(
                "ecrsync_status_writes_total",
                "Status patches that the API server accepted.",
                registry
            )?,
            resources: Resources::default(),
            queue: Queue::new(registry)?,
            liveness: liveness.clone(),
            requests: Requests::new(registry, liveness)?,
            passes: register_int_counter_vec_with_registry!(
                "ecrsync_syncs_total",
                "Passes by result: Succeeded, or the kind of the first failure.",
                &["result"],
                registry
            )?,
            tags_copied: register_int_counter_with_registry!(
                "ecrsync_tags_copied_total",
                "Tags written to ECR.",
                registry
            )?,
            tags_pruned: register_int_counter_with_registry!(
                "ecrsync_tags_pruned_total",
                "Tags removed from ECR.",
                registry
            )?,
            corrected: register_int_counter_vec_with_registry!(
                "ecrsync_drift_corrected_total",
                "Corrections of a repository that was in sync with its spec before, by field.",
                &["field"],
                registry
            )?,
            detected: register_int_counter_vec_with_registry!(
                "ecrsync_drift_detected_total",
                "Settings, policies and resource tags that somebody else changed, by field.",
                &["field"],
                registry
            )?,
            oldest_due: register_gauge_with_registry!(
                "ecrsync_oldest_due_seconds",
                "Age of the oldest due pass.",
                registry
            )?,
            tasks: register_int_gauge_with_registry!(
                "ecrsync_tasks",
                "Asynchronous tasks that have not ended; a steady rise is a leak.",
                registry
            )?,
            runtime: Handle::try_current().ok(),
            copies: Copies::new(registry)?,
            files: Files::new(registry)?,
            watches: Watches::new(registry)?,
            identity: register_int_gauge_with_registry!(
                "ecrsync_aws_identity_usable",
                "0 while resources need the operator's AWS identity and there is none, or AWS \
                 refuses it.",
                registry
            )?,
        };
        metrics.identity.set(1);
        metrics.leads(0, 1);

        // Series exist from the start: the rate of a series that first appears with 1 is 0.
        for result in ["success", "error"] {
            metrics.reconcile_total.with_label_values(&[result]);
        }

        metrics.passes.with_label_values(&["Succeeded"]);
        for &class in Class::ALL {
            metrics.passes.with_label_values(&[class.reason()]);
        }

        for &field in Field::ALL {
            // Encryption cannot be corrected, and pruning corrects nothing.
            if !matches!(field, Field::Encryption | Field::Prune) {
                metrics.corrected.with_label_values(&[field.as_str()]);
            }
            if field.is_configuration() {
                metrics.detected.with_label_values(&[field.as_str()]);
            }
        }

        Ok(metrics)
    }

    /// Sets the number of shards that this process works on, and of all. A leader has the only one.
    pub fn leads(&self, held: usize, shards: u16) {
        self.leader.set((held > 0).into());
        self.shards_held.set(held.try_into().unwrap_or_default());
        self.shards.set(shards.into());
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, ok: bool, took: Duration) {
        self.reconcile_total.with_label_values(&[if ok { "success" } else { "error" }]).inc();
        if !ok {
            self.reconcile_errors.inc();
        }
        self.reconcile_time.observe(took.as_secs_f64());
    }

    /// Counts a pass of a resource by its result.
    pub fn pass_finished(&self, uid: &str, report: &Report) {
        let failure = report.failures().next();
        let result = failure.map_or("Succeeded", |failure| failure.class.reason());
        self.passes.with_label_values(&[result]).inc();
        self.liveness.finished();
        // A cancelled pass is repeated: it did not check everything.
        if failure.is_none_or(|failure| failure.class != Class::Cancelled) {
            self.resources.passed(uid, Timestamp::now());
        }

        let copied = report.artifacts.iter().map(|artifact| artifact.copied).sum::<usize>();
        self.tags_copied.inc_by(u64::try_from(copied).unwrap_or_default());
        let pruned = if report.dry_run { 0 } else { report.pruned() };
        self.tags_pruned.inc_by(u64::try_from(pruned).unwrap_or_default());
    }

    /// Counts corrected drift, by field.
    pub fn drift_corrected(&self, fields: impl Iterator<Item = Field>) {
        for field in fields {
            self.corrected.with_label_values(&[field.as_str()]).inc();
        }
    }

    /// Counts fields that somebody else changed.
    pub fn drift_detected(&self, fields: impl Iterator<Item = Field>) {
        for field in fields {
            self.detected.with_label_values(&[field.as_str()]).inc();
        }
    }

    /// Returns the metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn page(&self) -> Result<String, prometheus::Error> {
        self.queue.refresh();
        self.copies.refresh();
        self.files.refresh();
        self.watches.refresh();
        self.oldest_due.set(self.liveness.oldest_due().as_secs_f64());
        if let Some(runtime) = &self.runtime {
            let tasks = runtime.metrics().num_alive_tasks();
            self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        }

        let mut page = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        self.resources.write(&mut page);
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Failure;

    #[tokio::test]
    async fn the_page_counts_the_tasks_that_have_not_ended() {
        let metrics = Metrics::new().expect("distinct names");
        let tasks = || {
            let page = metrics.page().expect("encodes");
            let line = page.lines().find_map(|line| line.strip_prefix("ecrsync_tasks "));
            line.expect("on the page").to_owned()
        };
        assert_eq!(tasks(), "0");

        let task = tokio::spawn(std::future::pending::<()>());
        assert_eq!(tasks(), "1");
        task.abort();
        task.await.expect_err("aborted");
        assert_eq!(tasks(), "0");
    }

    #[test]
    fn the_page_shows_the_counts() {
        let metrics = Metrics::new().expect("distinct names");
        metrics.reconciled(true, Duration::from_millis(3));
        metrics.pass_finished("uid", &Report::failed(Failure::new(Class::AccessDenied, "why")));

        let running = metrics.queue.add("changed", false);
        running.at(crate::telemetry::Place::Control);
        let _waiting = metrics.queue.add("periodic", false);
        let page = metrics.page().expect("encodes");

        for line in [
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"success\"} 1",
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"error\"} 0",
            "ecrsync_syncs_total{result=\"AccessDenied\"} 1",
            "controller_runtime_active_workers{controller=\"ecrrepositorysync\"} 1",
            "ecrsync_queue_waiting{class=\"changed\"} 0",
            "ecrsync_queue_waiting{class=\"periodic\"} 1",
            "ecrsync_queue_begun{place=\"control\"} 1",
            "ecrsync_queue_begun{place=\"aside\"} 0",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }

        drop(running);
        let page = metrics.page().expect("encodes");
        assert!(
            page.contains("controller_runtime_active_workers{controller=\"ecrrepositorysync\"} 0")
        );
    }
}
