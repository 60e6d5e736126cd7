//! The one retry loop of the registry client, and how long it waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::Failure;
use crate::backoff::doubled;

/// How often a request is sent again, and how long is waited in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tries after the first one. A request that fails four times within some seconds is the next
    /// level's matter.
    pub retries: u32,
    /// The first wait; it doubles from try to try, and half of it is random.
    pub base: Duration,
    /// The longest wait that is slept through. What asks for more goes back to the caller, who has
    /// other work.
    pub longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries: 3, base: Duration::from_millis(200), longest: Duration::from_secs(20) }
    }
}

impl Policy {
    /// The wait before try number `retry` (1 is the first one again), or `None` if there is to be
    /// none.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        if retry > self.retries {
            return None;
        }
        let backoff = self.backoff(retry);
        match asked {
            Some(asked) if asked > self.longest => None,
            // Everybody was told the same second: spread what comes after it.
            Some(asked) => Some(asked + backoff / 4),
            None => Some(backoff),
        }
    }

    /// Exponential, half of it random.
    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        let full = doubled(self.base, retry, self.longest);
        full / 2 + full.mul_f64(fastrand::f64() / 2.0)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the policy ends.
pub(crate) async fn retrying<T, F>(
    policy: &Policy,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut retry = 0;
    loop {
        let failure = match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        retry += 1;
        let again = may_pass(&failure).then(|| policy.wait(retry, failure.retry_after())).flatten();
        let Some(wait) = again else { return Err(failure) };
        tracing::debug!(%failure, ?wait, retry, "request failed, trying again");
        tokio::time::sleep(wait).await;
    }
}

/// What the request level tries again. Contents that are wrong, and expired credentials, are other
/// levels' matter.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Answer(answer) => super::answer::is_transient(answer.status),
        Failure::Token { source, .. } => may_pass(source),
        Failure::Connect { .. }
        | Failure::Broken { .. }
        | Failure::NoAnswer { .. }
        | Failure::Stalled { .. }
        | Failure::Cut { .. } => true,
        _ => false,
    }
}

/// The `Retry-After` header: seconds or an HTTP-date. Nonsense is no wish; a negative wait is over.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    /// Longer waits say "not today": a day is enough to hold such a wish.
    const MOST: Duration = Duration::from_secs(24 * 60 * 60);
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return match seconds {
            s if s.is_nan() => None,
            s if s <= 0.0 => Some(Duration::ZERO),
            s => Some(Duration::from_secs_f64(s.min(MOST.as_secs_f64()))),
        };
    }
    let at = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(at.duration_since(now).unwrap_or(Duration::ZERO).min(MOST))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970. The two forms that RFC 9110 calls
/// obsolete are not read.
pub(crate) fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next()? != "GMT" || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil date, Howard Hinnant's algorithm: years begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era_days = y * 365 + y / 4 - y / 100 + y / 400;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    let days = (era_days + (153 * m + 2) / 5 + day - 1).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            ("5", Some(5)),
            (" 120 ", Some(120)),
            ("-3", Some(0)),
            ("1.5", Some(1)),
            ("99999999999999999999", Some(86_400)),
            ("inf", Some(86_400)),
            ("NaN", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:40:37 GMT", Some(86_400)),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 99:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(value, now).map(|d| d.as_secs()), seconds, "{value}");
        }
    }

    #[test]
    fn http_dates_are_counted_right() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
            ("Tue, 24 Nov 2026 00:00:00 GMT", 1_795_478_400),
        ] {
            assert_eq!(http_date(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn waits_grow_and_end_and_long_wishes_go_to_the_caller() {
        let policy = Policy::default();
        for (retry, low, high) in [(1, 100, 200), (2, 200, 400), (3, 400, 800)] {
            let wait = policy.wait(retry, None).unwrap().as_millis();
            assert!((low..=high).contains(&wait), "{retry}: {wait}");
        }
        assert_eq!(policy.wait(4, None), None);
        assert!(policy.wait(1, Some(Duration::from_secs(5))).unwrap() >= Duration::from_secs(5));
        assert_eq!(policy.wait(1, Some(Duration::from_secs(21))), None);
    }
}
