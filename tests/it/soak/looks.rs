//! Whether every resource is looked at in its interval, as the stand-in sees it: a call of the ECR
//! API that names the repository is a look.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use testbed::traffic::{Log, Plane};

/// The interval of all resources.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Jitter of the interval.
const JITTER: f64 = 0.1;
/// Time for everything between two looks besides the interval: the pass itself, its retries while a
/// fault lasts, and the wait for a slot.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The time between two looks at a resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Gap {
    pub(super) name: String,
    pub(super) lasted: Duration,
    pub(super) allowed: Duration,
}

/// The looks at all resources that are not suspended.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The last look at each resource, or when it was created or resumed.
    last: HashMap<String, SystemTime>,
    /// Periods in which no process led.
    vacancies: Vec<(SystemTime, Option<SystemTime>)>,
    pub(super) count: usize,
    /// The longest gaps in which a process led all the time, and in which it did not.
    pub(super) longest: [Gap; 2],
    /// The gaps that were too long.
    pub(super) missed: Vec<Gap>,
}

impl Looks {
    /// Expects looks from now on.
    pub(super) fn expect(&mut self, name: &str) {
        self.last.insert(name.to_owned(), SystemTime::now());
    }

    /// Expects no looks any more.
    pub(super) fn release(&mut self, name: &str) {
        self.last.remove(name);
    }

    /// No process leads from now on.
    pub(super) fn vacant(&mut self) {
        if self.vacancies.last().is_none_or(|(_, end)| end.is_some()) {
            self.vacancies.push((SystemTime::now(), None));
        }
    }

    /// A process leads again.
    pub(super) fn led(&mut self) {
        if let Some((_, end)) = self.vacancies.last_mut() {
            end.get_or_insert_with(SystemTime::now);
        }
    }

    /// The times without a leader.
    pub(super) fn vacancies(&self) -> Vec<Duration> {
        let ended = self.vacancies.iter().filter_map(|(start, end)| Some((start, (*end)?)));
        ended.map(|(start, end)| end.duration_since(*start).unwrap_or_default()).collect()
    }

    /// Reads the log and empties it.
    pub(super) fn read(&mut self, log: &Log) {
        let mut records = log.all();
        log.clear();
        records.retain(|record| record.plane == Plane::Control && !record.repository.is_empty());
        for record in &records {
            self.looked(&record.repository, record.started);
        }

        let now = SystemTime::now();
        let names: Vec<_> = self.last.keys().cloned().collect();
        for name in names {
            self.judge(&name, now, false);
        }
    }

    fn looked(&mut self, name: &str, time: SystemTime) {
        if self.last.contains_key(name) {
            self.count += 1;
            self.judge(name, time, true);
        }
    }

    /// Compares the time since the last look with what is allowed. A gap that is too long and still
    /// goes on is counted again when it has lasted that long again.
    fn judge(&mut self, name: &str, now: SystemTime, is_look: bool) {
        let Some(last) = self.last.get(name).copied() else { return };
        let lasted = now.duration_since(last).unwrap_or_default();
        let vacant = self.vacant_between(last, now);
        let allowed = INTERVAL.mul_f64(1.0 + JITTER) + DEADLINE + vacant;
        let gap = Gap { name: name.to_owned(), lasted, allowed };

        let longest = &mut self.longest[usize::from(!vacant.is_zero())];
        if lasted > longest.lasted {
            *longest = gap.clone();
        }
        if lasted > allowed {
            println!("missed: {name} was not looked at for {lasted:.1?} of {allowed:.1?}");
            self.missed.push(gap);
            self.last.insert(name.to_owned(), now);
        }
        if is_look {
            self.last.insert(name.to_owned(), now.max(last));
        }
    }

    /// The time without a leader between two times, of all periods that overlap with it. After each
    /// of them, a new leader spreads its first checks over an interval.
    fn vacant_between(&self, start: SystemTime, end: SystemTime) -> Duration {
        let now = SystemTime::now();
        let overlapping = self.vacancies.iter().filter_map(|(from, to)| {
            let to = to.unwrap_or(now);
            (*from < end && to > start)
                .then(|| to.duration_since(*from).unwrap_or_default() + INTERVAL)
        });
        overlapping.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_look_after_interval_jitter_and_deadline_is_a_missed_one() {
        let mut looks = Looks::default();
        looks.last.insert("app".to_owned(), at(0));
        looks.looked("app", at(96));
        assert!(looks.missed.is_empty(), "66 s and 30 s");
        looks.looked("app", at(193));
        assert_eq!(looks.missed.len(), 1);
        assert_eq!((looks.count, looks.longest[0].lasted.as_secs()), (2, 97));

        looks.vacancies.push((at(200), Some(at(210))));
        looks.looked("app", at(359));
        assert_eq!((looks.missed.len(), looks.longest[1].lasted.as_secs()), (1, 166));
        looks.vacancies.push((at(360), Some(at(370))));
        looks.looked("app", at(526));
        assert_eq!(looks.missed.len(), 2, "66 s, 30 s, 10 s without a leader, and 60 s");
        looks.looked("other", at(900));
        assert_eq!(looks.count, 4, "nobody expects it");
    }
}
