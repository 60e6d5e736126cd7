//! Series of each resource, for the resources that `--resource-metrics` chooses: those whose
//! repository is in the table.

use strum::VariantArray;

use super::condition::Status;
use super::{Record, Table};
use crate::telemetry::exposition::{self, Gauge};

const INFO: Gauge = ("ecrsync_resource_info", "Every EcrRepositorySync; always 1.");
const CONDITION: Gauge = (
    "ecrsync_resource_condition",
    "Conditions of every EcrRepositorySync: 1 for the current status.",
);
const LAST_PASS: Gauge = (
    "ecrsync_resource_last_pass_timestamp_seconds",
    "End of the last pass of every EcrRepositorySync, since this process started.",
);

/// Writes the series of the chosen resources, in order of their names.
pub(super) fn write(table: &Table, page: &mut String) {
    let records = table.records.values();
    let mut chosen: Vec<_> =
        records.filter_map(|record| Some((&**record, record.repository.as_deref()?))).collect();
    chosen.sort_unstable_by_key(|(record, _)| (&record.namespace, &record.name));
    if chosen.is_empty() {
        return;
    }

    exposition::header(page, INFO);
    for (record, repository) in &chosen {
        let [name, namespace] = names(record);
        let (ready, reason) = record.ready();
        let labels = [
            name,
            namespace,
            ("ready", ready.into()),
            ("reason", reason),
            ("repository", repository),
            ("suspended", if record.suspended { "true" } else { "false" }),
        ];
        exposition::series(page, INFO, &labels, 1);
    }

    exposition::header(page, CONDITION);
    for (record, _) in &chosen {
        let [name, namespace] = names(record);
        for condition in &record.conditions {
            for &status in Status::VARIANTS {
                let type_ = ("type", condition.type_.into());
                let labels = [name, namespace, ("status", status.into()), type_];
                let is_current = condition.status == status;
                exposition::series(page, CONDITION, &labels, is_current.into());
            }
        }
    }

    exposition::header(page, LAST_PASS);
    for (record, _) in &chosen {
        if let Some(end) = record.last_pass {
            exposition::series(page, LAST_PASS, &names(record), end.unix());
        }
    }
}

fn names(record: &Record) -> [(&'static str, &str); 2] {
    [("name", &record.name), ("namespace", &record.namespace)]
}
