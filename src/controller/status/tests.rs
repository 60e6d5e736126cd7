//! Statuses that are made from reports.

use std::collections::BTreeMap;

use super::*;
use crate::class::Class;
use crate::controller::conditions::find;
use crate::ecr::{Encryption, Mutability};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::sync::{ArtifactReport, Count, Derived, Pruning, TagState};

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
        scan_on_push: false,
        encryption: Encryption { kind: "AES256".to_owned(), key: None },
    };
    (repository, Ownership::Created)
}

fn report(states: &[(&str, TagState)]) -> Report {
    let tags: BTreeMap<Tag, TagState> =
        states.iter().map(|(tag, state)| (tag.parse().expect("a tag"), state.clone())).collect();
    Report {
        configuration_read: true,
        repository: Some(repository()),
        artifacts: vec![ArtifactReport::of_test(ArtifactKind::Image, tags)],
        ..Report::default()
    }
}

fn failed(class: Class) -> TagState {
    TagState::Failed(Failure::new(class, "why"))
}

fn unverified(class: Class) -> TagState {
    TagState::Unverified { digest: digest(), failure: Failure::new(class, "why") }
}

fn stamp() -> Stamp {
    Stamp { generation: 1, region: "eu-west-1".to_owned(), ..Stamp::default() }
}

fn after(old: &Status, report: &Report) -> Status {
    finished(old, &stamp(), report, Timestamp::UNIX_EPOCH)
}

/// Status and reason of Ready, and whether Reconciling and Stalled are set.
fn shown(status: &Status) -> (String, String, bool, bool) {
    let ready = find(&status.conditions, condition::READY).expect("Ready is always there");
    let has = |type_| find(&status.conditions, type_).is_some();
    (
        ready.status.clone(),
        ready.reason.clone(),
        has(condition::RECONCILING),
        has(condition::STALLED),
    )
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
    let status =
        after(&Status::default(), &report(&[synced.clone(), ("2", failed(Class::SourceNotFound))]));
    expect(&status, "False", "PartiallySynced", false, true);
    let both =
        [synced, ("2", failed(Class::SourceNotFound)), ("3", failed(Class::RegistryUnavailable))];
    expect(&after(&Status::default(), &report(&both)), "False", "PartiallySynced", true, false);
}

#[test]
fn a_source_that_goes_down_does_not_take_ready() {
    let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
    let down = after(&good, &report(&[("1", unverified(Class::RegistryUnavailable))]));
    expect(&down, "True", "Succeeded", false, false);
    let image = find(&down.conditions, condition::IMAGE_SYNCED).expect("set");
    assert_eq!((image.status.as_str(), image.reason.as_str()), ("Unknown", "RegistryUnavailable"));
    assert_eq!(down.image.expect("an image").summary, "1/1", "the tag is still in ECR");
}

#[test]
fn a_list_of_tags_that_cannot_be_read_keeps_the_old_counts() {
    let good = after(
        &Status::default(),
        &report(&[("1", TagState::Synced(digest())), ("2", TagState::Synced(digest()))]),
    );
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
    let first =
        after(&Status::default(), &report(&[("1", unverified(Class::RegistryUnavailable))]));
    expect(&first, "False", "RegistryUnavailable", true, false);
    assert_eq!(first.image.expect("an image").summary, "0/1");
}

#[test]
fn an_invalid_spec_is_stalled_even_if_the_resource_was_ready() {
    let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
    let bad = after(&good, &Report::failed(Failure::new(Class::InvalidSpec, "why")));
    expect(&bad, "False", "InvalidSpec", false, true);
    assert_eq!(bad.image, good.image, "the old status is kept");
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
fn blocked_pruning_keeps_ready_and_is_reported_until_the_next_look() {
    let synced = || report(&[("1", TagState::Synced(digest()))]);
    let blocked = Failure::new(Class::PruneBlocked, "nothing was pruned: why");
    let pruning = |blocked| Report {
        prunes: true,
        pruning: Some(Pruning { blocked, ..Pruning::default() }),
        ..synced()
    };
    let configuration = |status: &Status| {
        let condition =
            find(&status.conditions, condition::CONFIGURATION_SYNCED).expect("a condition");
        (condition.status.clone(), condition.reason.clone())
    };
    let is = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());

    let status = after(&Status::default(), &pruning(Some(blocked)));
    expect(&status, "True", "Succeeded", false, false);
    assert_eq!(configuration(&status), is("False", "PruneBlocked"));

    let between = after(&status, &Report { prunes: true, pruning: None, ..synced() });
    assert_eq!(between, status, "a pass that did not look knows no better");
    assert_eq!(configuration(&after(&status, &pruning(None))), is("True", "Succeeded"));
    assert_eq!(
        configuration(&after(&status, &synced())),
        is("True", "Succeeded"),
        "pruning is no longer wanted"
    );
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
    both.artifacts.push(ArtifactReport::of_test(
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
fn a_kept_tag_is_synced_and_reported() {
    let kept =
        TagState::Kept { digest: digest(), failure: Failure::new(Class::SourceChanged, "why") };
    let mut kept_chart = report(&[]);
    kept_chart.artifacts = vec![ArtifactReport::of_test(
        ArtifactKind::Chart,
        [("1.0.0".parse().expect("a tag"), kept)].into(),
    )];
    let status = after(&Status::default(), &kept_chart);
    expect(&status, "True", "Succeeded", false, false);
    let chart = find(&status.conditions, condition::CHART_SYNCED).expect("set");
    assert_eq!((chart.status.as_str(), chart.reason.as_str()), ("True", "SourceChanged"));
}

#[test]
fn manifests_made_from_archives_are_read_back_from_the_status() {
    let derived = |provenance| Derived {
        archive: digest(),
        provenance,
        manifest: Digest::sha256_of(b"made"),
    };
    let made: BTreeMap<Tag, Derived> = [
        ("1.0.0".parse().expect("a tag"), derived(false)),
        ("2.0.0".parse().expect("a tag"), derived(true)),
    ]
    .into();

    let mut chart = report(&[]);
    chart.artifacts = vec![ArtifactReport {
        derived: made.clone(),
        ..ArtifactReport::of_test(ArtifactKind::Chart, BTreeMap::new())
    }];

    let status = after(&Status::default(), &chart);
    assert_eq!(known(&status), made);
    let away = after(&status, &Report::failed(Failure::new(Class::RegistryUnavailable, "why")));
    assert_eq!(known(&away), made, "a pass that failed early forgets nothing");
}

#[test]
fn history_grows_by_changes_only() {
    let mut status = Status::default();
    let mut changed = report(&[("1", TagState::Synced(digest()))]);
    changed.changes = vec!["copied tag 1".to_owned()];
    for second in 0..7 {
        let time = Timestamp::from_second(second).expect("in range");
        status = finished(&status, &stamp(), &changed, time);
    }
    assert_eq!(status.history.len(), 5);
    let quiet = report(&[("1", TagState::Synced(digest()))]);
    assert_eq!(after(&status, &quiet).history, status.history);
}

#[test]
fn a_report_that_was_written_but_not_acknowledged_changes_nothing() {
    let mut report = report(&[("1", TagState::Synced(digest()))]);
    report.changes = vec!["copied tag 1".to_owned()];
    let written = after(&Status::default(), &report);
    assert_eq!(after(&written, &report), written);
}

#[test]
fn a_request_is_answered_by_its_own_value() {
    let report = report(&[("1", TagState::Synced(digest()))]);
    let requested = Stamp { handled: Some("now".to_owned()), ..stamp() };
    let answered = finished(&Status::default(), &requested, &report, Timestamp::UNIX_EPOCH);
    assert_eq!(answered.last_handled_reconcile_at.as_deref(), Some("now"));
    assert_eq!(
        after(&answered, &report).last_handled_reconcile_at.as_deref(),
        Some("now"),
        "and is kept"
    );
}

#[test]
fn the_same_report_changes_nothing() {
    let report = report(&[("1", TagState::Synced(digest())), ("2", failed(Class::SourceNotFound))]);
    let once = after(&Status::default(), &report);
    let later = Timestamp::from_second(1_000).expect("in range");
    assert_eq!(finished(&once, &stamp(), &report, later), once);
}

#[test]
fn a_new_generation_is_unknown_until_its_first_pass_has_ended() {
    let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
    let status = progressing(&good, 2, Timestamp::UNIX_EPOCH);
    expect(&status, "Unknown", "Progressing", true, false);
    assert_eq!(status.observed_generation, Some(1), "not before the pass has ended");
    assert_eq!(status.image, good.image);
}

#[test]
fn a_suspended_resource_is_observed_and_keeps_ready_only_if_it_is_true() {
    let synced = report(&[("1", TagState::Synced(digest()))]);
    let good = after(&Status::default(), &synced);
    let paused = suspended(&good, 2);
    assert_eq!(paused.observed_generation, Some(2));
    assert_eq!(paused.conditions, good.conditions, "of generation 1");

    let stalled = after(&Status::default(), &report(&[("1", failed(Class::SourceNotFound))]));
    for old in [progressing(&good, 2, Timestamp::UNIX_EPOCH), stalled.clone()] {
        let paused = suspended(&old, 3);
        for type_ in [condition::READY, condition::RECONCILING, condition::STALLED] {
            assert!(find(&paused.conditions, type_).is_none(), "{type_} of {old:?}");
        }
        assert_eq!(suspended(&paused, 3), paused, "written once");
    }
    let paused = suspended(&stalled, 2);
    assert_eq!(find(&paused.conditions, condition::IMAGE_SYNCED).expect("kept").status, "False");

    let born = suspended(&Status { observed_generation: Some(-1), ..Status::default() }, 1);
    assert_eq!(born, Status { observed_generation: Some(1), ..Status::default() });
}

#[test]
fn a_long_copy_is_reported_in_reconciling_and_nowhere_else() {
    let good = after(&Status::default(), &report(&[("1", TagState::Synced(digest()))]));
    let snapshot = Snapshot { tags: Count { done: 1, of: 3 }, ..Snapshot::default() };
    assert_eq!(copying(&good, &snapshot), good, "a periodic check does not touch Ready");

    let first = progressing(&good, 2, Timestamp::UNIX_EPOCH);
    let status = copying(&first, &snapshot);
    let message = |status: &Status, type_| {
        find(&status.conditions, type_).map(|condition| condition.message.clone())
    };
    assert_eq!(
        message(&status, condition::RECONCILING).as_deref(),
        Some("copying: 1/3 tags, 0/0 blobs, 0 B of 0 B, 0 B/s")
    );
    assert_eq!(message(&status, condition::READY), message(&first, condition::READY));
    assert_eq!(status.observed_generation, Some(1));
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
