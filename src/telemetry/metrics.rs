//! Metrics. Reconcile metrics have controller-runtime's names, since those are what people's dashboards ask for.
//! Labels come from closed sets: never a tag, a digest or a resource name.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::resources::Resources;
use crate::class::Class;
use crate::sync::Report;

/// The `controller` label: controller-runtime's default is the lower-case kind.
const CONTROLLER: &str = "ecrrepositorysync";

/// All metrics of the process. Clones share the same values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_total: IntCounterVec,
    reconcile_time: Histogram,
    /// Reconciles that panicked.
    pub reconcile_panics: IntCounter,
    /// Status patches sent.
    pub status_writes: IntCounter,
    /// Series per resource.
    pub resources: Resources,
    passes: IntCounterVec,
    jobs_running: IntGauge,
    tags_copied: IntCounter,
}

/// Counts a running job until dropped.
#[derive(Debug)]
pub struct RunningJob(IntGauge);

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Only if a name were given twice, which would be a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let controller = |name: &str, help: &str| Opts::new(name, help).const_label("controller", CONTROLLER);
        let metrics = Self {
            reconcile_total: IntCounterVec::new(
                controller("controller_runtime_reconcile_total", "Reconciles by result."),
                &["result"],
            )?,
            reconcile_time: Histogram::with_opts(
                HistogramOpts::new("controller_runtime_reconcile_time_seconds", "Time of a reconcile.")
                    .const_label("controller", CONTROLLER)
                    .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0]),
            )?,
            reconcile_panics: IntCounter::with_opts(controller(
                "controller_runtime_reconcile_panics_total",
                "Reconciles that panicked.",
            ))?,
            status_writes: IntCounter::new("ecrsync_status_writes_total", "Status patches sent to the API server.")?,
            resources: Resources::new()?,
            passes: IntCounterVec::new(
                Opts::new("ecrsync_syncs_total", "Passes over a repository, by the kind of their first failure."),
                &["result"],
            )?,
            jobs_running: IntGauge::new("ecrsync_jobs_running", "Passes that run now.")?,
            tags_copied: IntCounter::new("ecrsync_tags_copied_total", "Tags written to ECR.")?,
            registry,
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 7] = [
            Box::new(metrics.reconcile_total.clone()),
            Box::new(metrics.reconcile_time.clone()),
            Box::new(metrics.reconcile_panics.clone()),
            Box::new(metrics.status_writes.clone()),
            Box::new(metrics.passes.clone()),
            Box::new(metrics.jobs_running.clone()),
            Box::new(metrics.tags_copied.clone()),
        ];
        for collector in collectors.into_iter().chain(metrics.resources.collectors()) {
            metrics.registry.register(collector)?;
        }
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        // Series exist before their first event: a rate over a series that appears with 1 sees nothing.
        for result in ["success", "error"] {
            metrics.reconcile_total.with_label_values(&[result]);
        }
        metrics.passes.with_label_values(&["Succeeded"]);
        for class in Class::ALL {
            metrics.passes.with_label_values(&[class.reason()]);
        }
        Ok(metrics)
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, ok: bool, took: Duration) {
        self.reconcile_total.with_label_values(&[if ok { "success" } else { "error" }]).inc();
        self.reconcile_time.observe(took.as_secs_f64());
    }

    /// Counts a job as running for as long as the result lives.
    #[must_use]
    pub fn job_started(&self) -> RunningJob {
        self.jobs_running.inc();
        RunningJob(self.jobs_running.clone())
    }

    /// Drops the series of a resource.
    pub fn forget(&self, uid: &str) {
        self.resources.forget(uid);
    }

    /// Drops the series of all resources but these.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.resources.retain(is_there);
    }

    /// Counts a pass by its result.
    pub fn pass_finished(&self, report: &Report) {
        let result = report.failures().next().map_or("Succeeded", |failure| failure.class.reason());
        self.passes.with_label_values(&[result]).inc();
        if let Some(image) = &report.image {
            self.tags_copied.inc_by(u64::try_from(image.copied).unwrap_or_default());
        }
    }

    /// The page in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn page(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Failure;

    #[test]
    fn the_page_shows_what_was_counted() {
        let metrics = Metrics::new().expect("distinct names");
        metrics.reconciled(true, Duration::from_millis(3));
        metrics.pass_finished(&Report::failed(Failure::new(Class::AccessDenied, "why")));
        let running = metrics.job_started();
        let page = String::from_utf8(metrics.page().expect("encodes")).expect("text");
        for line in [
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"success\"} 1",
            "controller_runtime_reconcile_total{controller=\"ecrrepositorysync\",result=\"error\"} 0",
            "ecrsync_syncs_total{result=\"AccessDenied\"} 1",
            "ecrsync_jobs_running 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        drop(running);
        let page = String::from_utf8(metrics.page().expect("encodes")).expect("text");
        assert!(page.contains("ecrsync_jobs_running 0"));
    }
}
