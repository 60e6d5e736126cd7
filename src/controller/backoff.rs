//! Waits between passes and between reconciles.

use std::time::Duration;

use crate::backoff::doubled;
use crate::class::Class;
use crate::sync::Failure;

/// First wait after a failed pass.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest wait after failed passes.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// First wait after a failure that only a person can fix.
const FIRST_WAIT_FOR_A_PERSON: Duration = Duration::from_secs(60);
/// First wait after a failed reconcile: the API server is the only thing that a reconcile calls.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after failed reconciles: that of a watch, so that both recover together.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Jitter of every wait, as a fraction of it.
pub(super) const JITTER: f64 = 0.1;

/// The wait after the `count`th failed pass in a row: the shortest that one of its failures allows,
/// but never less than any of them demands.
pub(super) fn after_pass<'a>(count: u32, failures: impl Iterator<Item = &'a Failure>) -> Duration {
    let mut shortest = LONGEST_WAIT;
    let mut least = Duration::ZERO;

    for failure in failures {
        let needs_a_person = failure.class.needs_a_person();
        let first = if needs_a_person { FIRST_WAIT_FOR_A_PERSON } else { FIRST_WAIT };
        shortest = shortest.min(doubled(first, count, LONGEST_WAIT));
        least = least.max(failure.class.least_wait());
        if failure.class == Class::RateLimited {
            // A registry that asks for more than the longest wait gets the longest wait: asking
            // less often gains nothing.
            least = least.max(failure.retry_after.unwrap_or_default().min(LONGEST_WAIT));
        }
    }

    shortest.max(least)
}

/// The wait after the `count`th failed reconcile in a row.
pub(super) fn after_reconcile(count: u32) -> Duration {
    jittered(doubled(FIRST_RETRY, count, LONGEST_RETRY))
}

/// Returns `wait` and at most [`JITTER`] more or less.
pub(super) fn jittered(wait: Duration) -> Duration {
    spread(wait, fastrand::f64())
}

fn spread(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

/// The offset of an object's first periodic check in `window`: the same for the same object.
pub(super) fn offset_in(window: Duration, uid: &str) -> Duration {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
    });
    window.mul_f64(f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: Class) -> Failure {
        Failure::new(class, "x")
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let waits: Vec<_> = (1..=9)
            .map(|n| after_pass(n, [failure(Class::RegistryUnavailable)].iter()).as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(after_pass(u32::MAX, [failure(Class::Internal)].iter()), LONGEST_WAIT);
    }

    #[test]
    fn a_wrong_password_is_not_hammered_whatever_else_fails() {
        let failures = [failure(Class::RegistryUnavailable), failure(Class::AuthenticationFailed)];
        assert_eq!(after_pass(1, failures.iter()), Duration::from_secs(120));
    }

    #[test]
    fn a_registry_that_asks_for_a_wait_gets_it() {
        let mut limited = failure(Class::RateLimited);
        limited.retry_after = Some(Duration::from_secs(300));
        assert_eq!(after_pass(1, [limited.clone()].iter()), Duration::from_secs(300));
        limited.retry_after = Some(Duration::from_secs(86_400));
        assert_eq!(after_pass(1, [limited].iter()), LONGEST_WAIT);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let wait = Duration::from_secs(100);
        let (least, most) = (Duration::from_secs(90), Duration::from_secs(110));
        assert_eq!((spread(wait, 0.0), spread(wait, 1.0)), (least, most));
        assert!((least..=most).contains(&jittered(wait)));
    }

    #[test]
    fn first_checks_are_spread_and_stay_in_place() {
        let window = Duration::from_secs(600);
        let offsets: std::collections::BTreeSet<_> =
            (0..100).map(|n| offset_in(window, &format!("uid-{n}"))).collect();
        assert!(offsets.len() > 90 && offsets.iter().all(|offset| *offset <= window));
        assert_eq!(offset_in(window, "a"), offset_in(window, "a"));
    }
}
