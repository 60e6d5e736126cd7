//! The end of a run: counts, and each failure with its cause and what to do.

use jiff::Timestamp;
use serde::Serialize;

use super::advice::advice;
use super::ledger::{Record, Status};
use super::outcome::{Outcome, State};
use crate::sync::ArtifactKind;

/// Width of the rules around the block, as the older tool draws them.
const WIDTH: usize = 80;

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Repositories of the files.
    pub(super) processed: usize,
    /// Repositories that were created.
    pub(super) created: usize,
    /// Repositories that were there and of which something was changed.
    pub(super) updated: usize,
    /// Repositories that were as wanted, suspended, or not reached.
    pub(super) skipped: usize,
    /// Repositories of which nothing was changed because something went wrong.
    pub(super) failed: usize,
    /// Images of which at least one tag was copied.
    pub(super) images: usize,
    /// Charts of which at least one version was copied.
    pub(super) charts: usize,
    /// Tags and versions that were copied.
    pub(super) tags: usize,
    /// Tags and versions that were removed.
    pub(super) pruned: usize,
    /// Policies that were written or removed.
    pub(super) policies: usize,
    /// Bytes of blobs that went from sources to ECR.
    pub(super) bytes: u64,
    /// Actions that succeeded, of those that succeeded or failed, in per cent.
    pub(super) success_rate: f64,
}

impl Counts {
    /// Counts what happened.
    pub(super) fn new(outcomes: &[Outcome], records: &[Record], bytes: u64) -> Self {
        let of = |state| outcomes.iter().filter(|outcome| outcome.state == state).count();
        let done: Vec<_> =
            records.iter().filter(|record| record.status == Status::Success).collect();
        let failed = records.iter().filter(|record| record.status == Status::Failed).count();
        let of_field = |field| done.iter().filter(move |record| record.field == field);
        let repositories = |field| {
            let names: std::collections::BTreeSet<_> =
                of_field(field).map(|record| &record.repository).collect();
            names.len()
        };
        let tried = done.len() + failed;
        Self {
            processed: outcomes.len(),
            created: of(State::Created),
            updated: of(State::Updated),
            skipped: of(State::Unchanged) + of(State::Skipped),
            failed: of(State::Failed),
            images: repositories("imageTag"),
            charts: repositories("chartTag"),
            tags: of_field("imageTag").count() + of_field("chartTag").count(),
            pruned: of_field("prune").count(),
            policies: of_field("lifecyclePolicy").count() + of_field("permissionPolicy").count(),
            bytes,
            success_rate: if tried == 0 { 100.0 } else { 100.0 * done.len() as f64 / tried as f64 },
        }
    }
}

/// When a run began and ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Span {
    /// Its length in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.end.duration_since(self.start).as_secs_f64().max(0.0)
    }
}

/// The block that the older tool ends with.
pub(super) fn block(counts: &Counts, span: &Span) -> String {
    let rule = "=".repeat(WIDTH);
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let Counts {
        processed,
        created,
        updated,
        skipped,
        failed,
        images,
        charts,
        pruned,
        policies,
        success_rate,
        ..
    } = counts;
    let mut repositories = vec![("Created", created), ("Updated", updated), ("Skipped", skipped)];
    if *failed > 0 {
        repositories.push(("Failed", failed));
    }
    // The older tool has neither line.
    let pruned = if *pruned > 0 { format!("Tags Pruned: {pruned}\n\n") } else { String::new() };
    format!(
        "{rule}\nECR SYNC SUMMARY\n{rule}\nStart Time: {}\nEnd Time: {}\nDuration: {:.1} seconds\n\n\
         Repositories Processed: {processed}\n{}\n\
         Artifacts Synchronized:\n{}\n\
         {pruned}Policies Applied: {policies}\n\n\
         Overall Success Rate: {success_rate:.1}%\n{rule}\n",
        time(span.start),
        time(span.end),
        span.seconds(),
        branches(&repositories),
        branches(&[("Container Images", images), ("Helm Charts", charts)]),
    )
}

fn branches(entries: &[(&str, &usize)]) -> String {
    let last = entries.len().saturating_sub(1);
    let line = |(index, (name, count)): (usize, &(&str, &usize))| {
        format!("{} {name}: {count}\n", if index == last { "└──" } else { "├──" })
    };
    entries.iter().enumerate().map(line).collect()
}

/// Each failure with its cause and what to do; empty without any.
pub(super) fn failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.is_failure()) {
        text.push_str(&format!("{} ({})\n", outcome.entry.repository(), outcome.entry.place));
        // What many tags suffer from is said once.
        let mut told: Vec<(String, Vec<String>, crate::class::Class)> = Vec::new();
        for (what, failure) in outcome.failures() {
            let message = failure.to_string();
            match told.iter_mut().find(|(other, ..)| *other == message) {
                Some((_, whats, _)) => whats.push(what),
                None => told.push((message, vec![what], failure.class)),
            }
        }
        for (message, whats, class) in told {
            let whats: Vec<_> = whats.into_iter().filter(|what| !what.is_empty()).collect();
            let what =
                if whats.is_empty() { String::new() } else { format!("{}: ", whats.join(", ")) };
            text.push_str(&format!("  ! {what}{message}\n    -> {}\n", advice(class)));
        }
    }
    if text.is_empty() { text } else { format!("\nFailures:\n{text}") }
}

/// What a person should know, although nothing is wrong.
pub(super) fn warnings(outcome: &Outcome) -> Vec<String> {
    let Some(report) = &outcome.report else { return Vec::new() };
    let kept = report.artifacts.iter().flat_map(|artifact| artifact.kept());
    kept.map(|(tag, failure)| format!("tag {tag}: {}", failure.message))
        .chain(report.warnings.iter().cloned())
        .chain(report.forecasts.iter().map(ToString::to_string))
        .chain(report.drift.iter().map(ToString::to_string))
        .collect()
}

/// `2 image tags and 1 chart version`, for the totals of a dry run.
pub(super) fn tags_in_words(images: usize, charts: usize) -> String {
    let counted = |count: usize, kind: ArtifactKind| {
        let noun = if kind == ArtifactKind::Image { "image tag" } else { "chart version" };
        format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
    };
    format!("{} and {}", counted(images, ArtifactKind::Image), counted(charts, ArtifactKind::Chart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_that_of_the_older_tool() {
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
