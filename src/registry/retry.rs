//! Retries of requests: the retry loop, the backoff, and the `Retry-After` header.

use std::time::{Duration, SystemTime};

use super::cause::Cause;
use crate::backoff::doubled;

/// The number of retries of a request, and the waits before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first one. A request that fails four times within some seconds is left to
    /// the caller, which retries the whole step.
    pub retries: u32,
    /// The first wait; it doubles with each retry, and half of it is random.
    pub base: Duration,
    /// The longest wait before a retry. If the registry asks for more, the caller gets the failure
    /// and does other work meanwhile.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 3, base: Duration::from_millis(200), longest: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry`, which counts from 1; `None` if the caller should give
    /// up. `asked` is the wait that the registry asked for.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        if retry > self.retries {
            return None;
        }

        let backoff = self.backoff(retry);
        match asked {
            Some(asked) if asked > self.longest => None,
            // All clients got the same wait: the jitter spreads their retries.
            Some(asked) => Some(asked + backoff / 4),
            None => Some(backoff),
        }
    }

    /// Exponential backoff, half of it random.
    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        let full = doubled(self.base, retry, self.longest);
        full / 2 + full.mul_f64(fastrand::f64() / 2.0)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the retries are used up.
pub(crate) async fn retrying<T, F>(
    policy: &RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Cause>
where
    F: Future<Output = Result<T, Cause>>,
{
    let mut retry = 0;
    loop {
        let failure = match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };

        retry += 1;
        let wait =
            is_transient(&failure).then(|| policy.wait(retry, failure.retry_after())).flatten();
        let Some(wait) = wait else { return Err(failure) };
        tracing::debug!(%failure, ?wait, retry, "request failed, retrying");
        tokio::time::sleep(wait).await;
    }
}

/// Whether a retry of the same request may succeed. Wrong content and expired credentials are not
/// retried here: the callers start the blob or the login again.
fn is_transient(failure: &Cause) -> bool {
    match failure {
        Cause::Answer(answer) => super::answer::is_transient(answer.status),
        Cause::Token { source, .. } => is_transient(source),
        Cause::Connect { .. }
        | Cause::Broken { .. }
        | Cause::NoAnswer { .. }
        | Cause::Stalled { .. }
        | Cause::Truncated { .. } => true,
        _ => false,
    }
}

/// The longest wait that one answer can ask for: then the registry is asked again, and can ask for
/// one more. A wrong or hostile answer does not stop a source for a day.
pub(crate) const MAX_ASKED_WAIT: Duration = Duration::from_secs(15 * 60);

/// Reads the `Retry-After` header: seconds or an HTTP date. An unreadable value is ignored; a
/// negative wait is over.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return match seconds {
            s if s.is_nan() => None,
            s if s <= 0.0 => Some(Duration::ZERO),
            s => Some(Duration::from_secs_f64(s.min(MAX_ASKED_WAIT.as_secs_f64()))),
        };
    }

    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO).min(MAX_ASKED_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_all_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            ("5", Some(5)),
            (" 120 ", Some(120)),
            ("-3", Some(0)),
            ("1.5", Some(1)),
            ("99999999999999999999", Some(900)),
            ("inf", Some(900)),
            ("NaN", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            // The two forms that RFC 9110 calls obsolete.
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sat, 06 Nov 2094 08:40:37 GMT", Some(900)),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 99:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(value, now).map(|d| d.as_secs()), seconds, "{value}");
        }
    }

    #[test]
    fn waits_grow_and_end_and_long_waits_go_to_the_caller() {
        let policy = RetryPolicy::default();
        for (retry, low, high) in [(1, 100, 200), (2, 200, 400), (3, 400, 800)] {
            let wait = policy.wait(retry, None).unwrap().as_millis();
            assert!((low..=high).contains(&wait), "{retry}: {wait}");
        }
        assert_eq!(policy.wait(4, None), None);
        assert!(policy.wait(1, Some(Duration::from_secs(5))).unwrap() >= Duration::from_secs(5));
        assert_eq!(policy.wait(1, Some(Duration::from_secs(21))), None);
    }
}
