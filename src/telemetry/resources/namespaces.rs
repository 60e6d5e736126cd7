//! Series by namespace and reason. Their number does not grow with the number of resources, and
//! with the number of namespaces only up to a limit.

use std::collections::{BTreeMap, HashMap};

use super::condition::{Condition, ConditionType, Second, Status};
use super::{Record, Table};
use crate::telemetry::exposition::{self, Gauge};

/// Most namespaces with series of their own: those with most resources. With 4 to 10 series of 100
/// bytes each, they take 40 to 100 kB; [`MAX_BYTES`] limits the latter.
const MAX_NAMESPACES: usize = 100;

/// Most bytes of the series of these namespaces. The whole page has less than 100 kB with them, the
/// sum of all others (3 kB, or 24 kB if it has every reason) and the other metrics (15 kB). If they
/// need more, the namespaces with fewest resources have no series of their own.
const MAX_BYTES: usize = 56 * 1024;

/// Value of the label `namespace` for the sum of all other namespaces. Not a valid name.
const OTHER: &str = "_other";

const RESOURCES: Gauge =
    ("ecrsync_resources", "EcrRepositorySyncs, by the status and reason of Ready.");
const TAGS: Gauge =
    ("ecrsync_tags", "Wanted tags of all resources, by namespace: synced or failed.");
const PROBLEMS: Gauge = (
    "ecrsync_problems",
    "Conditions that are not as they should be, of resources that are not suspended.",
);
const PROBLEM_OLDEST: Gauge = (
    "ecrsync_problem_oldest_timestamp_seconds",
    "Last transition of the condition that has not been as it should be for the longest time.",
);
const LAST_PASS_OLDEST: Gauge = (
    "ecrsync_last_pass_oldest_timestamp_seconds",
    "End of the last pass of the resource that has had no pass for the longest time.",
);
const LAST_PASS_NEWEST: Gauge =
    ("ecrsync_last_pass_newest_timestamp_seconds", "End of the last pass of any resource.");

/// The gauges in the order of the page.
const GAUGES: [Gauge; 6] =
    [RESOURCES, TAGS, PROBLEMS, PROBLEM_OLDEST, LAST_PASS_OLDEST, LAST_PASS_NEWEST];

/// Writes the series of all namespaces.
pub(super) fn write(table: &Table, page: &mut String) {
    let mut ranked: Vec<_> =
        table.namespaces.iter().map(|(name, number)| (&**name, *number)).collect();
    ranked.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
    ranked.truncate(MAX_NAMESPACES);

    let mut own: HashMap<&str, Sums> =
        ranked.iter().map(|(name, _)| (*name, Sums::default())).collect();
    let mut rest = Sums::default();
    for record in table.records.values() {
        own.get_mut(&*record.namespace).unwrap_or(&mut rest).add(record);
    }

    let mut series = Series::default();
    let mut is_full = false;
    for (name, _) in ranked {
        let sums = &own[name];
        is_full = is_full || !series.add_if_it_fits(name, sums);
        if is_full {
            rest.merge(sums);
        }
    }

    if !rest.resources.is_empty() {
        series.add(OTHER, &rest);
    }
    series.write(page);
}

/// Sums over the resources of one or several namespaces.
#[derive(Debug, Default)]
struct Sums {
    /// Number of resources by status and reason of Ready, and whether they are suspended.
    resources: BTreeMap<(Status, &'static str, bool), u64>,
    synced: u64,
    failed: u64,
    /// Number of problems, and the oldest.
    problems: BTreeMap<(ConditionType, Status, &'static str), (u64, Second)>,
    /// The oldest and the newest end of a last pass, of the resources that are not suspended.
    last_pass: Option<(Second, Second)>,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        let (ready, reason) = record.ready();
        *self.resources.entry((ready, reason, record.suspended)).or_default() += 1;
        self.synced += u64::from(record.synced);
        self.failed += u64::from(record.failed);

        for &Condition { type_, status, reason, since } in problems(record) {
            self.add_problems((type_, status, reason), (1, since));
        }
        if let Some(end) = record.last_pass.filter(|_| !record.suspended) {
            self.add_passes(end, end);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (state, number) in &other.resources {
            *self.resources.entry(*state).or_default() += number;
        }
        self.synced += other.synced;
        self.failed += other.failed;

        for (problem, oldest) in &other.problems {
            self.add_problems(*problem, *oldest);
        }
        if let Some((oldest, newest)) = other.last_pass {
            self.add_passes(oldest, newest);
        }
    }

    fn add_problems(
        &mut self,
        problem: (ConditionType, Status, &'static str),
        (number, since): (u64, Second),
    ) {
        let (sum, oldest) = self.problems.entry(problem).or_insert((0, since));
        *sum += number;
        *oldest = since.min(*oldest);
    }

    fn add_passes(&mut self, oldest: Second, newest: Second) {
        let (first, last) = self.last_pass.unwrap_or((oldest, newest));
        self.last_pass = Some((first.min(oldest), last.max(newest)));
    }
}

/// Returns the conditions of a resource that are not as they should be. A resource that is stalled
/// or not ready has only this problem, so that it has one alert.
fn problems(record: &Record) -> impl Iterator<Item = &Condition> {
    let is =
        |type_, status| record.condition(type_).is_some_and(|condition| condition.status == status);
    let is_stalled = is(ConditionType::Stalled, Status::True);
    let is_ready = is(ConditionType::Ready, Status::True);
    let is_unready = is(ConditionType::Ready, Status::False);

    record.conditions.iter().filter(move |condition| match condition.type_ {
        _ if record.suspended => false,
        ConditionType::Stalled => is_stalled,
        _ if is_stalled => false,
        ConditionType::Ready => !is_ready,
        ConditionType::Reconciling => false,
        // A dry run, or the first pass of a generation, cannot tell.
        _ if !is_ready => !is_unready && condition.status == Status::False,
        _ => condition.status != Status::True,
    })
}

/// The series of each gauge.
#[derive(Debug, Default)]
struct Series([String; GAUGES.len()]);

impl Series {
    /// Adds the series of a namespace, unless they would take more than [`MAX_BYTES`] with those
    /// that are there. Returns whether they were added.
    fn add_if_it_fits(&mut self, namespace: &str, sums: &Sums) -> bool {
        let before = self.0.each_ref().map(String::len);
        self.add(namespace, sums);
        let fits = self.0.iter().map(String::len).sum::<usize>() <= MAX_BYTES;
        if !fits {
            self.0.iter_mut().zip(before).for_each(|(text, length)| text.truncate(length));
        }
        fits
    }

    fn add(&mut self, namespace: &str, sums: &Sums) {
        let [resources, tags, problems, problem_oldest, pass_oldest, pass_newest] = &mut self.0;
        let namespace = ("namespace", namespace);

        for (&(ready, reason, suspended), &number) in &sums.resources {
            let suspended = if suspended { "true" } else { "false" };
            let labels =
                [namespace, ("ready", ready.into()), ("reason", reason), ("suspended", suspended)];
            exposition::series(resources, RESOURCES, &labels, number);
        }

        for (state, number) in [("failed", sums.failed), ("synced", sums.synced)] {
            exposition::series(tags, TAGS, &[namespace, ("state", state)], number);
        }

        for (&(type_, status, reason), &(number, since)) in &sums.problems {
            let labels =
                [namespace, ("reason", reason), ("status", status.into()), ("type", type_.into())];
            exposition::series(problems, PROBLEMS, &labels, number);
            exposition::series(problem_oldest, PROBLEM_OLDEST, &labels, since.unix());
        }

        if let Some((oldest, newest)) = sums.last_pass {
            exposition::series(pass_oldest, LAST_PASS_OLDEST, &[namespace], oldest.unix());
            exposition::series(pass_newest, LAST_PASS_NEWEST, &[namespace], newest.unix());
        }
    }

    fn write(&self, page: &mut String) {
        for (gauge, series) in GAUGES.into_iter().zip(&self.0) {
            if !series.is_empty() {
                exposition::header(page, gauge);
                page.push_str(series);
            }
        }
    }
}
