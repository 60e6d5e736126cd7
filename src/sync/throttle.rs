//! Retries of calls that ECR throttles.
//!
//! All users of an account share its request quotas, most of which are not published. The SDK tries
//! a call four times within seconds. When a thousand repositories are created at once, that is not
//! enough for the last of them, although nothing is wrong.

use std::time::Duration;

use crate::class::Class;
use crate::failure::Failure;
use crate::place;
use crate::registry::RetryPolicy;

/// Retries after those of the SDK. With the waits between them, a call fails after about three
/// minutes. The waits are random in part, so that throttled calls do not return all together.
const RETRIES: RetryPolicy =
    RetryPolicy { retries: 8, base: Duration::from_secs(2), longest: Duration::from_secs(30) };

/// Repeats a call while ECR throttles it.
///
/// # Errors
/// Those of the call. A throttle is an error only after all retries.
pub(super) async fn retry_throttled<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    E: Into<Failure>,
    F: Future<Output = Result<T, E>>,
{
    let mut retry = 0;
    loop {
        let failure = match call().await.map_err(Into::<Failure>::into) {
            Err(failure) if failure.class == Class::RateLimited => failure,
            result => return result,
        };

        retry += 1;
        let Some(wait) = RETRIES.wait(retry, None) else { return Err(failure) };
        place::waiting(None, tokio::time::sleep(wait)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the calls that are made if each fails with this class.
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
    async fn a_throttle_is_retried_for_minutes_and_nothing_else_is() {
        let start = tokio::time::Instant::now();
        assert_eq!(rounds(Class::AccessDenied).await, 1);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(rounds(Class::RateLimited).await, 9);
        assert!((Duration::from_secs(60)..Duration::from_secs(300)).contains(&start.elapsed()));
    }
}
