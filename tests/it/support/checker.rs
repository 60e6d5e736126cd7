//! Flux's conformance rules for conditions (fluxcd/pkg, `runtime/conditions/check`), and the result
//! of kstatus for a status.
//!
//! Two rules are wider here: Ready may be Unknown, not only False, while Reconciling (design: a new
//! generation is unknown, not false), and FAIL0010 is for the first pass of a generation only: a
//! retry keeps the generation observed. A suspended resource has no Ready unless it is True, and
//! its conditions speak of the last pass: nobody should wait for it.

use ecr_sync::api::v1alpha1::EcrRepositorySync;

use super::{Kstatus, kstatus};

/// Panics with the first rule that the status breaks. A status that was not written yet is skipped.
pub fn check(object: &EcrRepositorySync) {
    let Some(status) = &object.status else { return };
    let is_observed = status.observed_generation == object.metadata.generation;
    if object.spec.suspend && object.metadata.deletion_timestamp.is_none() {
        if is_observed {
            assert_eq!(kstatus(object), Kstatus::Current, "suspended: nobody waits: {object:#?}");
        }
        return;
    }
    if status.conditions.is_empty() {
        assert_ne!(
            kstatus(object),
            Kstatus::Current,
            "a resource that nobody looked at counts as done: {object:#?}"
        );
        return;
    }
    for (rule, holds) in rules(object) {
        assert!(holds, "{rule}: {object:#?}");
    }
}

fn rules(object: &EcrRepositorySync) -> Vec<(&'static str, bool)> {
    let status = object.status.clone().unwrap_or_default();
    let conditions = &status.conditions;
    let generation = object.metadata.generation.unwrap_or_default();
    let observed = status.observed_generation.unwrap_or_default();
    let get = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let ready = get("Ready");
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let first_pass = get("Reconciling").filter(|condition| condition.reason == "Progressing");
    let negative = ["Reconciling", "Stalled"].map(get);
    // These rules are for statuses that the operator wrote, so a generation that it has not seen
    // yet is skipped.
    let seen = ready.is_some_and(|ready| ready.observed_generation == Some(generation));
    // kstatus reports Terminating then, whatever the conditions are.
    let terminating = object.metadata.deletion_timestamp.is_some();
    vec![
        (
            "FAIL0001, WARN0001: nothing negative beside Ready=True",
            !is_ready || negative.iter().all(Option::is_none),
        ),
        ("FAIL0002: Ready is always there", ready.is_some()),
        ("FAIL0003: Reconciling excludes Ready=True", negative[0].is_none() || !is_ready),
        (
            "FAIL0004: Stalled means Ready=False",
            negative[1].is_none() || ready.is_some_and(|r| r.status == "False"),
        ),
        ("FAIL0005: Reconciling excludes Stalled", negative.iter().flatten().count() < 2),
        ("FAIL0006: no generation from the future", observed <= generation),
        ("FAIL0007, FAIL0009: Ready=True speaks of the observed generation", {
            !is_ready || conditions.iter().all(|c| c.observed_generation == Some(observed))
        }),
        ("FAIL0010: a generation is not observed before its first pass is done", {
            first_pass.is_none_or(|condition| Some(observed) < condition.observed_generation)
        }),
        ("WARN0003, WARN0004: negative conditions are True or absent", {
            negative.iter().flatten().all(|condition| condition.status == "True")
        }),
        (
            "WARN0005: every condition has a generation",
            conditions.iter().all(|c| c.observed_generation >= Some(1)),
        ),
        ("reasons are CamelCase and not empty", {
            conditions.iter().all(|c| {
                c.reason.starts_with(char::is_uppercase)
                    && c.reason.chars().all(char::is_alphanumeric)
            })
        }),
        (
            "kstatus: Current exactly when Ready=True",
            !seen || terminating || (kstatus(object) == Kstatus::Current) == is_ready,
        ),
        (
            "kstatus: Failed exactly when Stalled",
            !seen || terminating || (kstatus(object) == Kstatus::Failed) == negative[1].is_some(),
        ),
    ]
}
