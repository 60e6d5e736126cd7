//! All repositories of a run: several at a time, --fail-fast, --timeout, a line for each.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::arguments::Arguments;
use super::ledger::{Ledger, Status};
use super::outcome::{Outcome, State};
use super::sources::Sources;
use super::summary;
use super::traffic::Traffic;
use crate::cli::screen::Screen;
use crate::inventory::Entry;
use crate::sync::{Engine, Failure, Mode, Preview, Progress, Report};

/// Everything that the repositories of a run share: the flags, the engine, the logins, the output.
pub(super) struct Batch<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) engine: Engine,
    pub(super) sources: Sources,
    pub(super) ledger: Ledger,
    pub(super) traffic: Arc<Traffic>,
    pub(super) screen: &'a Screen,
}

impl Batch<'_> {
    /// Syncs all entries; the outcomes are in the order of the files.
    pub(super) async fn run(&self, entries: Vec<Entry>, stop: &CancellationToken) -> Vec<Outcome> {
        let work = self.all(entries, stop);
        tokio::pin!(work);

        let mut outcomes = tokio::select! {
            outcomes = &mut work => outcomes,
            () = sleep(self.arguments.timeout) => {
                tracing::warn!(timeout = ?self.arguments.timeout, "time is up (--timeout)");
                stop.cancel();
                work.await
            }
        };

        outcomes.sort_by_key(|outcome| outcome.index);
        outcomes
    }

    async fn all(&self, entries: Vec<Entry>, stop: &CancellationToken) -> Vec<Outcome> {
        // A failure under --fail-fast stops the other repositories, but is not an interrupt.
        let stop_rest = stop.child_token();
        let mut finished = stream::iter(entries.into_iter().enumerate())
            .map(|(index, entry)| self.one(index, entry, &stop_rest))
            // In order of completion: a slow one does not hold up those after it.
            .buffer_unordered(self.arguments.max_parallel_operations.into());

        let mut outcomes = Vec::new();
        while let Some(outcome) = finished.next().await {
            if outcome.is_failure() && self.arguments.fail_fast {
                stop_rest.cancel();
            }
            self.traffic.finished(outcome.entry.repository());
            if self.arguments.prints_lines() && !self.arguments.dry_run {
                self.print(&outcome);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    fn print(&self, outcome: &Outcome) {
        self.screen.out(&format!("{}\n", outcome.line()));
        for warning in summary::warnings(outcome) {
            self.screen.err(&format!("warning: {}: {warning}\n", outcome.entry.repository()));
        }
    }

    async fn one(&self, index: usize, entry: Entry, stop: &CancellationToken) -> Outcome {
        let repository = entry.repository().to_owned();
        let skipped = match (entry.spec.suspend, stop.is_cancelled()) {
            (true, _) => Some("suspended, not synced"),
            (_, true) => Some("not started: the run was stopped"),
            _ => None,
        };
        if let Some(reason) = skipped {
            self.ledger.note(&repository, None, Status::Skipped, reason.to_owned());
            return Outcome { index, entry, report: None, preview: None, state: State::Skipped };
        }

        let progress = Progress::with_listener(self.ledger.listener(&repository));
        self.traffic.began(&repository, &progress);
        let (report, preview) = tokio::select! {
            // The engine obeys `stop` by itself and is polled first; only a credential helper that
            // hangs is cut off here.
            biased;
            result = self.sync(&entry, progress, stop) => result,
            () = stop.cancelled() => (Report::failed(Failure::cancelled()), None),
        };

        self.ledger.close(&repository, &report);
        let state = State::of(&repository, &report, &self.ledger);
        Outcome { index, entry, report: Some(report), preview, state }
    }

    async fn sync(
        &self,
        entry: &Entry,
        progress: Progress,
        stop: &CancellationToken,
    ) -> (Report, Option<Preview>) {
        let job = self.sources.job(entry, self.arguments.take_over, progress).await;
        if self.arguments.dry_run {
            let (report, preview) = self.engine.preview(&job, stop).await;
            (report, Some(preview))
        } else {
            (self.engine.sync(&job, Mode::Apply, stop).await, None)
        }
    }
}

/// Waits for the duration; for ever without one.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
