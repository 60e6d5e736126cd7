//! Memory of a resource between two reconciles. A lost memory costs a check, never correctness.

mod inspections;
mod looks;
mod written;

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::inspections::Inspections;
pub(super) use self::written::Written;
use super::backoff::{self, LONGEST_WAIT, jittered};
use super::requests::{Request, Requests};
use crate::class::Class;
use crate::hash::Fingerprint;
use crate::sync::{Attempts, Failure, Held, Look, Progress, Pruning, Report, Snapshot};

/// Most events of one resource in [`EVENT_WINDOW`]. Further events are skipped.
const MAX_EVENTS: u32 = 20;
/// See [`MAX_EVENTS`].
const EVENT_WINDOW: Duration = Duration::from_secs(600);

/// Time after which a new resource reports that its first pass has not ended. Most passes end sooner,
/// so they cost the API server one write less.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// Least time between two reports of progress in the status.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// The memory of one resource. There is one for each, so that large parts that most resources lack, or
/// lack most of the time, are boxed.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Generation that the other fields are about.
    pub(super) generation: i64,
    /// Time when the generation was first reconciled.
    seen: Option<Instant>,
    /// Failed passes in a row.
    pub(super) failures: u32,
    /// Time of the next pass; `None` before the first.
    pub(super) due: Option<Instant>,
    /// Whether the resource was suspended at the last reconcile.
    pub(super) suspended: Option<bool>,
    /// Requests that were acted on.
    requests: Option<Requests>,
    /// Request that the next pass answers.
    asked: Option<Request>,
    /// Request that the running pass answers: it came before the pass began.
    pub(super) answering: Option<Request>,
    /// Whether another pass is due at once when the running one ends: something changed meanwhile.
    again: bool,
    /// Time when the pass was submitted that has not ended.
    submitted: Option<Instant>,
    /// Progress of the running pass, and the time of its last report in the status.
    progress: Option<(Progress, Instant)>,
    /// Report and end of a pass whose status could not be written.
    pub(super) unwritten: Option<(Box<Report>, Timestamp)>,
    /// The source for which the next pass waits: its host is down.
    waits_for: Option<Fingerprint>,
    /// Failed reconciles in a row.
    failed_reconciles: u32,
    /// Start of the window, and the events since then.
    events: (Option<Instant>, u32),
    /// Tags in ECR at the end of the last complete pass.
    pub(super) held: Held,
    /// Result of the last whole look at ECR, of this process or as the status has it.
    look: Option<Box<Look>>,
    /// Time of that look.
    looked_at: Option<Instant>,
    /// Schedule of the inspections.
    inspections: Inspections,
    /// Result of the last look for tags to prune.
    pub(super) pruning: Option<Box<Pruning>>,
    /// Values that ECR did not keep as they were written. They outlive the generation.
    pub(super) attempts: Attempts,
    /// The last write.
    pub(super) written: Option<Box<Written>>,
}

/// The memories of all resources, by UID.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<HashMap<Box<str>, Box<Memory>>>);

impl Memories {
    /// Makes the memory of a resource that the watch has shown.
    pub(super) fn add(&self, uid: &str) {
        let mut all = self.0.lock();
        if !all.contains_key(uid) {
            all.insert(uid.into(), Box::default());
        }
    }

    /// Whether the resource exists, as far as the watch has shown.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.0.lock().contains_key(uid)
    }

    /// Reads or changes the memory of a resource. A new generation starts with an empty memory, but
    /// for the fields that outlive it. A reconcile that still runs after the deletion of its resource
    /// gets a memory that nobody keeps.
    pub(super) fn with<T>(
        &self,
        uid: &str,
        generation: i64,
        change: impl FnOnce(&mut Memory) -> T,
    ) -> T {
        let mut all = self.0.lock();
        let mut unkept = Box::default();
        let memory = all.get_mut(uid).unwrap_or(&mut unkept);

        if memory.generation != generation {
            **memory = Memory {
                generation,
                seen: Some(Instant::now()),
                suspended: memory.suspended,
                written: memory.written.take(),
                requests: memory.requests.take(),
                // The pass that should answer is cancelled with its generation.
                asked: match memory.asked.take() {
                    Some(asked) => Some(asked.with(memory.answering.as_ref())),
                    None => memory.answering.take(),
                },
                attempts: std::mem::take(&mut memory.attempts),
                inspections: memory.inspections.renewed(),
                events: memory.events,
                ..Memory::default()
            };
        }

        change(memory)
    }

    /// Makes a pass due now, after a change outside of the resource. Failures count from zero.
    pub(super) fn wake(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.due = Some(Instant::now());
            memory.failures = 0;
            memory.again = true;
        }
    }

    /// Makes the next pass due now if the last one failed. Returns whether it did.
    pub(super) fn wake_failed(&self, uid: &str) -> bool {
        let failed = self.0.lock().get(uid).is_some_and(|memory| memory.failures > 0);
        if failed {
            self.wake(uid);
        }
        failed
    }

    /// Returns the resources that wait for a source whose host is down, with that source, in the same
    /// order each time.
    pub(super) fn waiting_for_sources(&self) -> Vec<(String, Fingerprint)> {
        let all = self.0.lock();
        let waiting = all.iter().filter(|(_, memory)| memory.submitted.is_none());
        let waiting =
            waiting.filter_map(|(uid, memory)| Some((uid.to_string(), memory.waits_for?)));
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        waiting
    }

    /// Makes the pass of a resource due now that waits for its source.
    pub(super) fn ask_source(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid)
            && memory.waits_for.take().is_some()
        {
            memory.due = Some(Instant::now());
        }
    }

    /// Returns the time since when a pass has been due, of the pass that has waited longest.
    pub(super) fn oldest_due(&self) -> Option<Instant> {
        let all = self.0.lock();
        let now = Instant::now();
        let due = all
            .values()
            .filter(|memory| memory.submitted.is_none() && memory.suspended != Some(true));
        due.filter_map(|memory| memory.due).filter(|due| *due <= now).min()
    }

    /// Whether one more event of this resource may be written now. Counts it.
    pub(super) fn may_publish(&self, uid: &str) -> bool {
        let mut all = self.0.lock();
        let mut unkept = Box::default();
        let (start, count) = &mut all.get_mut(uid).unwrap_or(&mut unkept).events;
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

    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.0.lock().retain(|uid, _| exists(uid));
    }
}

impl Memory {
    /// Records the requests of the resource. Makes a pass due now if one is new.
    pub(super) fn request(&mut self, requests: &Requests, handled: Option<&str>) {
        if self.requests.as_ref() == Some(requests) {
            return;
        }
        if let Some(request) = requests.pending(self.requests.as_ref(), handled) {
            self.asked = Some(request.with(self.asked.as_ref()));
            self.due = Some(Instant::now());
            self.again = true;
        }
        self.requests = Some(requests.clone());
    }

    /// Whether the next pass should see a change that no pass has seen: a request, or a change
    /// outside of the resource.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some() || self.again
    }

    /// Returns the time when the generation was first reconciled.
    pub(super) fn first_seen(&mut self) -> Instant {
        *self.seen.get_or_insert_with(Instant::now)
    }

    /// Records that a pass waits for its start.
    pub(super) fn submitted(&mut self) {
        self.submitted = Some(Instant::now());
    }

    /// Whether the pass that has not ended was submitted long ago.
    pub(super) fn is_slow(&self) -> bool {
        self.submitted.is_some_and(|submitted| submitted.elapsed() >= SLOW)
    }

    /// Records the start of a pass. The pass sees every change up to now.
    pub(super) fn started(&mut self, progress: &Progress) {
        self.again = false;
        self.progress = Some((progress.clone(), Instant::now()));
        if let Some(asked) = self.asked.take() {
            self.answering = Some(asked);
        }
    }

    /// Returns the progress of the running pass if it copies and a report of it is due.
    pub(super) fn progress(&mut self) -> Option<Snapshot> {
        let (progress, reported) = self.progress.as_mut()?;
        let snapshot = progress.snapshot();
        if !snapshot.is_copying() || reported.elapsed() < PROGRESS_EVERY {
            return None;
        }
        *reported = Instant::now();
        Some(snapshot)
    }

    /// Records a failed reconcile. Returns the wait until the next.
    pub(super) fn refused(&mut self) -> Duration {
        self.failed_reconciles = self.failed_reconciles.saturating_add(1);
        backoff::after_reconcile(self.failed_reconciles)
    }

    /// Records that the API server took a status.
    pub(super) fn accepted(&mut self) {
        self.failed_reconciles = 0;
    }

    /// Records the end of a pass. Returns the wait until the next. A resource whose only failure is
    /// that the host of a source is down waits until it answers, or for the longest wait.
    pub(super) fn finished(&mut self, report: &Report, interval: Duration) -> Duration {
        self.submitted = None;
        self.progress = None;
        self.answering = None;
        self.look = report.look.clone().map(Box::new);

        if report.configuration_read {
            self.looked_at = Some(Instant::now());
            self.attempts.clone_from(&report.attempts);
        }
        if let Some(held) = &report.held {
            self.held = held.clone();
        }

        let is_outage = |failure: &Failure| failure.class == Class::RegistryUnavailable;
        self.waits_for = report.outage.filter(|_| report.failures().all(is_outage));
        let wait = if report.is_success() {
            self.failures = 0;
            self.waits_for = None;
            interval
        } else if self.waits_for.is_some() {
            self.failures = self.failures.saturating_add(1);
            interval.min(LONGEST_WAIT)
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

    /// The memories of the resources `a` and `b`.
    fn memories() -> Memories {
        let memories = Memories::default();
        ["a", "b"].iter().for_each(|uid| memories.add(uid));
        memories
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

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_reported_at_most_once_a_minute() {
        let progress = Progress::default();
        let mut memory = Memory::default();
        memory.started(&progress);
        tokio::time::advance(PROGRESS_EVERY).await;
        assert_eq!(memory.progress(), None, "nothing is copied");

        progress.expects_tags(2);
        assert_eq!(memory.progress().map(|snapshot| snapshot.tags.of), Some(2));
        tokio::time::advance(PROGRESS_EVERY - Duration::from_secs(1)).await;
        assert_eq!(memory.progress(), None, "too early");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(memory.progress().is_some());

        memory.finished(&Report::default(), Duration::from_secs(3600));
        tokio::time::advance(PROGRESS_EVERY).await;
        assert_eq!(memory.progress(), None, "the pass has ended");
    }

    #[test]
    fn a_change_during_a_pass_makes_another_pass_due_at_its_end() {
        let memories = memories();
        memories.with("a", 1, |memory| memory.started(&Progress::default()));
        memories.wake("a");
        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert_eq!(wait, Duration::ZERO);
        memories.with("a", 1, |memory| memory.started(&Progress::default()));
        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert!(wait > Duration::from_secs(3000));
    }

    #[test]
    fn a_request_is_answered_by_a_pass_that_begins_after_it() {
        let requests = |value: &str| Requests::of_test(value, false);
        let answering = |memory: &mut Memory| memory.answering.clone().map(|request| request.value);
        let memories = memories();
        memories.with("a", 1, |memory| memory.started(&Progress::default()));
        memories.with("a", 1, |memory| memory.request(&requests("now"), None));
        assert_eq!(memories.with("a", 1, answering), None);

        let wait = memories
            .with("a", 1, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert_eq!(wait, Duration::ZERO);

        memories.with("a", 1, |memory| memory.started(&Progress::default()));
        assert_eq!(memories.with("a", 1, answering).as_deref(), Some("now"));

        // A new generation cancels that pass; the one that comes for it answers both.
        memories.with("a", 2, |memory| memory.started(&Progress::default()));
        assert_eq!(memories.with("a", 2, answering).as_deref(), Some("now"));

        memories.with("a", 2, |memory| memory.request(&requests("again"), Some("now")));
        memories.with("a", 3, |memory| memory.started(&Progress::default()));
        assert_eq!(memories.with("a", 3, answering).as_deref(), Some("again"));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_limited_per_object_and_window() {
        let memories = memories();
        let published = || (0..100).filter(|_| memories.may_publish("a")).count();
        assert_eq!(published(), MAX_EVENTS as usize);
        assert_eq!(published(), 0);
        assert!(memories.may_publish("b"));
        tokio::time::advance(EVENT_WINDOW + Duration::from_secs(1)).await;
        assert_eq!(published(), MAX_EVENTS as usize);
    }

    #[test]
    fn a_new_generation_forgets_failures() {
        let memories = memories();
        memories.with("a", 1, |memory| memory.failures = 7);
        assert_eq!(memories.with("a", 1, |memory| memory.failures), 7);
        assert_eq!(memories.with("a", 2, |memory| memory.failures), 0);
    }

    #[test]
    fn a_reconcile_that_runs_on_after_a_deletion_leaves_no_memory() {
        let memories = memories();
        memories.with("a", 1, |memory| memory.failures = 7);
        memories.forget("a");
        assert!(memories.may_publish("a"));
        assert_eq!(memories.with("a", 1, |memory| std::mem::take(&mut memory.failures)), 0);
        memories.wake("a");
        assert!(!memories.has("a") && memories.has("b"));

        memories.add("b");
        memories.with("b", 1, |memory| memory.failures = 7);
        memories.add("b");
        assert_eq!(memories.with("b", 1, |memory| memory.failures), 7, "the watch shows it again");
    }
}
