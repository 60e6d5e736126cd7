//! Metrics of the process. Reconcile metrics have controller-runtime's names, as existing
//! dashboards expect. Label values are from closed sets: never a tag, a digest or a resource name.

use std::time::{Duration, SystemTime};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::copies::Copies;
use super::files::Files;
use super::liveness::Liveness;
use super::queue::Queue;
use super::requests::Requests;
use super::resources::Resources;
use super::schedule::Schedule;
use crate::class::Class;
use crate::meter::Meter;
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
    /// 1 in the leader, and in a process that works without election.
    pub leader: IntGauge,
    /// Status patches sent.
    pub status_writes: IntCounter,
    /// Series per resource.
    pub resources: Resources,
    /// Metrics of the job pool.
    pub queue: Queue,
    /// Whether due passes get done.
    pub liveness: Liveness,
    /// The last and the next pass of every resource.
    pub schedule: Schedule,
    requests: Requests,
    passes: IntCounterVec,
    tags_copied: IntCounter,
    tags_pruned: IntCounter,
    corrected: IntCounterVec,
    detected: IntCounterVec,
    oldest_due: Gauge,
    /// Remaining copies of the running passes.
    pub copies: Copies,
    /// State of the reloaded files.
    pub files: Files,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When two metrics have the same name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let controller =
            |name: &str, help: &str| Opts::new(name, help).const_label("controller", CONTROLLER);
        let metrics = Self {
            registry: Registry::new(),
            reconcile_total: IntCounterVec::new(
                controller("controller_runtime_reconcile_total", "Reconciles by result."),
                &["result"],
            )?,
            reconcile_errors: IntCounter::with_opts(controller(
                "controller_runtime_reconcile_errors_total",
                "Reconciles that failed.",
            ))?,
            reconcile_time: Histogram::with_opts(
                HistogramOpts::new(
                    "controller_runtime_reconcile_time_seconds",
                    "Duration of a reconcile.",
                )
                .const_label("controller", CONTROLLER)
                .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0]),
            )?,
            reconcile_panics: IntCounter::with_opts(controller(
                "controller_runtime_reconcile_panics_total",
                "Reconciles that panicked.",
            ))?,
            leader: IntGauge::with_opts(
                Opts::new(
                    "leader_election_master_status",
                    "1 if this process is the leader, or works without election.",
                )
                .const_label("name", "ecr-sync"),
            )?,
            status_writes: IntCounter::new(
                "ecrsync_status_writes_total",
                "Status patches that the API server accepted.",
            )?,
            resources: Resources::new()?,
            queue: Queue::new()?,
            liveness: Liveness::default(),
            schedule: Schedule::default(),
            requests: Requests::new()?,
            passes: IntCounterVec::new(
                Opts::new(
                    "ecrsync_syncs_total",
                    "Passes by result: Succeeded, or the kind of the first failure.",
                ),
                &["result"],
            )?,
            tags_copied: IntCounter::new("ecrsync_tags_copied_total", "Tags written to ECR.")?,
            tags_pruned: IntCounter::new("ecrsync_tags_pruned_total", "Tags removed from ECR.")?,
            corrected: IntCounterVec::new(
                Opts::new(
                    "ecrsync_drift_corrected_total",
                    "Corrections of a repository that was in sync with its spec before, by field.",
                ),
                &["field"],
            )?,
            detected: IntCounterVec::new(
                Opts::new(
                    "ecrsync_drift_detected_total",
                    "Settings, policies and resource tags that somebody else changed, by field.",
                ),
                &["field"],
            )?,
            oldest_due: Gauge::new("ecrsync_oldest_due_seconds", "Age of the oldest due pass.")?,
            copies: Copies::new()?,
            files: Files::new()?,
        };

        let own: [Box<dyn Collector>; 14] = [
            Box::new(metrics.reconcile_total.clone()),
            Box::new(metrics.reconcile_errors.clone()),
            Box::new(metrics.reconcile_time.clone()),
            Box::new(metrics.reconcile_panics.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.status_writes.clone()),
            Box::new(metrics.passes.clone()),
            Box::new(metrics.tags_copied.clone()),
            Box::new(metrics.tags_pruned.clone()),
            Box::new(metrics.corrected.clone()),
            Box::new(metrics.detected.clone()),
            Box::new(metrics.oldest_due.clone()),
            Box::new(metrics.copies.clone()),
            Box::new(metrics.files.clone()),
        ];

        let process: Box<dyn Collector> =
            Box::new(prometheus::process_collector::ProcessCollector::for_self());
        let parts = metrics.resources.collectors().into_iter().chain(metrics.queue.collectors());
        for collector in
            own.into_iter().chain(parts).chain(metrics.requests.collectors()).chain([process])
        {
            metrics.registry.register(collector)?;
        }

        // Series exist from the start: the rate of a series that first appears with 1 is 0.
        for result in ["success", "error"] {
            metrics.reconcile_total.with_label_values(&[result]);
        }

        metrics.passes.with_label_values(&["Succeeded"]);
        for class in Class::ALL {
            metrics.passes.with_label_values(&[class.reason()]);
        }

        for field in Field::ALL {
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

    /// Counts a reconcile.
    pub fn reconciled(&self, ok: bool, took: Duration) {
        self.reconcile_total.with_label_values(&[if ok { "success" } else { "error" }]).inc();
        if !ok {
            self.reconcile_errors.inc();
        }
        self.reconcile_time.observe(took.as_secs_f64());
    }

    /// Drops the series of a resource.
    pub fn forget(&self, uid: &str) {
        self.resources.forget(uid);
        self.schedule.forget(uid);
    }

    /// Drops the series of all resources but those that `exists`.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.resources.retain(&exists);
        self.schedule.retain(exists);
    }

    /// Counts a pass of a resource by its result.
    pub fn pass_finished(&self, uid: &str, report: &Report) {
        let result = report.failures().next().map_or("Succeeded", |failure| failure.class.reason());
        self.passes.with_label_values(&[result]).inc();
        self.resources.passed(uid, SystemTime::now());
        self.liveness.finished();
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
    pub fn page(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.queue.refresh();
        self.oldest_due.set(self.liveness.oldest_due().as_secs_f64());
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}

impl Meter for Metrics {
    fn registry_request(&self, host: &str, method: &str, status: Option<u16>) {
        self.requests.registry_request(host, method, status);
    }

    fn pulls_left(&self, host: &str, left: u64) {
        self.requests.pulls_left(host, left);
    }

    fn aws_request(&self, operation: &str, code: &str) {
        self.requests.aws_request(operation, code);
    }

    fn throttled(&self, action: &'static str, wait: Duration) {
        self.requests.throttled(action, wait);
    }

    fn token_renewed(&self, account: &str, region: &str, life: Duration) {
        self.requests.token_renewed(account, region, life);
    }

    fn copied(&self, bytes: u64) {
        self.liveness.finished();
        self.requests.copied(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Failure;

    #[test]
    fn the_page_shows_the_counts() {
        let metrics = Metrics::new().expect("distinct names");
        metrics.reconciled(true, Duration::from_millis(3));
        metrics.pass_finished("uid", &Report::failed(Failure::new(Class::AccessDenied, "why")));

        let running = metrics.queue.add(false);
        running.start();
        let page = String::from_utf8(metrics.page().expect("encodes")).expect("text");

        for line in [
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"success\"} 1",
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"error\"} 0",
            "ecrsync_syncs_total{result=\"AccessDenied\"} 1",
            "controller_runtime_active_workers{controller=\"ecrrepositorysync\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }

        drop(running);
        let page = String::from_utf8(metrics.page().expect("encodes")).expect("text");
        assert!(
            page.contains("controller_runtime_active_workers{controller=\"ecrrepositorysync\"} 0")
        );
    }
}
