//! What became of one repository.

use serde::Serialize;

use super::ledger::{Ledger, Status};
use crate::inventory::Entry;
use crate::sync::{Preview, Report};

/// One repository of the files at the end of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its place in the order of the files.
    pub(super) index: usize,
    /// What was wanted.
    pub(super) entry: Entry,
    /// What came of it; `None` where it was left alone.
    pub(super) report: Option<Report>,
    /// What a dry run would do.
    pub(super) preview: Option<Preview>,
    /// In a word.
    pub(super) state: State,
}

/// What became of a repository, in a word. In a dry run: what would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It was created.
    Created,
    /// Something of it was changed.
    Updated,
    /// Everything was as wanted.
    Unchanged,
    /// Nothing was changed, and something went wrong.
    Failed,
    /// It is suspended, or the run ended before its turn.
    Skipped,
}

impl State {
    /// Reads it off what was done.
    pub(super) fn of(repository: &str, report: &Report, ledger: &Ledger) -> Self {
        let done: Vec<_> = if report.dry_run {
            report.fields.clone()
        } else {
            let records = ledger.of(repository).into_iter();
            records
                .filter(|record| record.status == Status::Success)
                .map(|record| record.field)
                .collect()
        };
        let got_all = report.shortfalls().next().is_none();
        match (done.contains(&"repository"), done.is_empty(), got_all) {
            (true, ..) => Self::Created,
            (false, false, _) => Self::Updated,
            (false, true, true) => Self::Unchanged,
            (false, true, false) => Self::Failed,
        }
    }

    /// As the line of a finished repository says it.
    pub(super) const fn words(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Updated, false) => "changed",
            (Self::Updated, true) => "would change",
            (Self::Unchanged, _) => "in sync",
            (Self::Failed, _) => "failed",
            (Self::Skipped, _) => "left alone",
        }
    }
}

impl Outcome {
    /// Whether something went wrong.
    pub(super) fn is_failure(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.shortfalls().next().is_some())
    }

    /// Whether something was, or would be, changed.
    pub(super) const fn is_change(&self) -> bool {
        matches!(self.state, State::Created | State::Updated)
    }

    /// What failed, each with what it concerns: `tag 1.27`, or nothing for the repository as a
    /// whole.
    pub(super) fn failures(&self) -> Vec<(String, &crate::sync::Failure)> {
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
        failures.extend(report.pruning_blocked().map(|failure| ("prune".to_owned(), failure)));
        failures
    }

    /// The line of a finished repository: `team/app: changed, 2/2 image tags of
    /// docker.io/library/nginx`.
    pub(super) fn line(&self) -> String {
        let dry_run = self.report.as_ref().is_some_and(|report| report.dry_run);
        let failed =
            if self.is_failure() && self.state != State::Failed { ", not all of it" } else { "" };
        let mut line =
            format!("{}: {}{failed}", self.entry.repository(), self.state.words(dry_run));
        for artifact in self.report.iter().flat_map(|report| &report.artifacts) {
            let (synced, all) = (artifact.synced().count(), artifact.tags.len());
            line.push_str(&format!(
                ", {synced}/{all} {} tags of {}",
                artifact.kind.noun(),
                artifact.place()
            ));
        }
        line
    }
}
