//! Metrics of the job pool: as a work queue, with the names of controller-runtime (`workqueue_…`), and
//! by class and use of the places (`ecrsync_queue_…`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry,
    register_gauge_vec_with_registry, register_gauge_with_registry,
    register_histogram_with_registry, register_int_counter_with_registry,
    register_int_gauge_vec_with_registry, register_int_gauge_with_registry,
};
use strum::{IntoStaticStr, VariantArray};
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
    waiting: IntGaugeVec,
    oldest: GaugeVec,
    begun: IntGaugeVec,
    first_calls: Histogram,
    next: Arc<AtomicU64>,
    passes: Arc<Mutex<HashMap<u64, Pass>>>,
}

/// A pass that was added and has not ended.
#[derive(Clone, Copy, Debug)]
struct Pass {
    class: &'static str,
    added: Instant,
    /// The start of the pass, and its place.
    running: Option<(Instant, Place)>,
}

/// The use that a pass makes of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Place {
    /// A place for calls to AWS.
    Control,
    /// No place: the pass waits for one to copy.
    BeforeCopy,
    /// A place to copy.
    Copy,
    /// No place: the pass waits for a host or a rate limit.
    Aside,
}

/// Classes of passes, the most urgent first.
pub(crate) const CLASSES: [&str; 4] = ["changed", "on_demand", "retry", "periodic"];

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
            waiting: register_int_gauge_vec_with_registry!(
                "ecrsync_queue_waiting",
                "Passes that wait for their first place, by class.",
                &["class"],
                registry
            )?,
            oldest: register_gauge_vec_with_registry!(
                "ecrsync_queue_oldest_seconds",
                "Age of the pass that has waited longest for its first place, by class.",
                &["class"],
                registry
            )?,
            begun: register_int_gauge_vec_with_registry!(
                "ecrsync_queue_begun",
                "Passes that have begun, by their place: control, copy, before_copy (waits for a \
                 place to copy), or aside (waits for a host or a rate limit, without a place).",
                &["place"],
                registry
            )?,
            first_calls: register_histogram_with_registry!(
                HistogramOpts::new(
                    "ecrsync_change_to_first_call_seconds",
                    "Time from a new or changed resource to the first AWS call of its pass."
                )
                .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0]),
                registry
            )?,
            next: Arc::default(),
            passes: Arc::default(),
        })
    }

    /// Adds a pass of one of [`CLASSES`].
    #[must_use]
    pub fn add(&self, class: &'static str, is_retry: bool) -> Ticket {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.adds.inc();
        if is_retry {
            self.retries.inc();
        }
        let pass = Pass { class, added: Instant::now(), running: None };
        self.passes.lock().insert(id, pass);
        Ticket { queue: self.clone(), id }
    }

    /// Returns since when the oldest waiting pass waits for a place.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Instant> {
        let passes = self.passes.lock();
        passes.values().filter(|pass| pass.running.is_none()).map(|pass| pass.added).min()
    }

    /// Returns the number of passes that have a place for control.
    #[must_use]
    pub fn running(&self) -> usize {
        let passes = self.passes.lock();
        let has_place =
            |pass: &&Pass| pass.running.is_some_and(|(_, place)| place == Place::Control);
        passes.values().filter(has_place).count()
    }

    /// Updates the gauges that depend on time.
    pub(super) fn refresh(&self) {
        let passes = self.passes.lock();
        let running =
            || passes.values().filter_map(|pass| Some(pass.running?.0.elapsed().as_secs_f64()));
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);

        self.depth.set(gauge(passes.len() - running().count()));
        self.running.set(gauge(running().count()));
        self.unfinished.set(running().sum());
        self.longest.set(running().fold(0.0, f64::max));

        for class in CLASSES {
            let is_one = |pass: &&Pass| pass.class == class && pass.running.is_none();
            let waiting = || passes.values().filter(is_one);
            let oldest = waiting().map(|pass| pass.added.elapsed().as_secs_f64());
            self.waiting.with_label_values(&[class]).set(gauge(waiting().count()));
            self.oldest.with_label_values(&[class]).set(oldest.fold(0.0, f64::max));
        }
        for place in Place::VARIANTS {
            let is_there = |pass: &&Pass| pass.running.is_some_and(|(_, at)| at == *place);
            let count = passes.values().filter(is_there).count();
            let name: &str = place.into();
            self.begun.with_label_values(&[name]).set(gauge(count));
        }
    }
}

impl Ticket {
    /// Records that the pass is in another class.
    pub fn promote(&self, class: &'static str) {
        if let Some(pass) = self.queue.passes.lock().get_mut(&self.id) {
            pass.class = class;
        }
    }

    /// Records the first AWS call of a pass that carries out a change.
    pub fn first_call(&self, changed: Instant) {
        self.queue.first_calls.observe(changed.elapsed().as_secs_f64());
    }

    /// Records the place of the pass. With its first place it starts.
    pub fn at(&self, place: Place) {
        let mut passes = self.queue.passes.lock();
        let Some(pass) = passes.get_mut(&self.id) else { return };
        if let Some((_, at)) = &mut pass.running {
            *at = place;
            return;
        }
        pass.running = Some((Instant::now(), place));
        self.queue.waited.observe(pass.added.elapsed().as_secs_f64());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let pass = self.queue.passes.lock().remove(&self.id);
        if let Some((since, _)) = pass.and_then(|pass| pass.running) {
            self.queue.worked.observe(since.elapsed().as_secs_f64());
        }
    }
}
