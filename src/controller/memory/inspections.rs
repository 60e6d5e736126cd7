//! Schedule of inspections. A pass that is an inspection also checks that ECR has all children of
//! indexes, and looks for tags to prune. It asks the sources for more than other passes do, so it
//! comes once per `driftInterval`, and if a request forces it.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::doubled;
use crate::controller::backoff::{JITTER, offset_in};
use crate::sync::Report;

/// Time without inspections after a change of the spec: a person can still notice a mistake before
/// tags are pruned.
const GRACE: Duration = Duration::from_secs(600);

/// The inspections of one resource. They outlive a generation: a spec that changes often is
/// inspected all the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Inspections {
    /// Time of the next inspection; `None` until the first pass has ended that knows the state of ECR.
    due: Option<Instant>,
    /// Whether the running pass is an inspection.
    is_running: bool,
    /// Inspections in a row that could not determine which tags to prune.
    blind: u32,
    /// First reconcile of the generation; `None` for the first generation.
    changed_at: Option<Instant>,
}

impl Inspections {
    /// Returns the schedule for a new generation.
    pub(super) fn renewed(&self) -> Self {
        Self { is_running: false, changed_at: Some(Instant::now()), ..self.clone() }
    }

    /// Decides whether the pass that begins is an inspection. A start or a failure is no reason for
    /// one: the sources would be asked for every index of every resource at once, or at each retry.
    pub(super) fn begin(&mut self, is_forced: bool, drift_interval: Duration) -> bool {
        let now = Instant::now();
        // The interval may have become shorter.
        self.due = self.due.map(|due| due.min(now + drift_interval));
        let has_changed = self.changed_at.is_some_and(|at| now < at + GRACE);
        // If it is long overdue it comes all the same: the spec may change all the time.
        let is_due = |due: Instant| due <= now && (!has_changed || due + drift_interval <= now);
        self.is_running = is_forced || self.due.is_some_and(is_due);
        self.is_running
    }

    /// Whether the running pass is an inspection.
    pub(super) const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Records the end of a pass. After a start, the inspections are spread over the interval.
    pub(super) fn ended(&mut self, report: &Report, uid: &str, drift_interval: Duration) {
        // After a start, the look that the status has may save the first whole pass.
        let is_first = self.due.is_none() && report.look.is_some();
        if !report.configuration_read && !is_first {
            return;
        }

        // Jitter makes passes up to a tenth early.
        let interval = drift_interval.mul_f64(1.0 - JITTER);
        let wait = if self.is_running {
            let sooner = report.pruning_blocked().and_then(|blocked| blocked.retry_after);
            self.blind = if sooner.is_some() { self.blind.saturating_add(1) } else { 0 };
            Some(sooner.map_or(interval, |first| doubled(first, self.blind, interval)))
        } else {
            self.due.is_none().then(|| offset_in(interval, uid))
        };

        if let Some(wait) = wait {
            self.due = Some(Instant::now() + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::sync::{Failure, Pruning};

    const INTERVAL: Duration = Duration::from_secs(6 * 3600);
    const HOUR: Duration = Duration::from_secs(3600);

    fn whole() -> Report {
        Report { configuration_read: true, ..Report::default() }
    }

    /// A report of a pass whose source could not be reached.
    fn blocked() -> Report {
        let mut blocked = Failure::new(Class::PruneBlocked, "why");
        blocked.retry_after = Some(Duration::from_secs(1800));
        Report {
            pruning: Some(Pruning { blocked: Some(blocked), ..Pruning::default() }),
            ..whole()
        }
    }

    fn pass(inspections: &mut Inspections, report: &Report) -> bool {
        let inspects = inspections.begin(false, INTERVAL);
        inspections.ended(report, "a", INTERVAL);
        inspects
    }

    #[tokio::test(start_paused = true)]
    async fn inspections_come_once_per_interval_and_not_with_the_first_pass() {
        let mut inspections = Inspections::default();
        assert!(!pass(&mut inspections, &whole()));

        let mut count = 0;
        for _ in 0..24 {
            tokio::time::advance(HOUR).await;
            count += u32::from(pass(&mut inspections, &whole()));
        }
        assert_eq!(count, 4);

        // An inspection that was cut short does not count.
        tokio::time::advance(INTERVAL).await;
        assert!(pass(&mut inspections, &Report::default()) && pass(&mut inspections, &whole()));
        assert!(inspections.begin(true, INTERVAL), "forced");
    }

    #[tokio::test(start_paused = true)]
    async fn inspections_come_if_the_spec_changes_every_hour_but_not_right_after_a_change() {
        let mut inspections = Inspections::default();
        let mut count = 0;
        for _ in 0..48 {
            inspections = inspections.renewed();
            count += u32::from(pass(&mut inspections, &whole()));
            tokio::time::advance(HOUR).await;
        }

        // Every other interval: each time one is overdue.
        assert!((3..=5).contains(&count), "{count}");
        tokio::time::advance(INTERVAL).await;
        while !pass(&mut inspections, &whole()) {}

        tokio::time::advance(INTERVAL).await;
        inspections = inspections.renewed();
        assert!(!pass(&mut inspections, &whole()), "the spec has just changed");
        tokio::time::advance(GRACE).await;
        assert!(pass(&mut inspections, &whole()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_inspection_is_repeated_soon_and_then_less_and_less_often() {
        let mut inspections = Inspections::default();
        pass(&mut inspections, &whole());
        tokio::time::advance(INTERVAL).await;

        for half_hours in [1, 2, 4, 8] {
            assert!(pass(&mut inspections, &blocked()), "{half_hours}");
            tokio::time::advance(HOUR / 2 * half_hours - Duration::from_secs(1)).await;
            assert!(!pass(&mut inspections, &whole()), "{half_hours}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }

        assert!(pass(&mut inspections, &blocked()));
        tokio::time::advance(INTERVAL).await;
        assert!(pass(&mut inspections, &whole()), "no longer than the interval");
        tokio::time::advance(INTERVAL).await;
        assert!(pass(&mut inspections, &blocked()));
        tokio::time::advance(HOUR / 2).await;
        assert!(pass(&mut inspections, &whole()), "soon again");
    }
}
