//! What a registry lets one login pull, and what is left of it.
//!
//! Docker Hub counts GETs of manifests per account, or per address without a login, and tells with
//! each answer to a request for a manifest: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining:
//! 76;w=21600`. HEAD is not counted and tells the same
//! (<https://docs.docker.com/docker-hub/usage/pulls/>). Any registry that sends these headers is
//! heeded.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::answer::{Answer, Exhausted};
use super::error::Failure;

/// Pulls that are left to others who share the login or the address: nodes that must start a pod,
/// people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// So many.
    Pulls(u64),
    /// So many of a hundred, rounded up.
    Percent(u8),
}

impl Default for Reserve {
    /// One in ten: of Docker Hub's 100 enough for a node to start with, of its 10 one.
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
        const HOW: &str = "write a number of pulls, or a share like 10%";
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or(HOW)
            }
            None => text.parse().map(Self::Pulls).map_err(|_| HOW),
        }
    }
}

/// The pulls of one login at one registry. Clients with the same login share it.
#[derive(Debug)]
pub struct Quota {
    reserve: Reserve,
    state: Mutex<State>,
    /// Held by the first pull until it is answered, so that a burst is not sent before anything is
    /// known.
    first: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// A pull was answered, whether or not that told anything.
    known: bool,
    told: Option<Told>,
    /// Pulls that the registry has not answered yet, so that what it told does not count them.
    under_way: u64,
    closed: Option<Closed>,
}

/// What the registry told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    limit: u64,
    window: Option<Duration>,
    left: u64,
    /// Until all are there again, where the registry says so (GitLab: `ratelimit-reset`).
    reset: Option<Duration>,
    /// The account or address that is counted.
    counted_for: Option<String>,
    at: Instant,
    again: Timestamp,
}

/// The registry refused, and more of the same would be refused too.
#[derive(Clone, Debug)]
struct Closed {
    what: Exhausted,
    answer: Answer,
    until: Instant,
}

/// A pull that may be sent. What it stands for is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pull<'a> {
    quota: &'a Quota,
    _first: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.state();
        state.under_way -= 1;
        state.known = true;
    }
}

/// Whether a pull may be sent.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    Go(Pull<'a>),
    /// What is known is old: a HEAD tells what is left now.
    Ask,
    No(Failure),
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(Reserve::default())
    }
}

impl Quota {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(reserve: Reserve) -> Self {
        Self { reserve, state: Mutex::default(), first: tokio::sync::Mutex::default() }
    }

    /// Takes in what an answer tells; returns how many pulls are left.
    pub(crate) fn told(&self, headers: &HeaderMap) -> Option<u64> {
        let told = Told::read(headers, self.reserve)?;
        let left = told.left;
        let mut state = self.state();
        // Pulls are there again: what the registry said before is over.
        if left > 0 && state.closed.as_ref().is_some_and(|closed| closed.what == Exhausted::Pulls) {
            state.closed = None;
        }
        state.told = Some(told);
        state.known = true;
        Some(left)
    }

    /// Takes in a refusal; returns whether it is one that concerns this login alone.
    pub(crate) fn refused(&self, answer: &Answer) -> bool {
        let Some(what) = answer.exhausted() else { return false };
        let until = Instant::now() + answer.asked_wait().unwrap_or_default();
        self.state().closed = Some(Closed { what, answer: answer.clone(), until });
        true
    }

    /// A pull, if one may be sent. `asked`: the registry has just been asked what is left.
    pub(crate) async fn pull(&self, host: &str, asked: bool) -> Turn<'_> {
        let first = if self.state().known { None } else { Some(self.first.lock().await) };
        let mut state = self.state();
        let first = first.filter(|_| !state.known);
        if let Some(failure) = state.closed_to(|_| true) {
            return Turn::No(failure);
        }
        if let Some(told) = &state.told {
            let kept = self.reserve.of(told.limit);
            let left = told.left.saturating_sub(state.under_way);
            if kept > 0 && left <= kept {
                let wait = told.wait(kept).saturating_sub(told.at.elapsed());
                if !wait.is_zero() {
                    return Turn::No(told.failure(host, left, (self.reserve, kept), wait));
                }
                if !asked {
                    return Turn::Ask;
                }
            }
        }
        state.under_way += 1;
        Turn::Go(Pull { quota: self, _first: first })
    }

    /// Whether the registry is known to count pulls.
    pub(crate) fn counts(&self) -> bool {
        let state = self.state();
        state.told.is_some() || state.closed.is_some()
    }

    /// Whether bytes may be asked for.
    ///
    /// # Errors
    /// The refusal that still holds.
    pub(crate) fn bytes(&self) -> Result<(), Failure> {
        self.state().closed_to(|what| what == Exhausted::Bytes).map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn closed_to(&mut self, concerns: impl Fn(Exhausted) -> bool) -> Option<Failure> {
        let closed = self.closed.as_ref().filter(|closed| concerns(closed.what))?;
        let wait = closed.until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.closed = None;
            return None;
        }
        // As if the registry had said it again.
        Some(Failure::Answer(Box::new(Answer { retry_after: Some(wait), ..closed.answer.clone() })))
    }
}

impl Told {
    fn read(headers: &HeaderMap, reserve: Reserve) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let (limit, window) = count(text("ratelimit-limit")?)?;
        let (left, _) = count(text("ratelimit-remaining")?)?;
        // An IPv6 address or the UUID of an account; what is longer or odd is not for messages.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
        let source = text("docker-ratelimit-source").map(str::trim);
        let counted_for = source.filter(|s| (1..=64).contains(&s.len()) && s.chars().all(is_plain));
        let counted_for = counted_for.map(str::to_owned);
        let (at, again) = (Instant::now(), Timestamp::now());
        let reset = text("ratelimit-reset").and_then(|value| reset(value, again));
        let mut told = Self { limit, window, left, reset, counted_for, at, again };
        let wait = SignedDuration::try_from(told.wait(reserve.of(limit))).unwrap_or_default();
        told.again = told.again.checked_add(wait).unwrap_or(told.again);
        Some(told)
    }

    /// Until the registry says; else until as many pulls have come back as are kept, if they come
    /// back one by one. It is no more than a guess, but a HEAD then tells what is left.
    fn wait(&self, kept: u64) -> Duration {
        const LEAST: Duration = Duration::from_secs(60);
        const MOST: Duration = Duration::from_secs(60 * 60);
        if let Some(reset) = self.reset {
            return reset.min(MOST);
        }
        let Some(window) = self.window.filter(|_| self.limit > 0) else { return LEAST };
        #[allow(clippy::cast_precision_loss)] // of a few hundred pulls, and it is bounded
        let share = (kept.max(1) as f64 / self.limit as f64).min(1.0);
        window.mul_f64(share).clamp(LEAST, MOST)
    }

    fn failure(
        &self,
        host: &str,
        left: u64,
        (reserve, kept): (Reserve, u64),
        wait: Duration,
    ) -> Failure {
        let Self { limit, again, .. } = self;
        let window = self.window.map(|window| format!(" in {}", span(window))).unwrap_or_default();
        let whose =
            self.counted_for.as_ref().map(|whose| format!(" to {whose}")).unwrap_or_default();
        let text = format!(
            "{host} allows {limit} pulls{window}{whose}, {left} are left, and the last {kept} are kept for others \
             (--rate-reserve {reserve}): asked again at {}",
            again.strftime("%H:%M UTC")
        );
        Failure::Reserved { text, wait }
    }
}

/// Seconds from now, or since 1970.
fn reset(text: &str, now: Timestamp) -> Option<Duration> {
    /// No registry lets anybody wait for thirty years.
    const EPOCH: i64 = 1_000_000_000;
    let seconds: i64 = text.trim().parse().ok()?;
    let left = if seconds >= EPOCH { seconds - now.as_second() } else { seconds };
    Some(Duration::from_secs(u64::try_from(left).unwrap_or_default()))
}

/// `100;w=21600`, or with several limits `100, 100;w=60`: how many, in how many seconds.
fn count(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split([';', ',']);
    let count = parts.next()?.trim().parse().ok()?;
    /// Nobody counts for longer.
    const YEAR: u64 = 366 * 24 * 60 * 60;
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
            let told = Told::read(&headers(limit, left), Reserve::default());
            let told = told
                .map(|told| (told.limit, told.window.map(|window| window.as_secs()), told.left));
            assert_eq!(told, expected, "{limit} {left}");
        }
        let mut only_one = headers("100", "1");
        only_one.remove("ratelimit-remaining");
        assert_eq!(Quota::default().told(&only_one), None);
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
    async fn pulls_end_at_the_reserve_and_go_on_when_there_are_more() {
        let quota = Quota::new(Reserve::Percent(10));
        assert!(matches!(quota.pull("r", false).await, Turn::Go(_)), "nothing is known");
        quota.told(&headers("100;w=21600", "12;w=21600"));
        let (first, second) = (quota.pull("r", false).await, quota.pull("r", false).await);
        assert!(matches!((&first, &second), (Turn::Go(_), Turn::Go(_))));
        assert!(is_no(&quota.pull("r", false).await), "two are on their way");
        drop(first);
        assert!(
            matches!(quota.pull("r", false).await, Turn::Go(_)),
            "it was not counted, so it failed"
        );
        drop(second);
        quota.told(&headers("100;w=21600", "10;w=21600"));
        assert!(is_no(&quota.pull("r", false).await));
        // A tenth of six hours later as much may have come back.
        tokio::time::advance(Duration::from_secs(36 * 60)).await;
        assert!(matches!(quota.pull("r", false).await, Turn::Ask));
        assert!(
            matches!(quota.pull("r", true).await, Turn::Go(_)),
            "the registry does not tell any more: it will say no"
        );
        quota.told(&headers("100;w=21600", "9;w=21600"));
        assert!(is_no(&quota.pull("r", true).await));
        quota.told(&headers("100;w=21600", "100;w=21600"));
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
            let wait = Told::read(&headers, Reserve::default()).unwrap().wait(200).as_secs();
            // The clock may have moved on by a second meanwhile.
            assert!(wait == seconds || wait + 1 == seconds, "{value}: {wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_reserve_every_pull_is_sent() {
        let quota = Quota::new(Reserve::Pulls(0));
        quota.told(&headers("100;w=21600", "0;w=21600"));
        assert!(matches!(quota.pull("r", false).await, Turn::Go(_)));
    }
}
