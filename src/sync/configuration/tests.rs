//! Tests of the decision about a difference.

use super::*;

fn difference(wanted: u64, live: u64) -> Difference {
    Difference {
        field: Field::ScanOnPush,
        actions: vec![Action::SetScanOnPush { wanted: true }],
        now: "is false, not true".to_owned(),
        past: "was false, not true".to_owned(),
        values: (wanted, live),
    }
}

/// Returns whether each pass writes, for these desired values and values in ECR.
fn written(policy: DriftPolicy, has_drifted: bool, found: &[(u64, u64)]) -> Vec<bool> {
    let mut attempt = None;
    let pass = |(wanted, live): &(u64, u64)| match difference(*wanted, *live).verdict(
        has_drifted,
        policy,
        attempt.as_ref(),
    ) {
        Verdict::Write(new) => {
            attempt = Some(new);
            true
        }
        Verdict::Leave(_) => false,
    };
    found.iter().map(pass).collect()
}

#[test]
fn a_value_that_never_stays_is_written_twice() {
    let rewritten = [(1, 0), (1, 7), (1, 7), (1, 7), (1, 7)];
    assert_eq!(written(DriftPolicy::Correct, false, &rewritten), [true, true, false, false, false]);
}

#[test]
fn another_spec_and_another_value_in_ecr_start_the_count_again() {
    let other_spec = [(1, 0), (1, 7), (1, 7), (2, 7), (2, 7), (2, 7)];
    assert_eq!(
        written(DriftPolicy::Correct, false, &other_spec),
        [true, true, false, true, true, false]
    );
    let other_value = [(1, 0), (1, 7), (1, 7), (1, 8), (1, 7), (1, 7)];
    assert_eq!(
        written(DriftPolicy::Correct, false, &other_value),
        [true, true, false, true, true, false]
    );
}

#[test]
fn only_drift_is_left_alone_by_the_policy_report() {
    assert_eq!(written(DriftPolicy::Report, false, &[(1, 0)]), [true]);
    assert_eq!(written(DriftPolicy::Report, true, &[(1, 0)]), [false]);
    assert_eq!(written(DriftPolicy::Correct, true, &[(1, 0)]), [true]);
}
