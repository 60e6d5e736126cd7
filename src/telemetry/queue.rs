//! Metrics of the job pool as a work queue, with the names of controller-runtime (`workqueue_…`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry,
    register_gauge_with_registry, register_histogram_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};
use tokio::time::Instant;

/// Value of the label `name`.
const NAME: &str = "ecrrepositorysync";

/// Counts passes from their submission to their end.
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
    passes: Arc<Mutex<HashMap<u64, State>>>,
}

/// State of a pass, with the time since which it waits or runs.
#[derive(Clone, Copy, Debug)]
enum State {
    Waiting(Instant),
    Running(Instant),
}

/// A pass in the queue; it ends when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Queue,
    id: u64,
}

impl Queue {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("name", NAME);
        let histogram = |name: &str, help: &str| {
            HistogramOpts::new(name, help)
                .const_label("name", NAME)
                .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0])
        };

        Ok(Self {
            depth: register_int_gauge_with_registry!(
                opts("workqueue_depth", "Passes that wait for a slot."),
                registry
            )?,
            adds: register_int_counter_with_registry!(
                opts("workqueue_adds_total", "Passes added to the queue."),
                registry
            )?,
            retries: register_int_counter_with_registry!(
                opts("workqueue_retries_total", "Passes that retry a failed pass."),
                registry
            )?,
            waited: register_histogram_with_registry!(
                histogram(
                    "workqueue_queue_duration_seconds",
                    "Time that passes waited for a slot."
                ),
                registry
            )?,
            worked: register_histogram_with_registry!(
                histogram("workqueue_work_duration_seconds", "Duration of passes."),
                registry
            )?,
            unfinished: register_gauge_with_registry!(
                opts("workqueue_unfinished_work_seconds", "Sum of the ages of all running passes."),
                registry
            )?,
            longest: register_gauge_with_registry!(
                opts(
                    "workqueue_longest_running_processor_seconds",
                    "Age of the longest running pass."
                ),
                registry
            )?,
            running: register_int_gauge_with_registry!(
                Opts::new("controller_runtime_active_workers", "Passes that are running.")
                    .const_label("controller", NAME),
                registry
            )?,
            next: Arc::default(),
            passes: Arc::default(),
        })
    }

    /// Adds a pass.
    #[must_use]
    pub fn add(&self, is_retry: bool) -> Ticket {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.adds.inc();
        if is_retry {
            self.retries.inc();
        }
        self.passes.lock().insert(id, State::Waiting(Instant::now()));
        Ticket { queue: self.clone(), id }
    }

    /// Returns since when the oldest waiting pass waits for a slot.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Instant> {
        let passes = self.passes.lock();
        let waiting = |pass: &State| match pass {
            State::Waiting(since) => Some(*since),
            State::Running(_) => None,
        };

        passes.values().filter_map(waiting).min()
    }

    /// Returns the number of passes that have a slot.
    #[must_use]
    pub fn running(&self) -> usize {
        let passes = self.passes.lock();
        passes.values().filter(|pass| matches!(pass, State::Running(_))).count()
    }

    /// Updates the gauges that depend on time.
    pub(super) fn refresh(&self) {
        let passes = self.passes.lock();
        let age = |pass: &State| match pass {
            State::Waiting(_) => None,
            State::Running(since) => Some(since.elapsed()),
        };
        let running = || passes.values().filter_map(age);

        self.depth.set(i64::try_from(passes.len() - running().count()).unwrap_or(i64::MAX));
        self.running.set(i64::try_from(running().count()).unwrap_or(i64::MAX));
        self.unfinished.set(running().map(|time| time.as_secs_f64()).sum());
        self.longest.set(running().max().unwrap_or_default().as_secs_f64());
    }
}

impl Ticket {
    /// Records that the pass got its slot.
    pub fn start(&self) {
        if let Some(State::Waiting(since)) =
            self.queue.passes.lock().insert(self.id, State::Running(Instant::now()))
        {
            self.queue.waited.observe(since.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(State::Running(since)) = self.queue.passes.lock().remove(&self.id) {
            self.queue.worked.observe(since.elapsed().as_secs_f64());
        }
    }
}
