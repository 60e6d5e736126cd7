//! ECR SYNC SUMMARY: the counts of a run, and each failure with its cause and advice.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::advice::advice;
use super::ledger::{Record, Status};
use super::outcome::{Outcome, State};
use crate::class::Class;
use crate::sync::Field;

/// Width of the lines around the block, as in the older tool.
const WIDTH: usize = 80;

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Repositories in the files.
    pub(super) processed: usize,
    /// Repositories that were created.
    pub(super) created: usize,
    /// Existing repositories in which something was changed.
    pub(super) updated: usize,
    /// Repositories that were in sync, suspended, or not reached.
    pub(super) skipped: usize,
    /// Repositories in which nothing was changed because of a failure.
    pub(super) failed: usize,
    /// Images with at least one copied tag.
    pub(super) images: usize,
    /// Charts with at least one copied version.
    pub(super) charts: usize,
    /// Copied tags and versions.
    pub(super) tags: usize,
    /// Pruned tags and versions.
    pub(super) pruned: usize,
    /// Policies that were put or deleted.
    pub(super) policies: usize,
    /// Bytes of blobs copied from sources to ECR.
    pub(super) bytes: u64,
    /// Share of successful actions among those that succeeded or failed, in percent.
    pub(super) success_rate: f64,
}

impl Counts {
    /// Counts the results.
    pub(super) fn new(outcomes: &[Outcome], records: &[Record], bytes: u64) -> Self {
        let count = |state| State::count(state, outcomes);
        let succeeded: Vec<_> =
            records.iter().filter(|record| record.status == Status::Success).collect();
        let failed = records.iter().filter(|record| record.status == Status::Failed).count();
        let of_field = |field| succeeded.iter().filter(move |record| record.field == Some(field));
        let repositories = |field| {
            let names: BTreeSet<_> = of_field(field).map(|record| &record.repository).collect();
            names.len()
        };
        let tried = succeeded.len() + failed;

        Self {
            processed: outcomes.len(),
            created: count(State::Created),
            updated: count(State::Updated),
            skipped: count(State::Unchanged) + count(State::Skipped),
            failed: count(State::Failed),
            images: repositories(Field::ImageTag),
            charts: repositories(Field::ChartTag),
            tags: of_field(Field::ImageTag).count() + of_field(Field::ChartTag).count(),
            pruned: of_field(Field::Prune).count(),
            policies: of_field(Field::LifecyclePolicy).count()
                + of_field(Field::PermissionPolicy).count(),
            bytes,
            success_rate: if tried == 0 {
                100.0
            } else {
                100.0 * succeeded.len() as f64 / tried as f64
            },
        }
    }
}

/// Start and end of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Span {
    /// Returns the duration in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.end.duration_since(self.start).as_secs_f64().max(0.0)
    }
}

/// Returns the block at the end of a run. Its lines are those of the older tool: pipelines parse
/// them.
pub(super) fn block(counts: &Counts, span: &Span) -> String {
    let rule = "=".repeat(WIDTH);
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut repositories =
        vec![("Created", counts.created), ("Updated", counts.updated), ("Skipped", counts.skipped)];
    // The older tool has no line for failed repositories or pruned tags: shown only if there are
    // any.
    if counts.failed > 0 {
        repositories.push(("Failed", counts.failed));
    }
    let pruned = match counts.pruned {
        0 => String::new(),
        pruned => format!("Tags Pruned: {pruned}\n\n"),
    };

    format!(
        "{rule}\nECR SYNC SUMMARY\n{rule}\nStart Time: {}\nEnd Time: {}\nDuration: {:.1} seconds\n\
         \n\
         Repositories Processed: {}\n{}\n\
         Artifacts Synchronized:\n{}\n\
         {pruned}Policies Applied: {}\n\n\
         Overall Success Rate: {:.1}%\n{rule}\n",
        time(span.start),
        time(span.end),
        span.seconds(),
        counts.processed,
        branches(&repositories),
        branches(&[("Container Images", counts.images), ("Helm Charts", counts.charts)]),
        counts.policies,
        counts.success_rate,
    )
}

fn branches(entries: &[(&str, usize)]) -> String {
    let last = entries.len().saturating_sub(1);
    let line = |(index, (name, count)): (usize, &(&str, usize))| {
        format!("{} {name}: {count}\n", if index == last { "└──" } else { "├──" })
    };
    entries.iter().enumerate().map(line).collect()
}

/// Returns each failure with its cause and advice; empty without failures.
pub(super) fn failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();

    for outcome in outcomes.iter().filter(|outcome| outcome.is_failure()) {
        text.push_str(&format!(
            "{} ({})\n",
            outcome.entry.spec.repository, outcome.entry.written.position
        ));
        // A message that many tags share is printed once.
        let mut messages: Vec<(String, Vec<String>, Class)> = Vec::new();
        for (subject, failure) in outcome.failures() {
            let message = failure.to_string();
            match messages.iter_mut().find(|(other, ..)| *other == message) {
                Some((_, subjects, _)) => subjects.push(subject),
                None => messages.push((message, vec![subject], failure.class)),
            }
        }

        for (message, mut subjects, class) in messages {
            subjects.retain(|subject| !subject.is_empty());
            let colon = if subjects.is_empty() { "" } else { ": " };
            let subjects = subjects.join(", ");
            text.push_str(&format!("  ! {subjects}{colon}{message}\n    -> {}\n", advice(class)));
        }
    }

    if text.is_empty() { text } else { format!("\nFailures:\n{text}") }
}

/// Returns warnings: nothing failed, but the user should know.
pub(super) fn warnings(outcome: &Outcome) -> Vec<String> {
    let Some(report) = &outcome.report else { return Vec::new() };

    let kept = report.artifacts.iter().flat_map(|artifact| artifact.kept());
    kept.map(|(tag, failure)| format!("tag {tag}: {}", failure.message))
        .chain(report.warnings.iter().cloned())
        .chain(report.forecasts.iter().map(ToString::to_string))
        .chain(report.drift.iter().map(ToString::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_the_older_tool() {
        let counts = Counts {
            processed: 12,
            created: 3,
            updated: 7,
            skipped: 2,
            images: 8,
            charts: 4,
            policies: 15,
            success_rate: 96.666,
            ..Counts::default()
        };
        let time = |text: &str| text.parse().expect("a time");
        let span =
            Span { start: time("2025-10-23T14:30:15Z"), end: time("2025-10-23T14:32:45.3Z") };
        let expected = "\
================================================================================
ECR SYNC SUMMARY
================================================================================
Start Time: 2025-10-23 14:30:15 UTC
End Time: 2025-10-23 14:32:45 UTC
Duration: 150.3 seconds

Repositories Processed: 12
├── Created: 3
├── Updated: 7
└── Skipped: 2

Artifacts Synchronized:
├── Container Images: 8
└── Helm Charts: 4

Policies Applied: 15

Overall Success Rate: 96.7%
================================================================================
";
        assert_eq!(block(&counts, &span), expected);
        let failed = block(&Counts { failed: 1, ..counts }, &span);
        assert!(failed.contains("├── Skipped: 2\n└── Failed: 1\n"), "{failed}");
        let pruned = block(&Counts { pruned: 3, ..counts }, &span);
        assert!(
            pruned.contains("└── Helm Charts: 4\n\nTags Pruned: 3\n\nPolicies Applied: 15\n"),
            "{pruned}"
        );
    }
}
