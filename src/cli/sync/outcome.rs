//! The result of a run for one repository, and its line on the terminal.

use serde::Serialize;

use super::ledger::{Ledger, Status};
use crate::class::Class;
use crate::inventory::Entry;
use crate::sync::{Failure, Field, Preview, Report};

/// The result for one repository of the files.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Index in the order of the files.
    pub(super) index: usize,
    /// The entry of the file.
    pub(super) entry: Entry,
    /// Report of the engine; `None` if the repository was skipped.
    pub(super) report: Option<Report>,
    /// Plan of a dry run.
    pub(super) preview: Option<Preview>,
    /// Result in one word.
    pub(super) state: State,
}

/// The result in one word. In a dry run: what the result would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The repository was created.
    Created,
    /// Something was changed.
    Updated,
    /// Nothing had to be changed.
    Unchanged,
    /// Something failed, and nothing was changed.
    Failed,
    /// The entry is suspended, or the run was stopped before its turn.
    Skipped,
}

impl State {
    /// Counts the repositories with this state.
    pub(super) fn count(self, outcomes: &[Outcome]) -> usize {
        outcomes.iter().filter(|outcome| outcome.state == self).count()
    }

    /// Returns the state after the actions in the ledger, or after those planned in a dry run.
    pub(super) fn of(repository: &str, report: &Report, ledger: &Ledger) -> Self {
        let fields: Vec<_> = if report.dry_run {
            report.fields.clone()
        } else {
            let records = ledger.of(repository).into_iter();
            records
                .filter(|record| record.status == Status::Success)
                .filter_map(|record| record.field)
                .collect()
        };
        let is_complete = report.shortfalls().next().is_none();

        match (fields.contains(&Field::Repository), fields.is_empty(), is_complete) {
            (true, ..) => Self::Created,
            (false, false, _) => Self::Updated,
            (false, true, true) => Self::Unchanged,
            (false, true, false) => Self::Failed,
        }
    }

    /// Returns the words for [`Outcome::line`].
    pub(super) const fn words(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Updated, false) => "changed",
            (Self::Updated, true) => "would change",
            (Self::Unchanged, _) => "in sync",
            (Self::Failed, _) => "failed",
            (Self::Skipped, _) => "skipped",
        }
    }
}

impl Outcome {
    /// Whether something failed.
    pub(super) fn is_failure(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.shortfalls().next().is_some())
    }

    /// Whether something was changed, or would be in a dry run.
    pub(super) const fn is_change(&self) -> bool {
        matches!(self.state, State::Created | State::Updated)
    }

    /// Whether the run was stopped before the repository was finished.
    pub(super) fn was_interrupted(&self) -> bool {
        match &self.report {
            Some(report) => {
                report.failure.as_ref().is_some_and(|failure| failure.class == Class::Cancelled)
            }
            None => !self.entry.spec.suspend,
        }
    }

    /// Returns the failures, each with its subject: `image tag 1.27`, or an empty text for the
    /// repository as a whole.
    pub(super) fn failures(&self) -> Vec<(String, &Failure)> {
        let Some(report) = &self.report else { return Vec::new() };

        let mut failures: Vec<_> = report
            .failure
            .iter()
            .chain(&report.configuration)
            .map(|failure| (String::new(), failure))
            .collect();

        for artifact in &report.artifacts {
            let noun = artifact.kind.noun();
            failures
                .extend(artifact.listing.iter().map(|failure| (format!("{noun} tags"), failure)));
            failures.extend(
                artifact.failures().map(|(tag, failure)| (format!("{noun} tag {tag}"), failure)),
            );
        }

        failures
            .extend(report.pruning_blocked().map(|failure| (Field::Prune.to_string(), failure)));
        failures
    }

    /// Returns the line of a finished repository: `team/app: changed, 2/2 image tags of
    /// docker.io/library/nginx`.
    pub(super) fn line(&self) -> String {
        let dry_run = self.report.as_ref().is_some_and(|report| report.dry_run);
        let is_incomplete = self.is_failure() && self.state != State::Failed;
        let incomplete = if is_incomplete { " (incomplete)" } else { "" };
        let mut line =
            format!("{}: {}{incomplete}", self.entry.repository(), self.state.words(dry_run));

        for artifact in self.report.iter().flat_map(|report| &report.artifacts) {
            let synced = artifact.synced().count();
            let all = artifact.tags.len();
            line.push_str(&format!(
                ", {synced}/{all} {} tags of {}",
                artifact.kind.noun(),
                artifact.place()
            ));
        }

        line
    }
}
