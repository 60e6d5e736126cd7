//! The job pool as a work queue, under the names that dashboards for controller-runtime ask for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};
use tokio::time::Instant;

/// The `name` label.
const NAME: &str = "ecrrepositorysync";

/// Counts jobs from their submission to their end.
#[derive(Clone, Debug)]
pub struct Queue {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    waited: Histogram,
    worked: Histogram,
    unfinished: Gauge,
    longest: Gauge,
    running: IntGauge,
    next: Arc<AtomicU64>,
    /// Jobs that wait or run, since when.
    jobs: Arc<Mutex<HashMap<u64, Job>>>,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Waiting(Instant),
    Running(Instant),
}

/// A job in the queue; it ends when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Queue,
    id: u64,
}

impl Queue {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("name", NAME);
        let histogram = |name: &str, help: &str| {
            HistogramOpts::new(name, help)
                .const_label("name", NAME)
                .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0])
        };
        Ok(Self {
            depth: IntGauge::with_opts(opts("workqueue_depth", "Passes that wait for a slot."))?,
            adds: IntCounter::with_opts(opts("workqueue_adds_total", "Passes submitted."))?,
            retries: IntCounter::with_opts(opts(
                "workqueue_retries_total",
                "Passes that repeat a failed one.",
            ))?,
            waited: Histogram::with_opts(histogram(
                "workqueue_queue_duration_seconds",
                "Time that passes waited for a slot.",
            ))?,
            worked: Histogram::with_opts(histogram(
                "workqueue_work_duration_seconds",
                "Time that passes took.",
            ))?,
            unfinished: Gauge::with_opts(opts(
                "workqueue_unfinished_work_seconds",
                "Time that all running passes have taken so far.",
            ))?,
            longest: Gauge::with_opts(opts(
                "workqueue_longest_running_processor_seconds",
                "Time that the longest running pass has taken so far.",
            ))?,
            running: IntGauge::with_opts(
                Opts::new("controller_runtime_active_workers", "Passes that run now.")
                    .const_label("controller", NAME),
            )?,
            next: Arc::default(),
            jobs: Arc::default(),
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 8] {
        [
            Box::new(self.depth.clone()),
            Box::new(self.adds.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.waited.clone()),
            Box::new(self.worked.clone()),
            Box::new(self.unfinished.clone()),
            Box::new(self.longest.clone()),
            Box::new(self.running.clone()),
        ]
    }

    /// A pass was submitted.
    #[must_use]
    pub fn add(&self, is_retry: bool) -> Ticket {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.adds.inc();
        if is_retry {
            self.retries.inc();
        }
        self.lock().insert(id, Job::Waiting(Instant::now()));
        Ticket { queue: self.clone(), id }
    }

    /// Since when the pass that waits longest for a slot has waited.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Instant> {
        let jobs = self.lock();
        jobs.values()
            .filter_map(|job| if let Job::Waiting(since) = job { Some(*since) } else { None })
            .min()
    }

    /// Brings the gauges up to date that are a matter of time.
    pub(super) fn refresh(&self) {
        let jobs = self.lock();
        let running = || {
            jobs.values().filter_map(|job| {
                if let Job::Running(since) = job { Some(since.elapsed()) } else { None }
            })
        };
        self.depth.set(i64::try_from(jobs.len() - running().count()).unwrap_or(i64::MAX));
        self.running.set(i64::try_from(running().count()).unwrap_or(i64::MAX));
        self.unfinished.set(running().map(|time| time.as_secs_f64()).sum());
        self.longest.set(running().max().unwrap_or_default().as_secs_f64());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The pass has its slot.
    pub fn start(&self) {
        if let Some(Job::Waiting(since)) =
            self.queue.lock().insert(self.id, Job::Running(Instant::now()))
        {
            self.queue.waited.observe(since.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(Job::Running(since)) = self.queue.lock().remove(&self.id) {
            self.queue.worked.observe(since.elapsed().as_secs_f64());
        }
    }
}
