//! The one place where a report becomes a status. Pure.
//!
//! What Ready means:
//! - True: everything wanted is in ECR. It stays True when a later check cannot be made (a source
//!   is down): then ImageSynced or RepositoryReady is Unknown with the reason.
//! - Unknown, with Reconciling: a new generation before it is done.
//! - False, with Reconciling: something is missing and a retry can heal it.
//! - False, with Stalled: a person must act. Still retried, slowly.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};

use super::conditions::{Conditions, Is, find, truncated};
use super::reason::Reason;
use crate::api::v1alpha1::{
    ArtifactStatus, DerivedTag, EcrRepositorySyncStatus as Status, ExpiredTag, HistoryEntry,
    Ownership, ReferrersStatus, RepositoryStatus, SyncedTag, TagFailure, condition,
};
use crate::class::Class;
use crate::ecr::Repository;
use crate::registry::{Digest, Tag};
use crate::sync::{
    ArtifactKind, ArtifactReport, Derived, Failure, Field, Rebuilt, Report, TagState, Vanished,
};

/// Entries that `latest` and `failures` hold at most: the status stays small whatever the number of
/// tags.
const MAX_ENTRIES: usize = 10;
/// Lines of a dry run's plan.
const MAX_PLAN: usize = 20;
/// Entries in `derived`.
const MAX_DERIVED: usize = 100;
/// Entries in `expired`.
const MAX_EXPIRED: usize = 20;
/// Marks a source in `derived` whose provenance file is part of the manifest.
const WITH_PROVENANCE: &str = "+provenance";
/// Passes in `history`.
const MAX_HISTORY: usize = 5;
/// Longest message of one failure in the list, and longest line of plan and history.
const MAX_LINE: usize = 300;

/// When nothing of the configuration is amiss.
const AS_SPECIFIED: &str = "settings, policies and resource tags are as specified";

/// The circumstances of a pass, which its report does not know.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    /// Generation of the spec.
    pub(super) generation: i64,
    /// Region of the repository.
    pub(super) region: String,
    /// Value of a requestedAt annotation that the pass answers.
    pub(super) handled: Option<String>,
}

/// The status of a generation whose first pass has begun.
pub(super) fn progressing(old: &Status, generation: i64, now: Timestamp) -> Status {
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    let message = "working on the new specification";
    conditions.set(condition::READY, Is::Unknown, Reason::Progressing, message);
    conditions.set(condition::RECONCILING, Is::True, Reason::Progressing, message);
    let parts = [condition::IMAGE_SYNCED, condition::CHART_SYNCED];
    for kept in
        [condition::REPOSITORY_READY, condition::CONFIGURATION_SYNCED].into_iter().chain(parts)
    {
        conditions.keep(kept);
    }
    // The generation counts as observed when its first pass has ended; until then its conditions
    // speak of it.
    Status { conditions: conditions.finish(), ..old.clone() }
}

/// The status after a pass.
pub(super) fn finished(old: &Status, stamp: &Stamp, report: &Report, now: Timestamp) -> Status {
    let generation = stamp.generation;
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    ready(&mut conditions, old, generation, report);
    repository_ready(&mut conditions, old, report);
    configuration_synced(&mut conditions, old, generation, report);
    for kind in [ArtifactKind::Image, ArtifactKind::Chart] {
        match report.artifact(kind) {
            Some(artifact) => artifact_synced(&mut conditions, artifact, report.dry_run),
            None if report.failure.is_some() => conditions.keep(condition_of(kind)),
            None => {}
        }
    }
    let repository = report
        .repository
        .as_ref()
        .map(|(repository, ownership)| repository_status(repository, &stamp.region, *ownership));
    let was_ready = was_ready(old, generation);
    let artifact = |kind, old: &Option<ArtifactStatus>| match report.artifact(kind) {
        // Without the list of tags the counts would be wrong: those of before are better.
        Some(artifact) if artifact.listing.is_some() && old.is_some() => old.clone(),
        Some(artifact) => Some(artifact_status(artifact, was_ready)),
        // The pass ended before the tags were looked at: what was known of them is still the best
        // answer.
        None if report.failure.is_some() => old.clone(),
        None => None,
    };
    Status {
        observed_generation: Some(generation),
        last_handled_reconcile_at: stamp
            .handled
            .clone()
            .or_else(|| old.last_handled_reconcile_at.clone()),
        repository: repository.or_else(|| old.repository.clone()),
        image: artifact(ArtifactKind::Image, &old.image),
        chart: artifact(ArtifactKind::Chart, &old.chart),
        derived: derived(old, report),
        expired: expired(old, report),
        managed_tag_keys: match &report.managed_tag_keys {
            Some(keys) => keys.iter().cloned().collect(),
            None => old.managed_tag_keys.clone(),
        },
        configuration: report.configuration_revision.clone().or_else(|| old.configuration.clone()),
        plan: if report.dry_run { plan(&report.changes) } else { Vec::new() },
        history: history(old, generation, report, now),
        conditions: conditions.finish(),
    }
}

/// What was made of chart archives and of indexes. The newest versions matter most: beyond the
/// bound they are the ones kept.
fn derived(old: &Status, report: &Report) -> Vec<DerivedTag> {
    if report.artifacts.is_empty() && report.failure.is_some() {
        return old.derived.clone();
    }
    let of_indexes =
        report.artifacts.iter().flat_map(|artifact| artifact.rebuilt.iter().rev()).map(
            |(tag, rebuilt)| {
                let source = format!("{}+{}", rebuilt.source, rebuilt.platforms);
                DerivedTag { tag: tag.to_string(), source, target: rebuilt.target.to_string() }
            },
        );
    let of_charts = report.artifacts.iter().flat_map(|artifact| artifact.derived.iter().rev());
    of_charts
        .map(|(tag, derived)| DerivedTag {
            tag: tag.to_string(),
            source: format!(
                "{}{}",
                derived.archive,
                if derived.provenance { WITH_PROVENANCE } else { "" }
            ),
            target: derived.manifest.to_string(),
        })
        .chain(of_indexes)
        .take(MAX_DERIVED)
        .collect()
}

/// What the status says was made of indexes; entries that are of charts, or cannot be read, count
/// as unknown.
pub(super) fn rebuilt(status: &Status) -> BTreeMap<Tag, Rebuilt> {
    let entry = |derived: &DerivedTag| {
        let (source, platforms) = derived.source.split_once('+')?;
        let platforms = platforms.to_owned();
        let rebuilt = Rebuilt {
            source: source.parse().ok()?,
            platforms,
            target: derived.target.parse().ok()?,
        };
        Some((derived.tag.parse().ok()?, rebuilt))
    };
    status
        .derived
        .iter()
        .filter(|derived| !derived.source.ends_with(WITH_PROVENANCE))
        .filter_map(entry)
        .collect()
}

/// What the status says was made of chart archives; entries that cannot be read count as unknown.
pub(super) fn known(status: &Status) -> BTreeMap<Tag, Derived> {
    let entry = |derived: &DerivedTag| {
        let archive = derived.source.strip_suffix(WITH_PROVENANCE);
        let provenance = archive.is_some();
        let archive = archive.unwrap_or(&derived.source).parse().ok()?;
        Some((
            derived.tag.parse().ok()?,
            Derived { archive, provenance, manifest: derived.target.parse().ok()? },
        ))
    };
    status.derived.iter().filter_map(entry).collect()
}

/// The tags that vanished. Those that did so most often are kept where there are too many: they are
/// next to be left alone.
fn expired(old: &Status, report: &Report) -> Vec<ExpiredTag> {
    if report.failure.is_some() {
        return old.expired.clone();
    }
    let mut vanished: Vec<_> = report.vanished.iter().collect();
    vanished.sort_by_key(|(tag, vanished)| (std::cmp::Reverse(vanished.times), (*tag).clone()));
    let entry = |(tag, vanished): (&Tag, &Vanished)| ExpiredTag {
        tag: tag.to_string(),
        digest: vanished.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        times: vanished.times,
    };
    vanished.into_iter().take(MAX_EXPIRED).map(entry).collect()
}

/// The tags that the status says vanished, while it speaks of this generation: a new spec is a new
/// beginning.
pub(super) fn vanished(status: &Status, generation: i64) -> BTreeMap<Tag, Vanished> {
    if status.observed_generation != Some(generation) {
        return BTreeMap::new();
    }
    let entry = |expired: &ExpiredTag| {
        let vanished = Vanished { digest: expired.digest.parse().ok(), times: expired.times };
        Some((expired.tag.parse().ok()?, vanished))
    };
    status.expired.iter().filter_map(entry).collect()
}

fn plan(changes: &[String]) -> Vec<String> {
    let mut lines: Vec<_> =
        changes.iter().take(MAX_PLAN).map(|line| truncated(line, MAX_LINE)).collect();
    if changes.len() > MAX_PLAN {
        lines.push(format!("and {} more", changes.len() - MAX_PLAN));
    }
    lines
}

/// Grows by passes that changed something: a no-op leaves no trace.
fn history(old: &Status, generation: i64, report: &Report, now: Timestamp) -> Vec<HistoryEntry> {
    if report.dry_run || report.changes.is_empty() {
        return old.history.clone();
    }
    // Kubernetes shows whole seconds; more would not survive being written and read.
    let time = Time(now.round(Unit::Second).unwrap_or(now));
    let entry = HistoryEntry { time, generation, changes: truncated(&report.summary(), MAX_LINE) };
    // Written before, but the answer was lost.
    if old.history.first() == Some(&entry) {
        return old.history.clone();
    }
    std::iter::once(entry).chain(old.history.iter().cloned()).take(MAX_HISTORY).collect()
}

/// Whether everything was in order for this generation.
pub(super) fn was_ready(old: &Status, generation: i64) -> bool {
    find(&old.conditions, condition::READY).is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == Some(generation)
    })
}

/// Whether all that went wrong leaves open that everything is still in place.
fn nothing_known_missing(report: &Report) -> bool {
    report.failure.as_ref().is_none_or(|failure| failure.class.is_passing())
        && report.configuration.is_empty()
        && report.artifacts.iter().all(|artifact| {
            artifact.is_all_there()
                && artifact.listing.as_ref().is_none_or(|failure| failure.class.is_passing())
        })
}

fn ready(conditions: &mut Conditions<'_>, old: &Status, generation: i64, report: &Report) {
    if report.dry_run && report.is_success() {
        let message = match report.changes.len() {
            0 => "dry run: nothing would be done".to_owned(),
            changes => format!("dry run: {changes} changes would be made, see status.plan"),
        };
        conditions.set(condition::READY, Is::Unknown, Reason::DryRun, &message);
        return;
    }
    if report.is_success() {
        let uri =
            report.repository.as_ref().map_or("the repository", |(repository, _)| &repository.uri);
        let counts: Vec<_> =
            report.artifacts.iter().map(|a| format!("{} {}", summary(a), plural(a.kind))).collect();
        let message = match counts.as_slice() {
            [] => format!("{uri} is as specified"),
            counts => format!("{} in {uri}", counts.join(" and ")),
        };
        conditions.set(condition::READY, Is::True, Reason::Succeeded, &message);
        return;
    }
    if was_ready(old, generation) && nothing_known_missing(report) {
        conditions.keep(condition::READY);
        return;
    }
    let (reason, message) = first_problem(report);
    conditions.set(condition::READY, Is::False, reason, &message);
    if report.failures().all(|failure| failure.class.needs_a_person()) {
        conditions.set(condition::STALLED, Is::True, reason, &message);
    } else {
        conditions.set(condition::RECONCILING, Is::True, Reason::ProgressingWithRetry, &message);
    }
}

/// Reason and message of the first part that is not as it should be.
fn first_problem(report: &Report) -> (Reason, String) {
    if let Some(failure) = &report.failure {
        return (Reason::Failed(failure.class), failure.message.clone());
    }
    if let Some((reason, message)) = configuration_problem(&report.configuration) {
        return (reason, message);
    }
    let mut problems =
        report.artifacts.iter().filter(|a| a.listing.is_some() || a.failures().next().is_some());
    problems
        .next()
        .map_or_else(|| (Reason::Failed(Class::Internal), String::new()), artifact_problem)
}

fn repository_ready(conditions: &mut Conditions<'_>, old: &Status, report: &Report) {
    let type_ = condition::REPOSITORY_READY;
    match (&report.repository, &report.failure) {
        (Some((repository, _)), _) => {
            conditions.set(type_, Is::True, Reason::Succeeded, &repository.arn)
        }
        (None, Some(failure))
            if old.repository.is_some() && failure.class != Class::RepositoryNotOwned =>
        {
            conditions.set(type_, Is::Unknown, Reason::Failed(failure.class), &failure.message);
        }
        (None, Some(failure)) => {
            conditions.set(type_, Is::False, Reason::Failed(failure.class), &failure.message)
        }
        (None, None) => {}
    }
}

fn configuration_synced(
    conditions: &mut Conditions<'_>,
    old: &Status,
    generation: i64,
    report: &Report,
) {
    let type_ = condition::CONFIGURATION_SYNCED;
    if report.failure.is_some() || !report.is_whole {
        conditions.keep(type_);
    } else if let Some((reason, message)) = configuration_problem(&report.configuration) {
        conditions.set(type_, Is::False, reason, &message);
    } else if !report.drift.is_empty() {
        let drift = report.drift.iter().map(ToString::to_string);
        let text: Vec<_> = drift.chain(report.pruning_blocked().map(ToString::to_string)).collect();
        conditions.set(type_, Is::False, Reason::DriftDetected, &text.join("; "));
    } else if let Some(blocked) = report.pruning_blocked() {
        conditions.set(type_, Is::False, Reason::Failed(blocked.class), &blocked.message);
    } else if report.pruning.is_none() && report.prunes && is_blocked(old, generation) {
        // Not every pass looks for tags to remove; after a start nobody remembers what the last one
        // found.
        conditions.keep(type_);
    } else if report.dry_run
        && report
            .fields
            .iter()
            .any(|field| !matches!(field, Field::ImageTag | Field::ChartTag | Field::Prune))
    {
        conditions.set(
            type_,
            Is::Unknown,
            Reason::DryRun,
            "dry run: changes would be made, see status.plan",
        );
    } else if report.forecasts.is_empty() {
        conditions.set(type_, Is::True, Reason::Succeeded, AS_SPECIFIED);
    } else {
        // As written, but what is written will bite.
        let told: Vec<_> = report.forecasts.iter().map(ToString::to_string).collect();
        let message = format!("{AS_SPECIFIED}, but {}", told.join("; "));
        conditions.set(type_, Is::True, Reason::Failed(Class::LifecycleConflict), &message);
    }
}

/// Whether the last pass that looked for tags to remove could not.
fn is_blocked(old: &Status, generation: i64) -> bool {
    find(&old.conditions, condition::CONFIGURATION_SYNCED).is_some_and(|before| {
        before.reason == Class::PruneBlocked.reason()
            && before.observed_generation == Some(generation)
    })
}

fn configuration_problem(failures: &[Failure]) -> Option<(Reason, String)> {
    let first = failures.first()?;
    let text: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Some((Reason::Failed(first.class), text.join("; ")))
}

const fn condition_of(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Image => condition::IMAGE_SYNCED,
        ArtifactKind::Chart => condition::CHART_SYNCED,
    }
}

/// What an artifact has several of.
const fn plural(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Image => "tags",
        ArtifactKind::Chart => "chart versions",
    }
}

fn artifact_synced(conditions: &mut Conditions<'_>, artifact: &ArtifactReport, dry_run: bool) {
    let type_ = condition_of(artifact.kind);
    let (summary, noun) = (summary(artifact), plural(artifact.kind));
    let is_good = artifact.failures().next().is_none() && artifact.listing.is_none();
    let planned = artifact.tags.values().filter(|state| matches!(state, TagState::Planned)).count();
    if dry_run && planned > 0 && is_good {
        let message = format!("{summary} {noun}; {planned} would be copied");
        conditions.set(type_, Is::Unknown, Reason::DryRun, &message);
    } else if let (true, Some((tag, kept))) = (is_good, artifact.kept().next()) {
        // Nothing is missing and nobody must act, but nobody should wonder either.
        let message =
            format!("{summary} {noun} from {}; {tag}: {}", artifact.place(), kept.message);
        conditions.set(type_, Is::True, Reason::Failed(kept.class), &message);
    } else if is_good {
        conditions.set(
            type_,
            Is::True,
            Reason::Succeeded,
            &format!("{summary} {noun} from {}", artifact.place()),
        );
    } else {
        let (reason, message) = artifact_problem(artifact);
        let is = if artifact.is_all_there() { Is::Unknown } else { Is::False };
        conditions.set(type_, is, reason, &message);
    }
}

/// `PartiallySynced` when some tags are in ECR and some are not; else the kind of the first
/// failure.
fn artifact_problem(artifact: &ArtifactReport) -> (Reason, String) {
    if let Some(failure) = &artifact.listing {
        return (Reason::Failed(failure.class), failure.message.clone());
    }
    let failures: Vec<_> = artifact.failures().collect();
    let Some((tag, first)) = failures.first() else { return (Reason::Succeeded, String::new()) };
    let some_synced = artifact.synced().next().is_some();
    let reason = if some_synced && !artifact.is_all_there() {
        Reason::PartiallySynced
    } else {
        Reason::Failed(first.class)
    };
    let more = match failures.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more, see status.{}.failures)", artifact.kind.noun()),
    };
    let (summary, noun) = (summary(artifact), plural(artifact.kind));
    (reason, format!("{summary} {noun}; {tag}: {}: {}{more}", first.class, first.message))
}

fn summary(image: &ArtifactReport) -> String {
    format!("{}/{}", image.synced().count(), image.tags.len())
}

fn repository_status(
    repository: &Repository,
    region: &str,
    ownership: Ownership,
) -> RepositoryStatus {
    RepositoryStatus {
        name: repository.name.clone(),
        arn: repository.arn.clone(),
        uri: repository.uri.clone(),
        registry_id: repository.registry_id.clone(),
        region: region.to_owned(),
        ownership,
    }
}

/// `was_ready`: all tags were compared before, and those that the source cannot be asked about now
/// are as they were.
fn artifact_status(image: &ArtifactReport, was_ready: bool) -> ArtifactStatus {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let failed = image.tags.values().filter(|state| matches!(state, TagState::Failed(_))).count();
    let in_ecr = |state: &&TagState| match state {
        TagState::Synced(_) | TagState::Kept { .. } => true,
        TagState::Unverified { .. } => was_ready,
        TagState::Archived { .. } | TagState::Failed(_) | TagState::Planned => false,
    };
    let synced = image.tags.values().filter(in_ecr).count();
    let archived =
        image.tags.values().filter(|state| matches!(state, TagState::Archived { .. })).count();
    ArtifactStatus {
        source: image.source.clone(),
        original: image.original.clone(),
        summary: format!("{synced}/{}", image.tags.len()),
        desired: count(image.tags.len()),
        synced: count(synced),
        failed: count(failed),
        archived: count(archived),
        revision: revision(image),
        referrers: image.referrers.as_ref().map(|referrers| ReferrersStatus {
            found: count(referrers.found),
            failed: count(referrers.failures.len()),
            message: referrers
                .failures
                .first()
                .map(|failure| truncated(&failure.message, MAX_LINE))
                .unwrap_or_default(),
        }),
        latest: image
            .synced()
            .take(MAX_ENTRIES)
            .map(|(tag, digest)| SyncedTag { tag: tag.to_string(), digest: digest.to_string() })
            .collect(),
        failures: image
            .failures()
            .take(MAX_ENTRIES)
            .map(|(tag, failure)| TagFailure {
                tag: tag.to_string(),
                reason: failure.class.reason().to_owned(),
                message: truncated(&failure.message, MAX_LINE),
            })
            .collect(),
    }
}

/// Sixteen digits of the hash of all tags and digests; empty without any.
fn revision(image: &ArtifactReport) -> String {
    let content: String = image.synced().map(|(tag, digest)| format!("{tag} {digest}\n")).collect();
    if content.is_empty() {
        return String::new();
    }
    Digest::sha256_of(content.as_bytes()).hex().chars().take(16).collect()
}

#[cfg(test)]
mod tests;
