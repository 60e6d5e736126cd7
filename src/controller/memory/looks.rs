//! The look at ECR on which a pass relies, and the passes that read everything.

use std::time::Duration;

use tokio::time::Instant;

use super::Memory;
use crate::controller::backoff::JITTER;
use crate::sync::{Look, Report};

impl Memory {
    /// Returns the look that the pass which has just started may rely on. `None` makes the pass read
    /// everything: if it is forced, and every `drift_interval`. Starts an inspection if one is due.
    /// Before the first look of this process, the one that is `recorded` in the status counts, with
    /// its age.
    pub(in crate::controller) fn look(
        &mut self,
        drift_interval: Duration,
        recorded: impl FnOnce() -> Option<(Look, Duration)>,
    ) -> Option<Look> {
        if self.looked_at.is_none()
            && let Some((look, age)) = recorded()
        {
            self.looked_at = Instant::now().checked_sub(age);
            self.look = Some(Box::new(look));
        }

        // Jitter makes passes up to a tenth early.
        let is_over = |at: Instant| at.elapsed() >= drift_interval.mul_f64(1.0 - JITTER);
        let is_forced = self.answering.as_ref().is_some_and(|request| request.is_forced);
        let inspects = self.inspections.begin(is_forced, drift_interval);
        if inspects || self.looked_at.is_none_or(is_over) {
            return None;
        }
        let look = self.look.as_deref().cloned()?;
        Some(if self.answering.is_some() { look.without_assumptions() } else { look })
    }

    /// Whether the running pass is an inspection. [`Self::look`] decides it.
    pub(in crate::controller) const fn inspects(&self) -> bool {
        self.inspections.is_running()
    }

    /// Records the end of a pass for the schedule of inspections, and its look for tags to prune.
    pub(in crate::controller) fn inspected(
        &mut self,
        report: &Report,
        uid: &str,
        drift_interval: Duration,
    ) {
        self.inspections.ended(report, uid, drift_interval);
        if report.pruning.is_some() {
            self.pruning = report.pruning.clone().map(Box::new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::controller::memory::Memories;
    use crate::controller::requests::Requests;
    use crate::sync::{Failure, Progress};

    fn failed() -> Report {
        Report::failed(Failure::new(Class::RegistryUnavailable, "x"))
    }

    /// Starts a pass. Returns the look that it may rely on.
    fn begin(memory: &mut Memory, interval: Duration) -> Option<Look> {
        memory.started(&Progress::default());
        memory.look(interval, || None)
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_read_again_if_forced_after_a_failure_and_every_drift_interval() {
        let interval = Duration::from_secs(6 * 3600);
        let whole =
            Report { look: Some(Look::of_test()), configuration_read: true, ..Report::default() };
        let brief = Report { configuration_read: false, ..whole.clone() };
        let mut memory = Memory::default();

        assert_eq!(begin(&mut memory, interval), None, "before the first pass");
        memory.finished(&whole, interval);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            assert!(begin(&mut memory, interval).is_some());
            memory.finished(&brief, interval);
        }

        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(begin(&mut memory, interval), None, "the interval is over");
        memory.finished(&whole, interval);
        assert!(begin(&mut memory, interval).is_some());

        memory.request(&Requests::of_test("now", false), None);
        assert!(begin(&mut memory, interval).is_some(), "on demand");
        memory.finished(&brief, interval);
        memory.request(&Requests::of_test("now", true), Some("now"));
        assert_eq!(begin(&mut memory, interval), None, "forced");
        memory.finished(&whole, interval);
        assert!(begin(&mut memory, interval).is_some(), "forced once");

        memory.finished(&failed(), interval);
        assert_eq!(begin(&mut memory, interval), None, "the result of the failed pass is unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn the_look_in_the_status_counts_until_the_interval_since_it_is_over() {
        let interval = Duration::from_secs(6 * 3600);
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let brief = Report { look: Some(Look::of_test()), ..Report::default() };
        let begin = |memory: &mut Memory, age: Duration| {
            memory.started(&Progress::default());
            memory.look(interval, || Some((Look::of_test(), age))).is_some()
        };

        assert!(!begin(&mut Memory::default(), hours(6)), "too old");
        let mut memory = Memory::default();
        assert!(begin(&mut memory, hours(4)));
        memory.finished(&brief, interval);
        tokio::time::advance(hours(1)).await;
        assert!(begin(&mut memory, hours(0)));
        memory.finished(&brief, interval);
        tokio::time::advance(hours(1)).await;
        assert!(!begin(&mut memory, hours(0)), "the status is read only once");

        let mut memory = Memory::default();
        assert!(begin(&mut memory, hours(1)));
        memory.finished(&failed(), interval);
        assert!(!begin(&mut memory, hours(1)), "not after a failed pass");
    }

    #[tokio::test(start_paused = true)]
    async fn inspections_come_if_forced_and_every_drift_interval_but_not_after_start_or_failure() {
        let interval = Duration::from_secs(6 * 3600);
        let report =
            Report { look: Some(Look::of_test()), configuration_read: true, ..Report::default() };
        let mut memory = Memory::default();
        let passes = |memory: &mut Memory, report: &Report| {
            let look = begin(memory, interval);
            memory.inspected(report, "uid", interval);
            memory.finished(report, interval);
            (look.is_some(), memory.inspects())
        };

        assert_eq!(
            passes(&mut memory, &report),
            (false, false),
            "after a start everything is read, without an inspection"
        );
        assert_eq!(passes(&mut memory, &report), (true, false));

        // A pass that fails each time reads everything each time, but inspects once per interval.
        let unknown = Report { look: None, ..report.clone() };
        let mut inspected = 0;
        for _ in 0..24 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            inspected += u32::from(passes(&mut memory, &unknown).1);
        }
        assert_eq!(inspected, 4);

        memory.request(&Requests::of_test("now", true), None);
        assert_eq!(passes(&mut memory, &report), (false, true), "forced");
        assert_eq!(passes(&mut memory, &report), (true, false));
    }

    #[test]
    fn a_forced_request_is_carried_over_to_a_new_generation_only_if_its_pass_was_cut_short() {
        let memories = Memories::default();
        memories.add("a");
        let is_whole = |generation| {
            memories.with("a", generation, |memory| {
                memory.started(&Progress::default());
                memory.inspections.begin(
                    memory.answering.as_ref().is_some_and(|request| request.is_forced),
                    Duration::from_secs(3600),
                )
            })
        };

        memories.with("a", 1, |memory| memory.request(&Requests::of_test("now", true), None));
        assert!(is_whole(1));
        assert!(is_whole(2), "the pass of the first generation was cancelled");
        memories
            .with("a", 2, |memory| memory.finished(&Report::default(), Duration::from_secs(3600)));
        assert!(!is_whole(3), "it was answered");
    }
}
