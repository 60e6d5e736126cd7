//! The last and the next pass of every resource: the page `/schedule`.
//!
//! The status has neither: a pass that changes nothing must write nothing, so that thousands of
//! resources cost the API server no writes.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use parking_lot::Mutex;

/// The next pass of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A pass runs, or waits for a slot.
    Now,
    /// At this time.
    At(Timestamp),
    /// The resource is suspended.
    Suspended,
}

impl Next {
    /// The next pass after a wait.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        Self::At(Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    last: Option<Timestamp>,
    next: Next,
}

/// The last and the next pass of every resource, by UID. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Schedule(Arc<Mutex<HashMap<String, Entry>>>);

impl Schedule {
    /// Records the next pass of the resource `namespace/name`.
    pub fn next(&self, uid: &str, path: String, next: Next) {
        let mut all = self.0.lock();
        let last = all.get(uid).and_then(|entry| entry.last);
        all.insert(uid.to_owned(), Entry { path, last, next });
    }

    /// Records the end of a pass.
    pub fn ended(&self, uid: &str, time: Timestamp) {
        if let Some(entry) = self.0.lock().get_mut(uid) {
            entry.last = Some(time);
        }
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.0.lock().retain(|uid, _| exists(uid));
    }

    /// Returns a table with one line per resource, in order of their names.
    #[must_use]
    pub fn page(&self) -> String {
        let mut entries: Vec<_> = self.0.lock().values().cloned().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let width = entries.iter().map(|entry| entry.path.len()).max().unwrap_or_default().max(8);

        let mut page = format!("{:width$}  {:20}  NEXT\n", "RESOURCE", "LAST");
        for Entry { path, last, next } in &entries {
            let last = last.map_or_else(|| "-".to_owned(), second);
            let next = match next {
                Next::Now => "now".to_owned(),
                Next::At(time) => second(*time),
                Next::Suspended => "suspended".to_owned(),
            };
            // Writing to a String cannot fail.
            let _ok = writeln!(page, "{path:width$}  {last:20}  {next}");
        }
        page
    }
}

fn second(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_last_and_the_next_pass_of_every_resource() {
        let schedule = Schedule::default();
        let at = |second| Timestamp::from_second(second).expect("in range");
        schedule.next("3", "team/web".to_owned(), Next::Suspended);
        schedule.next("1", "platform/nginx".to_owned(), Next::Now);
        schedule.ended("1", at(60));
        schedule.next("1", "platform/nginx".to_owned(), Next::At(at(3660)));
        schedule.next("2", "team/app".to_owned(), Next::Now);

        assert_eq!(
            schedule.page(),
            "RESOURCE        LAST                  NEXT\n\
             platform/nginx  1970-01-01T00:01:00Z  1970-01-01T01:01:00Z\n\
             team/app        -                     now\n\
             team/web        -                     suspended\n"
        );

        schedule.forget("1");
        schedule.retain(|uid| uid == "2");
        assert_eq!(schedule.page().lines().count(), 2);
    }
}
