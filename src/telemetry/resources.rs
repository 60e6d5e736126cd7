//! The resources, as metrics and the page `/schedule` show them: one compact table. The series are
//! written at each scrape.
//!
//! - `namespaces`: the series by namespace and reason, which are bounded
//! - `detail`: the series of each chosen resource (`--resource-metrics`)
//! - `schedule`: the last and the next pass of each resource
//! - `condition`: a condition in few bytes

mod condition;
mod detail;
mod namespaces;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

pub use condition::{Condition, ConditionType, Second, Status};
pub use schedule::{Filter, Next};

/// The state of a resource.
#[derive(Clone, Debug)]
pub struct State<'a> {
    /// The resource's namespace.
    pub namespace: &'a str,
    /// The resource's name.
    pub name: &'a str,
    /// The ECR repository, if the resource has series of its own.
    pub repository: Option<&'a str>,
    /// Whether the resource is suspended.
    pub suspended: bool,
    /// Number of wanted tags that are in sync.
    pub synced: i64,
    /// Number of wanted tags that are not in sync.
    pub failed: i64,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// All resources, by UID. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Resources(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    // Boxed, since a hash map has free slots.
    records: HashMap<Box<str>, Box<Record>>,
    /// The namespaces, with the number of their resources.
    namespaces: HashMap<Arc<str>, usize>,
}

/// One resource.
#[derive(Debug)]
struct Record {
    namespace: Arc<str>,
    name: Box<str>,
    /// See [`State::repository`].
    repository: Option<Box<str>>,
    suspended: bool,
    synced: u32,
    failed: u32,
    conditions: Box<[Condition]>,
    /// End of the last pass since the process started.
    last_pass: Option<Second>,
    next: Option<Next>,
}

impl Record {
    fn change(&mut self, state: State<'_>) {
        let State { repository, suspended, synced, failed, conditions, .. } = state;
        if self.repository.as_deref() != repository {
            self.repository = repository.map(Box::from);
        }

        self.suspended = suspended;
        self.synced = synced.try_into().unwrap_or_default();
        self.failed = failed.try_into().unwrap_or_default();
        self.conditions = conditions.into_boxed_slice();
    }

    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Returns status and reason of `Ready`.
    fn ready(&self) -> (Status, &'static str) {
        self.condition(ConditionType::Ready)
            .map_or((Status::Unknown, ""), |ready| (ready.status, ready.reason))
    }
}

impl Table {
    fn insert(&mut self, uid: &str, state: State<'_>) {
        let known = self.namespaces.get_key_value(state.namespace).map(|(known, _)| known.clone());
        let namespace = known.unwrap_or_else(|| state.namespace.into());
        *self.namespaces.entry(namespace.clone()).or_default() += 1;

        let mut record = Record {
            namespace,
            name: state.name.into(),
            repository: None,
            suspended: false,
            synced: 0,
            failed: 0,
            conditions: Box::default(),
            last_pass: None,
            next: None,
        };
        record.change(state);
        self.records.insert(uid.into(), Box::new(record));
    }

    /// Removes the resources that are not kept.
    fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        let Self { records, namespaces } = self;
        records.retain(|uid, record| {
            let keep = is_kept(uid);
            if !keep {
                leave(namespaces, &record.namespace);
            }
            keep
        });
    }
}

/// Counts one resource less of a namespace.
fn leave(namespaces: &mut HashMap<Arc<str>, usize>, namespace: &str) {
    if let Some(number) = namespaces.get_mut(namespace) {
        *number -= 1;
        if *number == 0 {
            namespaces.remove(namespace);
        }
    }
}

impl Resources {
    /// Adds a resource that the API server has, or changes it.
    pub fn set(&self, uid: &str, state: State<'_>) {
        let mut table = self.0.lock();
        match table.records.get_mut(uid) {
            Some(record) => record.change(state),
            None => table.insert(uid, state),
        }
    }

    /// Changes a resource. A resource that is not in the table was deleted meanwhile.
    pub fn update(&self, uid: &str, state: State<'_>) {
        if let Some(record) = self.0.lock().records.get_mut(uid) {
            record.change(state);
        }
    }

    /// Records the next pass of a resource.
    pub fn next(&self, uid: &str, next: Next) {
        if let Some(record) = self.0.lock().records.get_mut(uid) {
            record.next = Some(next);
        }
    }

    /// Records the end of a pass.
    pub(super) fn passed(&self, uid: &str, time: Timestamp) {
        if let Some(record) = self.0.lock().records.get_mut(uid) {
            record.last_pass = Some(Second::of(time));
        }
    }

    /// Drops a resource.
    pub fn forget(&self, uid: &str) {
        let mut table = self.0.lock();
        if let Some(record) = table.records.remove(uid) {
            leave(&mut table.namespaces, &record.namespace);
        }
    }

    /// Drops all resources but those that `exists`.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.0.lock().retain(exists);
    }

    /// Writes all series.
    pub(super) fn write(&self, page: &mut String) {
        let table = self.0.lock();
        namespaces::write(&table, page);
        detail::write(&table, page);
    }

    /// Returns a table with one line per resource, in order of their names, at most 1,000 lines.
    #[must_use]
    pub fn schedule(&self, filter: &Filter) -> String {
        schedule::page(&self.0.lock(), filter)
    }
}

#[cfg(test)]
mod tests;
