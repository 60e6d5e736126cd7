//! Waiting out a throttle of ECR.
//!
//! The rates of an account are shared by all who work in it, and most are not published. The SDK tries a call four times
//! within seconds; when a thousand repositories are created at once, that is not enough for the last of them. Nothing is
//! wrong then, and nobody has to know.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::class::Class;

/// Rounds of SDK attempts. With the waits between them, a call is given up after about three minutes.
const ROUNDS: u32 = 9;
/// First wait; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a call has been waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    rounds: u32,
}

impl Patience {
    /// Whether a call that failed so is to be made again. Returns when it is time; at once where it is not.
    pub(super) async fn outlasts(&mut self, class: Class) -> bool {
        self.rounds += 1;
        let again = class == Class::RateLimited && self.rounds < ROUNDS;
        if again {
            tokio::time::sleep(wait_after(self.rounds)).await;
        }
        again
    }
}

/// From half to all of the doubled wait: those who were refused together shall not come back together.
fn wait_after(round: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << (round - 1).min(16)).min(LONGEST_WAIT);
    let random = f64::from(u32::try_from(RandomState::new().hash_one(round) >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    longest.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttle_is_waited_out_for_minutes_and_nothing_else_is() {
        let mut patience = Patience::default();
        assert!(!patience.outlasts(Class::AccessDenied).await);
        let start = tokio::time::Instant::now();
        let mut patience = Patience::default();
        let mut rounds = 1;
        while patience.outlasts(Class::RateLimited).await {
            rounds += 1;
        }
        assert_eq!(rounds, ROUNDS);
        assert!((Duration::from_secs(60)..Duration::from_secs(300)).contains(&start.elapsed()));
    }
}
