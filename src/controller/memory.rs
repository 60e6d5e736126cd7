//! What the controller remembers of an object between two reconciles. Losing it costs a check,
//! never correctness.

mod inspections;

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::inspections::Inspections;
use super::backoff::{self, JITTER, LONGEST_WAIT, jittered};
use super::requests::Requests;
use crate::api::v1alpha1::EcrRepositorySyncStatus;
use crate::sync::{Attempts, Held, Look, Pruning, Report};

/// Events of one object in [`EVENT_WINDOW`]; further events are no news.
const MAX_EVENTS: u32 = 20;
/// See [`MAX_EVENTS`].
const EVENT_WINDOW: Duration = Duration::from_secs(600);

/// What is remembered of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The generation that the rest speaks of.
    pub(super) generation: i64,
    /// Passes that failed in a row.
    pub(super) failures: u32,
    /// When the next pass is due; `None` before the first.
    pub(super) due: Option<Instant>,
    /// Whether the object was suspended when last seen.
    pub(super) suspended: Option<bool>,
    /// The requests that were acted on.
    requests: Option<Requests>,
    /// The request that the next pass answers.
    asked: Option<String>,
    /// The request that the running pass answers: it came before the pass began.
    pub(super) answering: Option<String>,
    /// Something that the running pass may not have seen: another one is due when it ends.
    again: bool,
    /// A pass was submitted and has not ended.
    running: bool,
    /// The report of a pass and when it ended, while its status cannot be written.
    pub(super) unwritten: Option<(Box<Report>, Timestamp)>,
    /// Reconciles that failed in a row.
    refusals: u32,
    /// Events since the start of the window.
    events: (Option<Instant>, u32),
    /// What was in ECR when the last complete pass ended.
    pub(super) held: Held,
    /// What the last whole look at ECR found.
    look: Option<Look>,
    /// When that was.
    looked_at: Option<Instant>,
    /// The next pass reads all.
    whole: bool,
    /// When it is looked whether ECR has all that indexes name, and what there is to prune.
    inspections: Inspections,
    /// What there was to prune when it was looked for last.
    pub(super) pruning: Option<Pruning>,
    /// Values that were written and not found again; they outlive the generation.
    pub(super) attempts: Attempts,
    /// What was written last.
    pub(super) written: Option<Written>,
}

/// A status that was written. The reflector may still show the object that it was based on.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The resource version of the object before.
    pub(super) based_on: Option<String>,
    /// And after.
    pub(super) version: Option<String>,
    pub(super) status: EcrRepositorySyncStatus,
}

/// The memory of all objects, by uid.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// Reads or changes what is remembered of an object. A new generation starts afresh.
    pub(super) fn with<T>(
        &self,
        uid: &str,
        generation: i64,
        change: impl FnOnce(&mut Memory) -> T,
    ) -> T {
        let mut all = self.0.lock();
        let memory = all.entry(uid.to_owned()).or_default();
        if memory.generation != generation {
            let is_asked = memory.asked.is_some() || memory.answering.is_some();
            *memory = Memory {
                generation,
                suspended: memory.suspended,
                written: memory.written.take(),
                requests: memory.requests.take(),
                // The pass that was to answer is cancelled with its generation.
                asked: memory.asked.take().or(memory.answering.take()),
                attempts: std::mem::take(&mut memory.attempts),
                inspections: memory.inspections.renewed(),
                whole: memory.whole || is_asked,
                events: memory.events,
                ..Memory::default()
            };
        }
        change(memory)
    }

    /// Makes a pass due now for an object that something outside of it changed for; failures count
    /// from new.
    pub(super) fn wake(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.due = Some(Instant::now());
            memory.failures = 0;
            memory.again = true;
        }
    }

    /// Since when the pass is due that has waited longest.
    pub(super) fn oldest_due(&self) -> Option<Instant> {
        let all = self.0.lock();
        let now = Instant::now();
        let due = all.values().filter(|memory| !memory.running && memory.suspended != Some(true));
        due.filter_map(|memory| memory.due).filter(|due| *due <= now).min()
    }

    /// Whether one more event of this object may be written now.
    pub(super) fn may_publish(&self, uid: &str) -> bool {
        let mut all = self.0.lock();
        let (start, count) = &mut all.entry(uid.to_owned()).or_default().events;
        let now = Instant::now();
        if start.is_none_or(|start| now.duration_since(start) > EVENT_WINDOW) {
            (*start, *count) = (Some(now), 0);
        }
        *count += 1;
        *count <= MAX_EVENTS
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|uid, _| is_there(uid));
    }
}

impl Memory {
    /// Takes in the requests of the object; makes a pass due now if one is new.
    pub(super) fn request(&mut self, requests: &Requests, handled: Option<&str>) {
        if self.requests.as_ref() == Some(requests) {
            return;
        }
        if let Some(value) = requests.pending(self.requests.as_ref(), handled) {
            self.asked = Some(value);
            self.whole = true;
            self.due = Some(Instant::now());
            self.again = true;
        }
        self.requests = Some(requests.clone());
    }

    /// Notes the start of a pass: it sees everything up to now.
    pub(super) fn started(&mut self) {
        self.again = false;
        self.running = true;
        if let Some(asked) = self.asked.take() {
            self.answering = Some(asked);
        }
    }

    /// What the next pass may rely on; nothing when all is to be read again: on demand, and every
    /// `drift_interval`.
    pub(super) fn look(&mut self, drift_interval: Duration) -> Option<Look> {
        // Passes come up to a tenth early.
        let is_over = |at: Instant| at.elapsed() >= drift_interval.mul_f64(1.0 - JITTER);
        let on_demand = std::mem::take(&mut self.whole);
        let inspects = self.inspections.begin(on_demand, drift_interval);
        if inspects || self.looked_at.is_none_or(is_over) { None } else { self.look.clone() }
    }

    /// Whether the pass that was given a [`Self::look`] asks the sources what indexes name.
    pub(super) const fn inspects(&self) -> bool {
        self.inspections.is_running()
    }

    /// Notes a reconcile that failed and returns the wait until the next.
    pub(super) fn refused(&mut self) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        backoff::after_reconcile(self.refusals)
    }

    /// Notes that the API server took what was written.
    pub(super) fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// Notes what a pass that ended left for the next look into indexes and what there is to prune.
    pub(super) fn inspected(&mut self, report: &Report, uid: &str, drift_interval: Duration) {
        self.inspections.ended(report, uid, drift_interval);
        if report.pruning.is_some() {
            self.pruning.clone_from(&report.pruning);
        }
    }

    /// Notes the end of a pass and returns the wait until the next.
    pub(super) fn finished(&mut self, report: &Report, interval: Duration) -> Duration {
        self.running = false;
        self.look.clone_from(&report.look);
        if report.is_whole {
            self.looked_at = Some(Instant::now());
            self.attempts.clone_from(&report.attempts);
        }
        if let Some(held) = &report.held {
            self.held = held.clone();
        }
        let wait = if report.is_success() {
            self.failures = 0;
            interval
        } else {
            self.failures = self.failures.saturating_add(1);
            backoff::after_pass(self.failures, report.failures()).min(interval.max(LONGEST_WAIT))
        };
        let wait = if self.again { Duration::ZERO } else { jittered(wait) };
        self.due = Some(Instant::now() + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::sync::Failure;

    fn failure(class: Class) -> Failure {
        Failure::new(class, "x")
    }

    #[test]
    fn an_api_server_that_refuses_is_asked_less_and_less_often() {
        let mut memory = Memory::default();
        let mut waits =
            |number| (0..number).map(|_| memory.refused().as_secs_f64()).collect::<Vec<_>>();
        for (wait, wanted) in waits(7).into_iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!(
                (0.9 * wanted..=1.1 * wanted).contains(&wait),
                "{wait} s instead of {wanted} s"
            );
        }
        memory.accepted();
        assert!(memory.refused() < Duration::from_secs(2));
    }

    #[test]
    fn what_came_during_a_pass_is_looked_at_right_after_it() {
        let memories = Memories::default();
        memories.with("a", 1, Memory::started);
        memories.wake("a");
        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert_eq!(wait, Duration::ZERO);
        memories.with("a", 1, Memory::started);
        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert!(wait > Duration::from_secs(3000));
    }

    /// A pass that began before a request has not looked at what the request is about.
    #[test]
    fn a_request_is_answered_by_a_pass_that_begins_after_it() {
        let requests = |value: &str| Requests { own: Some(value.to_owned()), flux: None };
        let memories = Memories::default();
        memories.with("a", 1, Memory::started);
        memories.with("a", 1, |memory| memory.request(&requests("now"), None));
        assert_eq!(memories.with("a", 1, |memory| memory.answering.clone()), None);
        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert_eq!(wait, Duration::ZERO);
        memories.with("a", 1, Memory::started);
        assert_eq!(
            memories.with("a", 1, |memory| memory.answering.clone()).as_deref(),
            Some("now")
        );
        // A new generation cancels that pass; the one that comes for it answers both.
        memories.with("a", 2, Memory::started);
        assert_eq!(
            memories.with("a", 2, |memory| memory.answering.clone()).as_deref(),
            Some("now")
        );
        memories.with("a", 2, |memory| memory.request(&requests("again"), Some("now")));
        memories.with("a", 3, Memory::started);
        assert_eq!(
            memories.with("a", 3, |memory| memory.answering.clone()).as_deref(),
            Some("again")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_limited_per_object_and_window() {
        let memories = Memories::default();
        let published = || (0..100).filter(|_| memories.may_publish("a")).count();
        assert_eq!(published(), MAX_EVENTS as usize);
        assert_eq!(published(), 0);
        assert!(memories.may_publish("b"));
        tokio::time::advance(EVENT_WINDOW + Duration::from_secs(1)).await;
        assert_eq!(published(), MAX_EVENTS as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_read_again_on_demand_after_a_failure_and_every_drift_interval() {
        let interval = Duration::from_secs(6 * 3600);
        let whole = Report { look: Some(Look::of_test()), is_whole: true, ..Report::default() };
        let brief = Report { is_whole: false, ..whole.clone() };
        let mut memory = Memory::default();
        assert_eq!(memory.look(interval), None, "before the first pass nothing is known");
        memory.finished(&whole, interval);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            assert!(memory.look(interval).is_some());
            memory.finished(&brief, interval);
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(memory.look(interval), None, "the interval is over");
        memory.finished(&whole, interval);
        assert!(memory.look(interval).is_some());
        memory.request(&Requests { own: Some("now".to_owned()), flux: None }, None);
        assert_eq!(memory.look(interval), None, "somebody asks");
        memory.finished(&whole, interval);
        memory.finished(&Report::failed(failure(Class::RegistryUnavailable)), interval);
        assert_eq!(memory.look(interval), None, "nobody knows what came of it");
    }

    #[tokio::test(start_paused = true)]
    async fn indexes_are_looked_into_on_demand_and_every_drift_interval_but_not_after_a_start_or_failure()
     {
        let interval = Duration::from_secs(6 * 3600);
        let report = Report { look: Some(Look::of_test()), is_whole: true, ..Report::default() };
        let mut memory = Memory::default();
        let passes = |memory: &mut Memory, report: &Report| {
            let look = memory.look(interval);
            memory.inspected(report, "uid", interval);
            memory.finished(report, interval);
            (look.is_some(), memory.inspects())
        };
        assert_eq!(
            passes(&mut memory, &report),
            (false, false),
            "after a start all is read, but for that"
        );
        assert_eq!(passes(&mut memory, &report), (true, false));
        // A pass that fails all the time reads all each time, and that once per interval.
        let failed = Report { look: None, ..report.clone() };
        let mut inspected = 0;
        for _ in 0..24 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            inspected += u32::from(passes(&mut memory, &failed).1);
        }
        assert_eq!(inspected, 4);
        memory.request(&Requests { own: Some("now".to_owned()), flux: None }, None);
        assert_eq!(passes(&mut memory, &report), (false, true), "somebody asks");
        assert_eq!(passes(&mut memory, &report), (true, false));
    }

    #[test]
    fn a_new_generation_forgets_failures() {
        let memories = Memories::default();
        memories.with("a", 1, |memory| memory.failures = 7);
        assert_eq!(memories.with("a", 1, |memory| memory.failures), 7);
        assert_eq!(memories.with("a", 2, |memory| memory.failures), 0);
    }
}
