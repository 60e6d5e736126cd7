//! What a run did, action by action, at the moment it happened.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use crate::sync::{Report, Step, Witness};

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It was carried out.
    Success,
    /// It was tried, or could not be.
    Failed,
    /// There was nothing to do, or this is a dry run.
    Skipped,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One action.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// When it ended.
    pub(super) time: Timestamp,
    /// The repository in ECR.
    pub(super) repository: String,
    /// What of it: `repository`, `lifecyclePolicy`, `imageTag` …
    pub(super) field: &'static str,
    /// How it ended.
    pub(super) status: Status,
    /// What was done, or why not.
    pub(super) details: String,
}

/// All actions of a run. Clones are one ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Record>>>);

impl Ledger {
    /// Somebody who writes down what happens to `repository`.
    pub(super) fn witness(&self, repository: &str) -> Arc<dyn Witness> {
        Arc::new(Clerk { ledger: self.clone(), repository: repository.to_owned() })
    }

    /// Writes an action down, and logs it.
    pub(super) fn note(
        &self,
        repository: &str,
        field: &'static str,
        status: Status,
        details: String,
    ) {
        // Levels are part of a log statement's identity: one for each.
        match status {
            Status::Failed => tracing::warn!(repository, status = status.name(), "{details}"),
            Status::Success | Status::Skipped => {
                tracing::info!(repository, status = status.name(), "{details}")
            }
        }
        let (time, repository) = (Timestamp::now(), repository.to_owned());
        self.lock().push(Record { time, repository, field, status, details });
    }

    /// Writes down what the report of a pass tells and no action did: what failed before there was
    /// one, and what was left alone.
    pub(super) fn close(&self, repository: &str, report: &Report) {
        let told: Vec<_> = self.of(repository).into_iter().map(|record| record.details).collect();
        for failure in
            report.shortfalls().map(ToString::to_string).filter(|failure| !told.contains(failure))
        {
            self.note(repository, "check", Status::Failed, failure);
        }
        for artifact in &report.artifacts {
            let kept = artifact
                .kept()
                .map(|(tag, failure)| format!("{} tag {tag}: {failure}", artifact.kind.noun()));
            kept.for_each(|details| self.note(repository, "check", Status::Skipped, details));
        }
        if report.dry_run {
            for (change, field) in report.changes.iter().zip(&report.fields) {
                self.note(repository, field, Status::Skipped, format!("dry run: {change}"));
            }
        }
        if self.of(repository).is_empty() {
            self.note(repository, "check", Status::Skipped, "in sync, nothing to do".to_owned());
        }
    }

    /// The actions on one repository.
    pub(super) fn of(&self, repository: &str) -> Vec<Record> {
        self.lock().iter().filter(|record| record.repository == repository).cloned().collect()
    }

    /// All actions, by time.
    pub(super) fn all(&self) -> Vec<Record> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Clerk {
    ledger: Ledger,
    repository: String,
}

impl Witness for Clerk {
    fn ended(&self, Step { field, result }: Step) {
        let (status, details) = match result {
            Ok(what) => (Status::Success, what),
            Err(failure) => (Status::Failed, failure.to_string()),
        };
        self.ledger.note(&self.repository, field, status, details);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::sync::Failure;

    #[test]
    fn a_failure_is_written_down_once_whoever_tells_it() {
        let ledger = Ledger::default();
        let failure = Failure::new(Class::PolicyRejected, "no");
        ledger
            .witness("app")
            .ended(Step { field: "lifecyclePolicy", result: Err(failure.clone()) });
        let report = Report { configuration: vec![failure], ..Report::default() };
        ledger.close("app", &report);
        let records = ledger.all();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((records[0].field, records[0].status), ("lifecyclePolicy", Status::Failed));
    }

    #[test]
    fn a_repository_in_sync_is_skipped_and_a_dry_run_does_nothing() {
        let ledger = Ledger::default();
        ledger.close("same", &Report::default());
        let changes = vec!["create repository new".to_owned()];
        ledger.close(
            "new",
            &Report { changes, fields: vec!["repository"], dry_run: true, ..Report::default() },
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
