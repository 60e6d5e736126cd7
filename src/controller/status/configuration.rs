//! The condition `ConfigurationSynced`: settings, policies and resource tags.

use crate::api::v1alpha1::{EcrRepositorySyncStatus as Status, condition};
use crate::class::Class;
use crate::controller::conditions::{Conditions, Is, find};
use crate::controller::reason::Reason;
use crate::failure::Failure;
use crate::sync::{Field, Report};

const TYPE: &str = condition::CONFIGURATION_SYNCED;
const AS_SPECIFIED: &str = "settings, policies and resource tags are as specified";

/// Sets the condition after a pass.
pub(super) fn synced(
    conditions: &mut Conditions<'_>,
    old: &Status,
    generation: i64,
    report: &Report,
) {
    if report.failure.is_some() || !report.configuration_read {
        conditions.keep(TYPE);
    } else if let Some((reason, message)) = problem(&report.configuration) {
        conditions.set(TYPE, Is::False, reason, &message);
    } else if !report.drift.is_empty() {
        let drift = report.drift.iter().map(ToString::to_string);
        let text: Vec<_> = drift.chain(report.pruning_blocked().map(ToString::to_string)).collect();
        conditions.set(TYPE, Is::False, Reason::DriftDetected, &text.join("; "));
    } else if let Some(blocked) = report.pruning_blocked() {
        conditions.set(TYPE, Is::False, Reason::Failed(blocked.class), &blocked.message);
    } else if report.pruning.is_none() && report.prunes && was_blocked(old, generation) {
        // Not every pass looks for tags to prune, and after a start the memory of the last look is
        // lost. Its condition still holds.
        conditions.keep(TYPE);
    } else if report.dry_run && would_change(report) {
        let message = "dry run: changes would be made, see status.plan";
        conditions.set(TYPE, Is::Unknown, Reason::DryRun, message);
    } else if report.forecasts.is_empty() {
        conditions.set(TYPE, Is::True, Reason::Succeeded, AS_SPECIFIED);
    } else {
        // ECR has the policy that the spec wants, but the policy will remove wanted tags.
        let forecasts: Vec<_> = report.forecasts.iter().map(ToString::to_string).collect();
        let message = format!("{AS_SPECIFIED}, but {}", forecasts.join("; "));
        conditions.set(TYPE, Is::True, Reason::Failed(Class::LifecycleConflict), &message);
    }
}

/// Whether a dry run would change a setting, a policy or a resource tag.
fn would_change(report: &Report) -> bool {
    let is_tag = |field: &Field| matches!(field, Field::ImageTag | Field::ChartTag | Field::Prune);
    report.fields.iter().any(|field| !is_tag(field))
}

/// Whether the last pass that looked for tags to prune was blocked.
fn was_blocked(old: &Status, generation: i64) -> bool {
    find(&old.conditions, TYPE).is_some_and(|condition| {
        condition.reason == Class::PruneBlocked.reason()
            && condition.observed_generation == Some(generation)
    })
}

/// Returns the reason of the first failure, and the messages of all.
pub(super) fn problem(failures: &[Failure]) -> Option<(Reason, String)> {
    let first = failures.first()?;
    let messages: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Some((Reason::Failed(first.class), messages.join("; ")))
}
