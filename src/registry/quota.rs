//! The pull quota of a login at a registry: Docker Hub's rate limit, `ratelimit-remaining`, and the
//! pulls that `--rate-reserve` keeps for others.
//!
//! Docker Hub counts GETs of manifests per account, or per IP address without a login, and reports
//! in each answer to a manifest request: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining:
//! 76;w=21600`. HEAD is not counted and reports the same
//! (<https://docs.docker.com/docker-hub/usage/pulls/>). The headers count at any registry that
//! sends them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::answer::{Answer, Exhausted};
use super::cause::Cause;

/// Pulls reserved for others that share the login or the IP address: nodes that must start a pod,
/// people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// A number of pulls.
    Pulls(u64),
    /// A percentage of the limit, rounded up.
    Percent(u8),
}

impl Default for Reserve {
    /// 10 %: of Docker Hub's 100 pulls enough for a node to start with, of its 10 pulls one.
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl Reserve {
    fn of(self, limit: u64) -> u64 {
        match self {
            Self::Pulls(pulls) => pulls,
            Self::Percent(percent) => limit.saturating_mul(percent.into()).div_ceil(100),
        }
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pulls(pulls) => write!(f, "{pulls}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Reserve {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "write a number of pulls, or a percentage like 10%";
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or(HOW)
            }
            None => text.parse().map(Self::Pulls).map_err(|_| HOW),
        }
    }
}

/// The pull quota of one login at one registry. Clients with the same login share it.
#[derive(Debug)]
pub(crate) struct Quota {
    reserve: Reserve,
    state: Mutex<State>,
    /// Held by the first pull until it is answered: a burst waits until the quota is known.
    first: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a pull was answered, with or without rate limit headers.
    is_known: bool,
    report: Option<Report>,
    /// Pulls without an answer yet; the last report does not count them.
    in_flight: u64,
    refusal: Option<Refusal>,
}

/// The rate limit headers that the registry sent last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    limit: u64,
    window: Option<Duration>,
    left: u64,
    /// The time until the quota is reset, if the registry reports it (GitLab: `ratelimit-reset`).
    reset: Option<Duration>,
    /// The account or IP address that the quota belongs to.
    account: Option<String>,
    received: Instant,
    next_attempt: Timestamp,
}

/// A refusal because a quota is used up: further requests would be refused too.
#[derive(Clone, Debug)]
struct Refusal {
    quota: Exhausted,
    answer: Answer,
    until: Instant,
}

/// A pull that may be sent. Dropping it ends the pull.
#[derive(Debug)]
pub(crate) struct Pull<'a> {
    quota: &'a Quota,
    _first: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.state.lock();
        state.in_flight -= 1;
        state.is_known = true;
    }
}

/// Whether a pull may be sent.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    Go(Pull<'a>),
    /// The report is old: a HEAD gets a new one.
    Ask,
    No(Cause),
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(Reserve::default())
    }
}

impl Quota {
    /// Creates a quota without a report.
    #[must_use]
    pub(crate) fn new(reserve: Reserve) -> Self {
        Self { reserve, state: Mutex::default(), first: tokio::sync::Mutex::default() }
    }

    /// Reads the rate limit headers of an answer; returns the number of remaining pulls.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<u64> {
        let report = Report::read(headers, self.reserve)?;
        let left = report.left;

        let mut state = self.state.lock();
        // With pulls left, an earlier refusal is over.
        if left > 0 && state.refusal.as_ref().is_some_and(|r| r.quota == Exhausted::Pulls) {
            state.refusal = None;
        }
        state.report = Some(report);
        state.is_known = true;
        Some(left)
    }

    /// Keeps a refusal because a quota is used up; returns whether it concerns this login alone.
    pub(crate) fn refused(&self, answer: &Answer) -> bool {
        let Some(quota) = answer.exhausted() else { return false };
        let until = Instant::now() + answer.asked_wait().unwrap_or_default();
        self.state.lock().refusal = Some(Refusal { quota, answer: answer.clone(), until });
        true
    }

    /// Returns a pull, if one may be sent. `asked` says that a HEAD was just sent for a new report.
    pub(crate) async fn pull(&self, host: &str, asked: bool) -> Turn<'_> {
        let is_known = self.state.lock().is_known;
        let first = if is_known { None } else { Some(self.first.lock().await) };

        let mut state = self.state.lock();
        let first = first.filter(|_| !state.is_known);
        if let Some(failure) = state.refusal_of(|_| true) {
            return Turn::No(failure);
        }
        if let Some(report) = &state.report {
            let reserved = self.reserve.of(report.limit);
            let left = report.left.saturating_sub(state.in_flight);
            if reserved > 0 && left <= reserved {
                let wait = report.wait(reserved).saturating_sub(report.received.elapsed());
                if !wait.is_zero() {
                    return Turn::No(report.failure(host, left, (self.reserve, reserved), wait));
                }
                if !asked {
                    return Turn::Ask;
                }
            }
        }

        state.in_flight += 1;
        Turn::Go(Pull { quota: self, _first: first })
    }

    /// Whether the registry has reported or enforced a pull quota.
    pub(crate) fn counts(&self) -> bool {
        let state = self.state.lock();
        state.report.is_some() || state.refusal.is_some()
    }

    /// Checks whether the data transfer quota still allows a download.
    ///
    /// # Errors
    /// The refusal that still holds.
    pub(crate) fn bytes(&self) -> Result<(), Cause> {
        self.state.lock().refusal_of(|quota| quota == Exhausted::Bytes).map_or(Ok(()), Err)
    }
}

impl State {
    fn refusal_of(&mut self, matches: impl Fn(Exhausted) -> bool) -> Option<Cause> {
        let refusal = self.refusal.as_ref().filter(|refusal| matches(refusal.quota))?;
        let wait = refusal.until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.refusal = None;
            return None;
        }
        // The same failure as if the registry had refused again.
        let answer = Answer { retry_after: Some(wait), ..refusal.answer.clone() };
        Some(Cause::Answer(Box::new(answer)))
    }
}

impl Report {
    fn read(headers: &HeaderMap, reserve: Reserve) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let (limit, window) = count(text("ratelimit-limit")?)?;
        let (left, _) = count(text("ratelimit-remaining")?)?;

        // An IP address or the UUID of an account. Longer or odd values are kept out of messages.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
        let source = text("docker-ratelimit-source").map(str::trim);
        let account = source.filter(|s| (1..=64).contains(&s.len()) && s.chars().all(is_plain));
        let account = account.map(str::to_owned);

        let now = Timestamp::now();
        let reset = text("ratelimit-reset").and_then(|value| reset(value, now));
        let received = Instant::now();
        let mut report = Self { limit, window, left, reset, account, received, next_attempt: now };
        let wait = SignedDuration::try_from(report.wait(reserve.of(limit))).unwrap_or_default();
        report.next_attempt = now.checked_add(wait).unwrap_or(now);
        Some(report)
    }

    /// The time until the next attempt: as the registry reports it, else a guess: the time in which
    /// as many pulls as are reserved come back, if they come back one by one. A HEAD then tells how
    /// many are left.
    fn wait(&self, reserved: u64) -> Duration {
        const MIN: Duration = Duration::from_secs(60);
        const MAX: Duration = Duration::from_secs(60 * 60);

        if let Some(reset) = self.reset {
            return reset.min(MAX);
        }

        let Some(window) = self.window.filter(|_| self.limit > 0) else { return MIN };
        #[allow(clippy::cast_precision_loss)] // of a few hundred pulls, and it is bounded
        let share = (reserved.max(1) as f64 / self.limit as f64).min(1.0);
        window.mul_f64(share).clamp(MIN, MAX)
    }

    fn failure(
        &self,
        host: &str,
        left: u64,
        (reserve, reserved): (Reserve, u64),
        wait: Duration,
    ) -> Cause {
        let limit = self.limit;
        let window = self.window.map(|window| format!(" per {}", span(window))).unwrap_or_default();
        let account =
            self.account.as_ref().map(|account| format!(" for {account}")).unwrap_or_default();
        let text = format!(
            "{host}: {left} of {limit} pulls{window} left{account}; the last {reserved} are \
             reserved (--rate-reserve {reserve}). Next attempt at {}",
            self.next_attempt.strftime("%H:%M UTC")
        );
        Cause::Reserved { text, wait }
    }
}

/// Reads `ratelimit-reset`: seconds from now, or since 1970.
fn reset(text: &str, now: Timestamp) -> Option<Duration> {
    /// Larger values are times: no registry asks for a wait of thirty years.
    const EPOCH: i64 = 1_000_000_000;
    let seconds: i64 = text.trim().parse().ok()?;
    let left = if seconds >= EPOCH { seconds - now.as_second() } else { seconds };
    Some(Duration::from_secs(u64::try_from(left).unwrap_or_default()))
}

/// Reads a count and its window in seconds: `100;w=21600`, or with several limits `100, 100;w=60`.
fn count(text: &str) -> Option<(u64, Option<Duration>)> {
    /// Longer windows are ignored.
    const YEAR: u64 = 366 * 24 * 60 * 60;

    let mut parts = text.split([';', ',']);
    let count = parts.next()?.trim().parse().ok()?;
    let window: Option<u64> = parts.find_map(|part| part.trim().strip_prefix("w=")?.parse().ok());
    Some((count, window.filter(|window| (1..=YEAR).contains(window)).map(Duration::from_secs)))
}

/// `6 h`, `90 min`, `45 s`.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(limit: &'static str, left: &'static str) -> HeaderMap {
        let pairs = [("ratelimit-limit", limit), ("ratelimit-remaining", left)];
        pairs
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn is_no(turn: &Turn<'_>) -> bool {
        matches!(turn, Turn::No(_))
    }

    #[test]
    fn headers_of_all_shapes_are_read() {
        for (limit, left, expected) in [
            ("100;w=21600", "76;w=21600", Some((100, Some(21_600), 76))),
            (" 10 ; w=3600;source=x", "0;w=3600", Some((10, Some(3600), 0))),
            ("200", "199", Some((200, None, 199))),
            ("5, 5;w=60", "4", Some((5, Some(60), 4))),
            ("200;w=0", "199;w=x", Some((200, None, 199))),
            ("100;w=18446744073709551615", "76", Some((100, None, 76))),
            ("many", "1", None),
            ("-1", "1", None),
            ("", "", None),
            ("99999999999999999999999", "1", None),
        ] {
            let report = Report::read(&headers(limit, left), Reserve::default());
            let report = report.map(|report| {
                (report.limit, report.window.map(|window| window.as_secs()), report.left)
            });
            assert_eq!(report, expected, "{limit} {left}");
        }

        let mut only_one = headers("100", "1");
        only_one.remove("ratelimit-remaining");
        assert_eq!(Quota::default().read(&only_one), None);
    }

    #[test]
    fn a_reserve_is_a_number_or_a_share_rounded_up() {
        for (text, of_100, of_10) in
            [("10%", 10, 1), ("5%", 5, 1), ("0%", 0, 0), ("0", 0, 0), ("20", 20, 20)]
        {
            let reserve: Reserve = text.parse().unwrap();
            assert_eq!(
                (reserve.of(100), reserve.of(10), reserve.to_string().as_str()),
                (of_100, of_10, text)
            );
        }
        for text in ["", "%", "-1", "101%", "10 %", "many"] {
            assert!(text.parse::<Reserve>().is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pulls_end_at_the_reserve_and_continue_when_more_are_left() {
        let quota = Quota::new(Reserve::Percent(10));
        assert!(matches!(quota.pull("r", false).await, Turn::Go(_)), "there is no report yet");
        quota.read(&headers("100;w=21600", "12;w=21600"));

        let (first, second) = (quota.pull("r", false).await, quota.pull("r", false).await);
        assert!(matches!((&first, &second), (Turn::Go(_), Turn::Go(_))));
        assert!(is_no(&quota.pull("r", false).await), "two are in flight");

        drop(first);
        assert!(
            matches!(quota.pull("r", false).await, Turn::Go(_)),
            "it was not counted, so it failed"
        );

        drop(second);
        quota.read(&headers("100;w=21600", "10;w=21600"));
        assert!(is_no(&quota.pull("r", false).await));

        // A tenth of six hours later as much may have come back.
        tokio::time::advance(Duration::from_secs(36 * 60)).await;
        assert!(matches!(quota.pull("r", false).await, Turn::Ask));
        assert!(
            matches!(quota.pull("r", true).await, Turn::Go(_)),
            "the registry reports nothing any more: it will refuse if needed"
        );

        quota.read(&headers("100;w=21600", "9;w=21600"));
        assert!(is_no(&quota.pull("r", true).await));
        quota.read(&headers("100;w=21600", "100;w=21600"));
        assert!(matches!(quota.pull("r", false).await, Turn::Go(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_ends_in_a_minute_stops_nobody_for_longer() {
        let soon = (Timestamp::now().as_second() + 40).to_string();
        for (value, seconds) in
            [("40", 40), (soon.as_str(), 40), ("-5", 0), ("99999", 3600), ("soon", 60)]
        {
            let mut headers = headers("2000", "3");
            headers.insert("ratelimit-reset", value.parse().unwrap());
            let wait = Report::read(&headers, Reserve::default()).unwrap().wait(200).as_secs();
            // The clock may have moved on by a second meanwhile.
            assert!(wait == seconds || wait + 1 == seconds, "{value}: {wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_reserve_every_pull_is_sent() {
        let quota = Quota::new(Reserve::Pulls(0));
        quota.read(&headers("100;w=21600", "0;w=21600"));
        assert!(matches!(quota.pull("r", false).await, Turn::Go(_)));
    }
}
