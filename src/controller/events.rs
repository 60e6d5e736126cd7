//! Kubernetes events, on transitions only. The same cause has the same note.
//!
//! kube's `Recorder` is not used: it ignores the note when it compares events, so that the second
//! of two failures with one reason is lost.

use super::conditions::find;
use super::reason::Reason;
use crate::api::v1alpha1::{EcrRepositorySyncStatus as Status, condition};
use crate::class::Class;
use crate::sync::Report;

/// Kinds of failure that are reported although the condition is True.
const WARNED: [Class; 2] = [Class::SourceChanged, Class::LifecycleConflict];

/// One event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) text: String,
}

impl Note {
    pub(super) fn normal(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), text: text.into() }
    }

    pub(super) fn warning(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), text: text.into() }
    }
}

/// Returns the events for the change from the old status to the new one.
pub(super) fn transitions(old: &Status, new: &Status, report: &Report) -> Vec<Note> {
    let mut notes = Vec::new();

    // There is one event for a whole pass, never one per tag.
    if !report.changes.is_empty() && !report.dry_run {
        notes.push(Note::normal(Reason::Synced.as_str(), report.summary()));
    }
    if !report.corrected.is_empty() {
        let text: Vec<_> = report.corrected.iter().map(ToString::to_string).collect();
        let text = format!("drift corrected: {}", text.join("; "));
        notes.push(Note::warning(Reason::DriftDetected.as_str(), text));
    }
    if report.dry_run && old.plan != new.plan {
        notes.push(Note::normal(Reason::DryRun.as_str(), format!("would: {}", report.summary())));
    }
    if old.observed_generation != new.observed_generation {
        notes.extend(
            report.warnings.iter().map(|text| Note::warning(Reason::Advice.as_str(), text.clone())),
        );
    }

    let types = [
        condition::READY,
        condition::CONFIGURATION_SYNCED,
        condition::IMAGE_SYNCED,
        condition::CHART_SYNCED,
        condition::REPOSITORY_READY,
    ];

    for type_ in types {
        let before = find(&old.conditions, type_);
        let Some(after) = find(&new.conditions, type_) else { continue };
        let is_same = before.is_some_and(|before| {
            before.status == after.status
                && before.reason == after.reason
                && before.message == after.message
        });
        if is_same {
            continue;
        }

        match after.status.as_str() {
            // A recovery without changes in ECR. Changes were reported above.
            "True" if type_ == condition::READY && report.changes.is_empty() => {
                notes.push(Note::normal(&after.reason, &after.message));
            }
            // Everything is as specified, but a person should know about it.
            "True" if WARNED.iter().any(|class| after.reason == class.reason()) => {
                notes.push(Note::warning(&after.reason, &after.message));
            }
            "True" => {}
            // The plan of a dry run was reported above.
            _ if after.reason == Reason::DryRun.as_str() => {}
            _ => {
                let note = Note::warning(&after.reason, &after.message);
                // The other conditions often repeat the reason and message of Ready.
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }

    notes
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::controller::status::{self, Stamp};
    use crate::sync::Failure;

    fn after(old: &Status, report: &Report) -> Status {
        let stamp = Stamp { generation: 1, ..Stamp::default() };
        status::finished(old, &stamp, report, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_failure_is_reported_once() {
        let report = Report::failed(Failure::new(Class::AccessDenied, "why"));
        let first = after(&Status::default(), &report);
        assert_eq!(
            transitions(&Status::default(), &first, &report),
            [Note::warning("AccessDenied", "why")]
        );
        let second = after(&first, &report);
        assert_eq!(transitions(&first, &second, &report), []);
    }

    #[test]
    fn another_cause_with_the_same_reason_is_reported() {
        let one = Report::failed(Failure::new(Class::AccessDenied, "one"));
        let two = Report::failed(Failure::new(Class::AccessDenied, "two"));
        let first = after(&Status::default(), &one);
        assert_eq!(
            transitions(&first, &after(&first, &two), &two),
            [Note::warning("AccessDenied", "two")]
        );
    }

    #[test]
    fn a_pass_that_copies_many_tags_is_one_event() {
        let changes: Vec<_> = (0..20).map(|n| format!("copied tag {n}")).collect();
        let report = Report { changes, ..Report::default() };
        let notes = transitions(&Status::default(), &after(&Status::default(), &report), &report);
        assert_eq!(
            notes,
            [Note::normal(
                "Synced",
                "copied tag 0; copied tag 1; copied tag 2; copied tag 3; copied tag 4; and 15 more"
            )]
        );
    }
}
