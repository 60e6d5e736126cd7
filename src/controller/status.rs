//! The one place where a report becomes a status. Pure.
//!
//! What Ready means:
//! - True: everything wanted is in ECR. It stays True when a later check cannot be made (a source is down): then
//!   ImageSynced or RepositoryReady is Unknown with the reason.
//! - Unknown, with Reconciling: a new generation before it is done.
//! - False, with Reconciling: something is missing and a retry can heal it.
//! - False, with Stalled: a person must act. Still retried, slowly.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};

use super::conditions::{Conditions, Is, find, truncated};
use super::reason::Reason;
use crate::api::v1alpha1::{
    ArtifactStatus, DerivedTag, EcrRepositorySyncStatus as Status, HistoryEntry, Ownership, RepositoryStatus,
    SyncedTag, TagFailure, condition,
};
use crate::class::Class;
use crate::ecr::Repository;
use crate::registry::{Digest, Tag};
use crate::sync::{ArtifactKind, ArtifactReport, Derived, Failure, Report, TagState};

/// Entries that `latest` and `failures` hold at most: the status stays small whatever the number of tags.
const MAX_ENTRIES: usize = 10;
/// Lines of a dry run's plan.
const MAX_PLAN: usize = 20;
/// Entries in `derived`.
const MAX_DERIVED: usize = 100;
/// Marks a source in `derived` whose provenance file is part of the manifest.
const WITH_PROVENANCE: &str = "+provenance";
/// Passes in `history`.
const MAX_HISTORY: usize = 5;
/// Longest message of one failure in the list, and longest line of plan and history.
const MAX_LINE: usize = 300;

/// What a pass was about.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// The generation of the spec.
    pub(super) generation: i64,
    /// The region of the repository.
    pub(super) region: String,
    /// The value of a requestedAt annotation that the pass answers.
    pub(super) handled: Option<String>,
}

impl Pass {
    /// A pass that nobody asked for.
    pub(super) fn new(generation: i64, region: &str) -> Self {
        Self { generation, region: region.to_owned(), handled: None }
    }
}

/// The status of a generation whose first pass has begun.
pub(super) fn progressing(old: &Status, generation: i64, now: Timestamp) -> Status {
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    let message = "working on the new specification";
    conditions.set(condition::READY, Is::Unknown, Reason::Progressing, message);
    conditions.set(condition::RECONCILING, Is::True, Reason::Progressing, message);
    let parts = [condition::IMAGE_SYNCED, condition::CHART_SYNCED];
    for kept in [condition::REPOSITORY_READY, condition::CONFIGURATION_SYNCED].into_iter().chain(parts) {
        conditions.keep(kept);
    }
    // The generation counts as observed when its first pass has ended; until then its conditions speak of it.
    Status { conditions: conditions.finish(), ..old.clone() }
}

/// The status after a pass.
pub(super) fn finished(old: &Status, pass: &Pass, report: &Report, now: Timestamp) -> Status {
    let generation = pass.generation;
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    ready(&mut conditions, old, generation, report);
    repository_ready(&mut conditions, old, report);
    configuration_synced(&mut conditions, report);
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
        .map(|(repository, ownership)| repository_status(repository, &pass.region, *ownership));
    let artifact = |kind, old: &Option<ArtifactStatus>| match report.artifact(kind) {
        // Without the list of tags the counts would be wrong: those of before are better.
        Some(artifact) if artifact.listing.is_some() && old.is_some() => old.clone(),
        Some(artifact) => Some(artifact_status(artifact)),
        // The pass ended before the tags were looked at: what was known of them is still the best answer.
        None if report.failure.is_some() => old.clone(),
        None => None,
    };
    Status {
        observed_generation: Some(generation),
        last_handled_reconcile_at: pass.handled.clone().or_else(|| old.last_handled_reconcile_at.clone()),
        repository: repository.or_else(|| old.repository.clone()),
        image: artifact(ArtifactKind::Image, &old.image),
        chart: artifact(ArtifactKind::Chart, &old.chart),
        derived: derived(old, report),
        plan: if report.dry_run { plan(&report.changes) } else { Vec::new() },
        history: history(old, generation, report, now),
        conditions: conditions.finish(),
    }
}

/// What was made of chart archives. The newest versions matter most: beyond the bound they are the ones kept.
fn derived(old: &Status, report: &Report) -> Vec<DerivedTag> {
    let Some(chart) = report.artifact(ArtifactKind::Chart) else {
        return if report.failure.is_some() { old.derived.clone() } else { Vec::new() };
    };
    let known = chart.derived.iter().rev().take(MAX_DERIVED);
    known
        .map(|(tag, derived)| DerivedTag {
            tag: tag.to_string(),
            source: format!("{}{}", derived.archive, if derived.provenance { WITH_PROVENANCE } else { "" }),
            target: derived.manifest.to_string(),
        })
        .collect()
}

/// What the status says was made of chart archives; entries that cannot be read count as unknown.
pub(super) fn known(status: &Status) -> BTreeMap<Tag, Derived> {
    let entry = |derived: &DerivedTag| {
        let archive = derived.source.strip_suffix(WITH_PROVENANCE);
        let provenance = archive.is_some();
        let archive = archive.unwrap_or(&derived.source).parse().ok()?;
        Some((derived.tag.parse().ok()?, Derived { archive, provenance, manifest: derived.target.parse().ok()? }))
    };
    status.derived.iter().filter_map(entry).collect()
}

fn plan(changes: &[String]) -> Vec<String> {
    let mut lines: Vec<_> = changes.iter().take(MAX_PLAN).map(|line| truncated(line, MAX_LINE)).collect();
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

/// Whether a failure says only that something could not be looked at just now.
const fn is_passing(class: Class) -> bool {
    matches!(class, Class::RegistryUnavailable | Class::RateLimited | Class::Timeout | Class::Cancelled)
}

/// Whether everything was in order for this generation.
pub(super) fn was_ready(old: &Status, generation: i64) -> bool {
    find(&old.conditions, condition::READY)
        .is_some_and(|ready| ready.status == "True" && ready.observed_generation == Some(generation))
}

/// Whether all that went wrong leaves open that everything is still in place.
fn nothing_known_missing(report: &Report) -> bool {
    report.failure.as_ref().is_none_or(|failure| is_passing(failure.class))
        && report.configuration.is_empty()
        && report.artifacts.iter().all(|artifact| {
            artifact.is_all_there() && artifact.listing.as_ref().is_none_or(|failure| is_passing(failure.class))
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
        let uri = report.repository.as_ref().map_or("the repository", |(repository, _)| &repository.uri);
        let counts: Vec<_> = report.artifacts.iter().map(|a| format!("{} {}", summary(a), plural(a.kind))).collect();
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
    let mut problems = report.artifacts.iter().filter(|a| a.listing.is_some() || a.failures().next().is_some());
    problems.next().map_or_else(|| (Reason::Failed(Class::Internal), String::new()), artifact_problem)
}

fn repository_ready(conditions: &mut Conditions<'_>, old: &Status, report: &Report) {
    let type_ = condition::REPOSITORY_READY;
    match (&report.repository, &report.failure) {
        (Some((repository, _)), _) => conditions.set(type_, Is::True, Reason::Succeeded, &repository.arn),
        (None, Some(failure)) if old.repository.is_some() && failure.class != Class::RepositoryNotOwned => {
            conditions.set(type_, Is::Unknown, Reason::Failed(failure.class), &failure.message);
        }
        (None, Some(failure)) => conditions.set(type_, Is::False, Reason::Failed(failure.class), &failure.message),
        (None, None) => {}
    }
}

fn configuration_synced(conditions: &mut Conditions<'_>, report: &Report) {
    let type_ = condition::CONFIGURATION_SYNCED;
    if report.failure.is_some() {
        conditions.keep(type_);
    } else if let Some((reason, message)) = configuration_problem(&report.configuration) {
        conditions.set(type_, Is::False, reason, &message);
    } else if report.dry_run && report.changes.iter().any(|change| !change.starts_with("co")) {
        // Everything that is planned but copies and comparisons is configuration.
        conditions.set(type_, Is::Unknown, Reason::DryRun, "dry run: changes would be made, see status.plan");
    } else {
        conditions.set(type_, Is::True, Reason::Succeeded, "policies and resource tags are as specified");
    }
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
        let message = format!("{summary} {noun} from {}; {tag}: {}", artifact.source, kept.message);
        conditions.set(type_, Is::True, Reason::Failed(kept.class), &message);
    } else if is_good {
        conditions.set(type_, Is::True, Reason::Succeeded, &format!("{summary} {noun} from {}", artifact.source));
    } else {
        let (reason, message) = artifact_problem(artifact);
        let is = if artifact.is_all_there() { Is::Unknown } else { Is::False };
        conditions.set(type_, is, reason, &message);
    }
}

/// `PartiallySynced` when some tags are in ECR and some are not; else the kind of the first failure.
fn artifact_problem(artifact: &ArtifactReport) -> (Reason, String) {
    if let Some(failure) = &artifact.listing {
        return (Reason::Failed(failure.class), failure.message.clone());
    }
    let failures: Vec<_> = artifact.failures().collect();
    let Some((tag, first)) = failures.first() else { return (Reason::Succeeded, String::new()) };
    let some_synced = artifact.synced().next().is_some();
    let reason =
        if some_synced && !artifact.is_all_there() { Reason::PartiallySynced } else { Reason::Failed(first.class) };
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

fn repository_status(repository: &Repository, region: &str, ownership: Ownership) -> RepositoryStatus {
    RepositoryStatus {
        name: repository.name.clone(),
        arn: repository.arn.clone(),
        uri: repository.uri.clone(),
        registry_id: repository.registry_id.clone(),
        region: region.to_owned(),
        ownership,
    }
}

fn artifact_status(image: &ArtifactReport) -> ArtifactStatus {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let failed = image.tags.values().filter(|state| matches!(state, TagState::Failed(_))).count();
    ArtifactStatus {
        source: image.source.clone(),
        summary: summary(image),
        desired: count(image.tags.len()),
        synced: count(image.synced().count()),
        failed: count(failed),
        revision: revision(image),
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
mod tests {
    use super::*;
    use crate::ecr::Mutability;

    fn digest() -> Digest {
        Digest::sha256_of(b"image")
    }

    fn repository() -> (Repository, Ownership) {
        let repository = Repository {
            name: "app".to_owned(),
            arn: "arn:aws:ecr:eu-west-1:123456789012:repository/app".to_owned(),
            uri: "registry.example/app".to_owned(),
            registry_id: "123456789012".to_owned(),
            mutability: Mutability::Mutable,
        };
        (repository, Ownership::Created)
    }

    fn report(states: &[(&str, TagState)]) -> Report {
        let tags: BTreeMap<Tag, TagState> =
            states.iter().map(|(tag, state)| (tag.parse().expect("a tag"), state.clone())).collect();
        Report {
            repository: Some(repository()),
            artifacts: vec![artifact(ArtifactKind::Image, tags)],
            ..Report::default()
        }
    }

    fn artifact(kind: ArtifactKind, tags: BTreeMap<Tag, TagState>) -> ArtifactReport {
        let source = "docker.io/library/app".to_owned();
        ArtifactReport { kind, source, tags, listing: None, copied: 0, derived: BTreeMap::new() }
    }

    fn failed(class: Class) -> TagState {
        TagState::Failed(Failure::new(class, "why"))
    }

    fn unverified(class: Class) -> TagState {
        TagState::Unverified { digest: digest(), failure: Failure::new(class, "why") }
    }

    fn after(old: &Status, report: &Report) -> Status {
        finished(old, &Pass::new(1, "eu-west-1"), report, Timestamp::UNIX_EPOCH)
    }

    /// Ready's status and reason, and which of Reconciling and Stalled stand.
    fn shown(status: &Status) -> (String, String, bool, bool) {
        let ready = find(&status.conditions, condition::READY).expect("Ready is always there");
        let has = |type_| find(&status.conditions, type_).is_some();
        (ready.status.clone(), ready.reason.clone(), has(condition::RECONCILING), has(condition::STALLED))
    }

    fn expect(status: &Status, ready: &str, reason: &str, reconciling: bool, stalled: bool) {
        assert_eq!(shown(status), (ready.to_owned(), reason.to_owned(), reconciling, stalled));
    }

    #[test]
    fn everything_there_is_ready() {
        let status = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
        expect(&status, "True", "Succeeded", false, false);
        assert_eq!(status.image.expect("an image").summary, "1/1");
        assert_eq!(status.observed_generation, Some(1));
    }

    #[test]
    fn one_bad_tag_is_partially_synced_and_stalled_only_if_nothing_else_can_heal() {
        let synced = ("1", TagState::Synced(digest()));
        let status = after(&Status::default(), &report(&[synced.clone(), ("2", failed(Class::SourceNotFound))]));
        expect(&status, "False", "PartiallySynced", false, true);
        let both = [synced, ("2", failed(Class::SourceNotFound)), ("3", failed(Class::RegistryUnavailable))];
        expect(&after(&Status::default(), &report(&both)), "False", "PartiallySynced", true, false);
    }

    #[test]
    fn a_source_that_goes_down_does_not_take_ready() {
        let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
        let down = after(&good, &report(&[("1", unverified(Class::RegistryUnavailable))]));
        expect(&down, "True", "Succeeded", false, false);
        let image = find(&down.conditions, condition::IMAGE_SYNCED).expect("set");
        assert_eq!((image.status.as_str(), image.reason.as_str()), ("Unknown", "RegistryUnavailable"));
    }

    #[test]
    fn a_list_of_tags_that_cannot_be_read_leaves_what_was_known() {
        let good =
            after(&Status::default(), &report(&[("1", TagState::Synced(digest())), ("2", TagState::Synced(digest()))]));
        let mut blind = report(&[("1", TagState::Synced(digest()))]);
        blind.artifacts[0].listing = Some(Failure::new(Class::RegistryUnavailable, "why"));
        let status = after(&good, &blind);
        expect(&status, "True", "Succeeded", false, false);
        assert_eq!(status.image, good.image);
        assert_eq!(find(&status.conditions, condition::IMAGE_SYNCED).expect("set").status, "Unknown");
        expect(&after(&Status::default(), &blind), "False", "RegistryUnavailable", true, false);
    }

    #[test]
    fn a_tag_that_was_never_compared_is_not_ready() {
        let first = after(&Status::default(), &report(&[("1", unverified(Class::RegistryUnavailable))]));
        expect(&first, "False", "RegistryUnavailable", true, false);
    }

    #[test]
    fn an_invalid_spec_is_stalled_whatever_was_before() {
        let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
        let bad = after(&good, &Report::failed(Failure::new(Class::InvalidSpec, "why")));
        expect(&bad, "False", "InvalidSpec", false, true);
        assert_eq!(bad.image, good.image, "what was known stays");
    }

    #[test]
    fn aws_out_of_reach_leaves_ready_and_makes_the_repository_unknown() {
        let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
        let away = after(&good, &Report::failed(Failure::new(Class::RegistryUnavailable, "why")));
        expect(&away, "True", "Succeeded", false, false);
        assert_eq!(find(&away.conditions, condition::REPOSITORY_READY).expect("set").status, "Unknown");
    }

    #[test]
    fn a_rejected_policy_is_named_while_the_image_is_synced() {
        let mut report = report(&[("1", TagState::Synced(digest()))]);
        report.configuration.push(Failure::new(Class::PolicyRejected, "why"));
        let status = after(&Status::default(), &report);
        expect(&status, "False", "PolicyRejected", false, true);
        assert_eq!(find(&status.conditions, condition::IMAGE_SYNCED).expect("set").status, "True");
    }

    #[test]
    fn a_dry_run_is_unknown_and_shows_a_bounded_plan() {
        let mut report = report(&[("1", TagState::Planned)]);
        report.dry_run = true;
        report.changes = (0..100).map(|n| format!("change {n}")).collect();
        let status = after(&Status::default(), &report);
        expect(&status, "Unknown", "DryRun", false, false);
        assert_eq!(status.plan.len(), 21);
        assert_eq!(status.plan.last().map(String::as_str), Some("and 80 more"));
        assert!(status.history.is_empty(), "nothing happened");
    }

    #[test]
    fn image_and_chart_have_conditions_of_their_own() {
        let mut both = report(&[("1", TagState::Synced(digest()))]);
        both.artifacts.push(artifact(
            ArtifactKind::Chart,
            [("1.0.0".parse().expect("a tag"), failed(Class::SourceNotFound))].into(),
        ));
        let status = after(&Status::default(), &both);
        expect(&status, "False", "SourceNotFound", false, true);
        assert_eq!(find(&status.conditions, condition::IMAGE_SYNCED).expect("set").status, "True");
        assert_eq!(find(&status.conditions, condition::CHART_SYNCED).expect("set").status, "False");
        assert_eq!(status.chart.expect("a chart").summary, "0/1");
    }

    #[test]
    fn what_is_kept_is_there_and_told() {
        let kept = TagState::Kept { digest: digest(), failure: Failure::new(Class::SourceChanged, "why") };
        let mut kept_chart = report(&[]);
        kept_chart.artifacts = vec![artifact(ArtifactKind::Chart, [("1.0.0".parse().expect("a tag"), kept)].into())];
        let status = after(&Status::default(), &kept_chart);
        expect(&status, "True", "Succeeded", false, false);
        let chart = find(&status.conditions, condition::CHART_SYNCED).expect("set");
        assert_eq!((chart.status.as_str(), chart.reason.as_str()), ("True", "SourceChanged"));
    }

    #[test]
    fn what_was_made_of_archives_survives_the_status() {
        let derived = |provenance| Derived { archive: digest(), provenance, manifest: Digest::sha256_of(b"made") };
        let made: BTreeMap<Tag, Derived> =
            [("1.0.0".parse().expect("a tag"), derived(false)), ("2.0.0".parse().expect("a tag"), derived(true))]
                .into();
        let mut chart = report(&[]);
        chart.artifacts =
            vec![ArtifactReport { derived: made.clone(), ..artifact(ArtifactKind::Chart, BTreeMap::new()) }];
        let status = after(&Status::default(), &chart);
        assert_eq!(known(&status), made);
        let away = after(&status, &Report::failed(Failure::new(Class::RegistryUnavailable, "why")));
        assert_eq!(known(&away), made, "a pass that saw nothing forgets nothing");
    }

    #[test]
    fn history_grows_by_changes_only() {
        let mut status = Status::default();
        let mut changed = report(&[("1", TagState::Synced(digest()))]);
        changed.changes = vec!["copied tag 1".to_owned()];
        for second in 0..7 {
            let time = Timestamp::from_second(second).expect("in range");
            status = finished(&status, &Pass::new(1, "eu-west-1"), &changed, time);
        }
        assert_eq!(status.history.len(), 5);
        let quiet = report(&[("1", TagState::Synced(digest()))]);
        assert_eq!(after(&status, &quiet).history, status.history);
    }

    #[test]
    fn a_report_that_was_written_without_our_knowing_changes_nothing() {
        let mut report = report(&[("1", TagState::Synced(digest()))]);
        report.changes = vec!["copied tag 1".to_owned()];
        let written = after(&Status::default(), &report);
        assert_eq!(after(&written, &report), written);
    }

    #[test]
    fn a_request_is_answered_by_its_own_value() {
        let report = report(&[("1", TagState::Synced(digest()))]);
        let pass = Pass { handled: Some("now".to_owned()), ..Pass::new(1, "eu-west-1") };
        let answered = finished(&Status::default(), &pass, &report, Timestamp::UNIX_EPOCH);
        assert_eq!(answered.last_handled_reconcile_at.as_deref(), Some("now"));
        assert_eq!(after(&answered, &report).last_handled_reconcile_at.as_deref(), Some("now"), "and kept");
    }

    #[test]
    fn the_same_report_changes_nothing() {
        let report = report(&[("1", TagState::Synced(digest())), ("2", failed(Class::SourceNotFound))]);
        let once = after(&Status::default(), &report);
        let later = Timestamp::from_second(1_000).expect("in range");
        assert_eq!(finished(&once, &Pass::new(1, "eu-west-1"), &report, later), once);
    }

    #[test]
    fn a_new_generation_is_unknown_until_it_is_done() {
        let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
        let status = progressing(&good, 2, Timestamp::UNIX_EPOCH);
        expect(&status, "Unknown", "Progressing", true, false);
        assert_eq!(status.observed_generation, Some(1), "not before it is done");
        assert_eq!(status.image, good.image);
    }

    #[test]
    fn the_status_stays_small_with_ten_thousand_tags() {
        let states: Vec<_> = (0..10_000)
            .map(|n| {
                (
                    format!("tag-{n}"),
                    if n % 2 == 0 { TagState::Synced(digest()) } else { failed(Class::SourceNotFound) },
                )
            })
            .collect();
        let states: Vec<_> = states.iter().map(|(tag, state)| (tag.as_str(), state.clone())).collect();
        let status = after(&Status::default(), &report(&states));
        assert!(serde_json::to_string(&status).expect("serialises").len() < 8_192);
    }
}
