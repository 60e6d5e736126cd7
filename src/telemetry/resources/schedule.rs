//! The last and the next pass of every resource: the page `/schedule`.
//!
//! The status has neither: a pass that changes nothing must write nothing, so that thousands of
//! resources cost the API server no writes.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::condition::Second;
use super::{Record, Table};

/// Most lines of the page: 100 kB with long names.
const MAX_LINES: usize = 1000;

/// The next pass of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A pass runs, or waits for a slot.
    Now,
    /// At this time.
    At(Second),
}

impl Next {
    /// The next pass after a wait.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        let time = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        Self::At(Second::of(time))
    }
}

/// The resources that a page shows: those that have all given values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their namespace.
    pub namespace: Option<String>,
    /// Their name.
    pub name: Option<String>,
}

impl Filter {
    fn selects(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        is(&self.namespace, &record.namespace) && is(&self.name, &record.name)
    }
}

/// Returns a table with one line per resource, in order of their names. If there are more than
/// [`MAX_LINES`], a last line has the number of the others.
pub(super) fn page(table: &Table, filter: &Filter) -> String {
    let records = table.records.values().map(|record| &**record);
    let mut records: Vec<_> = records.filter(|record| filter.selects(record)).collect();
    records.sort_unstable_by_key(|record| (&record.namespace, &record.name));
    let others = records.len().saturating_sub(MAX_LINES);
    records.truncate(MAX_LINES);

    let lengths = records.iter().map(|record| record.namespace.len() + 1 + record.name.len());
    let width = lengths.max().unwrap_or_default().max(8);
    let mut page = format!("{:width$}  {:20}  NEXT\n", "RESOURCE", "LAST");
    for record in records {
        let path = format!("{}/{}", record.namespace, record.name);
        let last = record.last_pass.map_or_else(|| "-".to_owned(), time);
        let next = match record.next {
            _ if record.suspended => "suspended".to_owned(),
            Some(Next::Now) => "now".to_owned(),
            Some(Next::At(second)) => time(second),
            None => "-".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ok = writeln!(page, "{path:width$}  {last:20}  {next}");
    }

    if others > 0 {
        let _ok = writeln!(page, "{others} more: add ?namespace=NAMESPACE, or &name=NAME too");
    }
    page
}

fn time(second: Second) -> String {
    second.timestamp().to_string()
}
