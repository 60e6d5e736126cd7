//! Waiting out a throttle of ECR.
//!
//! The rates of an account are shared by all who work in it, and most are not published. The SDK
//! tries a call four times within seconds; when a thousand repositories are created at once, that
//! is not enough for the last of them. Nothing is wrong then, and nobody has to know.

use std::time::Duration;

use crate::class::Class;
use crate::failure::Failure;
use crate::registry::Policy;

/// Rounds of SDK attempts: with the waits between them, a call is given up after about three
/// minutes. Those who were refused together do not come back together.
const ROUNDS: Policy =
    Policy { retries: 8, base: Duration::from_secs(2), longest: Duration::from_secs(30) };

/// Makes a call again while ECR throttles it.
///
/// # Errors
/// Those of the call; a throttle only when it lasts.
pub(super) async fn retry_throttled<T, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut round = 0;
    loop {
        let failure = match call().await {
            Err(failure) if failure.class == Class::RateLimited => failure,
            result => return result,
        };
        round += 1;
        let Some(wait) = ROUNDS.wait(round, None) else { return Err(failure) };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a call is made that always fails so.
    async fn rounds(class: Class) -> u32 {
        let mut rounds = 0;
        let result = retry_throttled(|| {
            rounds += 1;
            std::future::ready(Err::<(), _>(Failure::new(class, "why")))
        });
        assert_eq!(result.await.map_err(|failure| failure.class), Err(class));
        rounds
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_is_waited_out_for_minutes_and_nothing_else_is() {
        let start = tokio::time::Instant::now();
        assert_eq!(rounds(Class::AccessDenied).await, 1);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(rounds(Class::RateLimited).await, 9);
        assert!((Duration::from_secs(60)..Duration::from_secs(300)).contains(&start.elapsed()));
    }
}
