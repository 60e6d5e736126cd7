//! Exponential backoff: the wait after the n-th failure in a row.

use std::time::Duration;

/// Returns `first`, doubled with each failure after the first, up to `longest`.
pub(crate) fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_the_longest() {
        let seconds = Duration::from_secs;
        for (failures, wait) in [(0, 1), (1, 1), (2, 2), (5, 16), (7, 60), (u32::MAX, 60)] {
            assert_eq!(doubled(seconds(1), failures, seconds(60)), seconds(wait), "{failures}");
        }
    }
}
