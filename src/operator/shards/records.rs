//! The records of the Leases as this process sees them. The term of a record is over when the record
//! did not change for its length on *our* clock, as with a single Lease.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::operator::lease::TERM;

/// A longer time between two reads is an outage, in which the holders could not renew either: a
/// read, the writes after it and the wait take at most 4 s while the API server answers.
const LONGEST_GAP: Duration = Duration::from_secs(4);

/// The records of the last read, by name.
#[derive(Debug, Default)]
pub(super) struct Records {
    all: BTreeMap<String, Seen>,
    read: Option<Instant>,
}

/// A record, and the time since when it is unchanged.
#[derive(Debug)]
struct Seen {
    record: Record,
    since: Instant,
}

/// Returns the holder of a record; empty if nobody holds it.
pub(super) fn holder(record: &Record) -> &str {
    let spec = record.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// Returns the number of times that a Lease was taken.
pub(super) fn transitions(record: &Record) -> i32 {
    record.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

fn renewed(record: &Record) -> Option<&MicroTime> {
    record.spec.as_ref()?.renew_time.as_ref()
}

fn term(spec: &LeaseSpec) -> Option<Duration> {
    u64::try_from(spec.lease_duration_seconds?).ok().map(Duration::from_secs)
}

impl Records {
    /// Takes over what was read.
    pub(super) fn read(&mut self, records: Vec<Record>, now: Instant) {
        let was_out = self.read.is_none_or(|read| now - read > LONGEST_GAP);
        let mut before = std::mem::take(&mut self.all);
        for record in records {
            let name = record.name_any();
            let is_unchanged = |seen: &Seen| {
                holder(&seen.record) == holder(&record) && renewed(&seen.record) == renewed(&record)
            };
            let since = match before.remove(&name) {
                Some(seen) if is_unchanged(&seen) && !was_out => seen.since,
                _ => now,
            };
            self.all.insert(name, Seen { record, since });
        }
        self.read = Some(now);
    }

    /// Replaces a record after a write of this process.
    pub(super) fn written(&mut self, record: Record) {
        self.all.insert(record.name_any(), Seen { record, since: Instant::now() });
    }

    /// Removes a record that this process has deleted.
    pub(super) fn deleted(&mut self, name: &str) {
        self.all.remove(name);
    }

    pub(super) fn get(&self, name: &str) -> Option<&Record> {
        self.all.get(name).map(|seen| &seen.record)
    }

    /// Returns the holder of a Lease whose term is not over.
    pub(super) fn holder(&self, name: &str) -> Option<&str> {
        let seen = self.all.get(name)?;
        let holder = holder(&seen.record);
        let term = seen.record.spec.as_ref().and_then(term).unwrap_or(TERM);
        let is_over =
            self.read.is_some_and(|read| read.saturating_duration_since(seen.since) >= term);
        (!holder.is_empty() && !is_over).then_some(holder)
    }

    /// Returns the names of all records, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }
}
