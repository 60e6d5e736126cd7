//! Ledger of a run: each action with its result, recorded as it ends.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use strum::IntoStaticStr;

use crate::sync::{ActionListener, Field, Report, Step};

/// Result of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(super) enum Status {
    /// The action was carried out.
    Success,
    /// The action failed, or could not be tried.
    Failed,
    /// There was nothing to do, or this is a dry run.
    Skipped,
}

/// One action.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Time of its end.
    pub(super) time: Timestamp,
    /// The repository in ECR.
    pub(super) repository: String,
    /// Part of the repository: `repository`, `lifecyclePolicy`, `imageTag` …; `None`, written
    /// as `check`, for the repository as a whole.
    #[serde(serialize_with = "name_or_check")]
    pub(super) field: Option<Field>,
    pub(super) status: Status,
    /// The action, or the reason why it was not carried out.
    pub(super) details: String,
}

fn name_or_check<S: Serializer>(field: &Option<Field>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(field.map_or("check", Field::as_str))
}

/// All actions of a run. Clones share one ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Record>>>);

impl Ledger {
    /// Returns a listener that records the actions on `repository`.
    pub(super) fn listener(&self, repository: &str) -> Arc<dyn ActionListener> {
        Arc::new(Recorder { ledger: self.clone(), repository: repository.to_owned() })
    }

    /// Records an action, and logs it.
    pub(super) fn note(
        &self,
        repository: &str,
        field: Option<Field>,
        status: Status,
        details: String,
    ) {
        let name: &str = status.into();
        // The level of a log statement is fixed: one statement per level.
        match status {
            Status::Failed => tracing::warn!(repository, status = name, "{details}"),
            Status::Success | Status::Skipped => {
                tracing::info!(repository, status = name, "{details}")
            }
        }

        let repository = repository.to_owned();
        self.0.lock().push(Record { time: Timestamp::now(), repository, field, status, details });
    }

    /// Records the parts of the report that no action recorded: failures before an action, tags
    /// that were skipped, and the plan of a dry run.
    pub(super) fn close(&self, repository: &str, report: &Report) {
        let recorded: Vec<_> =
            self.of(repository).into_iter().map(|record| record.details).collect();
        let failures = report.shortfalls().map(ToString::to_string);
        for failure in failures.filter(|failure| !recorded.contains(failure)) {
            self.note(repository, None, Status::Failed, failure);
        }

        for artifact in &report.artifacts {
            for (tag, failure) in artifact.kept() {
                let details = format!("{} tag {tag}: {failure}", artifact.kind.noun());
                self.note(repository, None, Status::Skipped, details);
            }
        }

        if report.dry_run {
            for (change, field) in report.changes.iter().zip(&report.fields) {
                self.note(repository, Some(*field), Status::Skipped, format!("dry run: {change}"));
            }
        }

        if self.of(repository).is_empty() {
            self.note(repository, None, Status::Skipped, "in sync, nothing to do".to_owned());
        }
    }

    /// Returns the actions on one repository.
    pub(super) fn of(&self, repository: &str) -> Vec<Record> {
        self.0.lock().iter().filter(|record| record.repository == repository).cloned().collect()
    }

    /// Returns all actions in the order in which they ended.
    pub(super) fn all(&self) -> Vec<Record> {
        self.0.lock().clone()
    }
}

#[derive(Debug)]
struct Recorder {
    ledger: Ledger,
    repository: String,
}

impl ActionListener for Recorder {
    fn ended(&self, Step { field, result }: Step) {
        let (status, details) = match result {
            Ok(details) => (Status::Success, details),
            Err(failure) => (Status::Failed, failure.to_string()),
        };
        self.ledger.note(&self.repository, Some(field), status, details);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::sync::Failure;

    #[test]
    fn a_failure_is_recorded_once_even_if_the_report_repeats_it() {
        let ledger = Ledger::default();
        let failure = Failure::new(Class::PolicyRejected, "no");
        ledger
            .listener("app")
            .ended(Step { field: Field::LifecyclePolicy, result: Err(failure.clone()) });
        let report = Report { configuration: vec![failure], ..Report::default() };
        ledger.close("app", &report);
        let records = ledger.all();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(
            (records[0].field, records[0].status),
            (Some(Field::LifecyclePolicy), Status::Failed)
        );
    }

    #[test]
    fn a_repository_in_sync_is_skipped_and_a_dry_run_does_nothing() {
        let ledger = Ledger::default();
        ledger.close("same", &Report::default());
        let changes = vec!["create repository new".to_owned()];
        ledger.close(
            "new",
            &Report {
                changes,
                fields: vec![Field::Repository],
                dry_run: true,
                ..Report::default()
            },
        );
        let texts: Vec<_> =
            ledger.all().into_iter().map(|record| (record.status, record.details)).collect();
        assert_eq!(
            texts,
            [
                (Status::Skipped, "in sync, nothing to do".to_owned()),
                (Status::Skipped, "dry run: create repository new".to_owned())
            ]
        );
    }
}
