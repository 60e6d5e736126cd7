//! The circuit breaker of one way to a source: a host that does not answer is found out once, for
//! all. Then requests fail at once, but for one at a time that probes whether it answers again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cause::Cause;
use crate::backoff::doubled;

/// Weight of failures in a row from which on a host counts as down: two requests without an answer or
/// that connect in vain, or all tries of a request that is refused a connection.
const LIMIT: u32 = 4;
/// Wait before the first probe; it doubles with each probe that fails.
const FIRST_PROBE: Duration = Duration::from_secs(5);
/// Longest wait before a probe: a host that is back is noticed within a minute.
const LONGEST_PROBE: Duration = Duration::from_secs(60);

/// The state of a host, over one connection with one login.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Weight of the failures since the last answer.
    failures: u32,
    answered: Option<Instant>,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    host: String,
    why: String,
    /// Probes so far.
    probes: u32,
    next_probe: Instant,
    is_probing: bool,
}

impl Outage {
    fn cause(&self) -> Cause {
        Cause::Down { host: self.host.clone(), why: self.why.clone() }
    }
}

/// A request that may be sent. Dropped without an answer, it says nothing about the host.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    breaker: Option<&'a Breaker>,
    began: Instant,
    is_probe: bool,
}

impl<'a> Attempt<'a> {
    /// An attempt that nothing holds back.
    pub(super) fn free() -> Self {
        Self { breaker: None, began: Instant::now(), is_probe: false }
    }

    /// Records the result of the request to `host`. A failure becomes [`Cause::Down`] if the host is
    /// down, so that all requests fail with the same words.
    ///
    /// # Errors
    /// The failure.
    pub(crate) fn settle<T>(&self, host: &str, result: Result<T, Cause>) -> Result<T, Cause> {
        let Some(breaker) = self.breaker else { return result };
        let mut state = breaker.0.lock();
        let cause = match result {
            Ok(_) => {
                *state = State { answered: Some(Instant::now()), ..State::default() };
                return result;
            }
            Err(cause) => cause,
        };

        let weight = weight(host, &cause);
        // Others got an answer meanwhile.
        if weight == 0 || state.answered.is_some_and(|answered| answered > self.began) {
            return Err(cause);
        }
        let failures = state.failures.saturating_add(weight);
        state.failures = failures;
        match &mut state.outage {
            Some(outage) if self.is_probe => {
                outage.probes += 1;
                let wait = doubled(FIRST_PROBE, outage.probes, LONGEST_PROBE);
                outage.next_probe = Instant::now() + wait;
            }
            Some(_) => {}
            None if failures < LIMIT => return Err(cause),
            none => {
                let next_probe = Instant::now() + FIRST_PROBE;
                *none = Some(Outage {
                    host: host.to_owned(),
                    why: cause.to_string(),
                    probes: 1,
                    next_probe,
                    is_probing: false,
                });
            }
        }
        Err(state.outage.as_ref().map_or(cause, Outage::cause))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.filter(|_| self.is_probe)
            && let Some(outage) = &mut breaker.0.lock().outage
        {
            outage.is_probing = false;
        }
    }
}

impl Breaker {
    /// Lets a request be sent.
    ///
    /// # Errors
    /// [`Cause::Down`] while the host is down, except for one probe at a time.
    pub(super) fn admit(&self) -> Result<Attempt<'_>, Cause> {
        let mut state = self.0.lock();
        let began = Instant::now();
        let is_probe = match &mut state.outage {
            None => false,
            Some(outage) if outage.is_probing || began < outage.next_probe => {
                return Err(outage.cause());
            }
            Some(outage) => {
                outage.is_probing = true;
                true
            }
        };
        Ok(Attempt { breaker: Some(self), began, is_probe })
    }

    /// Whether the host is down.
    pub(super) fn is_open(&self) -> bool {
        self.0.lock().outage.is_some()
    }

    /// Whether a probe is due.
    pub(super) fn wants_probe(&self) -> bool {
        let state = self.0.lock();
        let is_due = |outage: &Outage| !outage.is_probing && outage.next_probe <= Instant::now();
        state.outage.as_ref().is_some_and(is_due)
    }
}

/// Returns the weight of a failed request: 0 if it says nothing about the host.
fn weight(host: &str, cause: &Cause) -> u32 {
    // A redirect leads to other hosts; a proxy is named after the host.
    let is_ours = |at: &str| at.starts_with(host);
    // A host that drops packets takes as long as one that does not answer.
    let of_connection = |error: &reqwest::Error| if error.is_timeout() { LIMIT / 2 } else { 1 };
    match cause {
        Cause::NoAnswer { host, .. } if is_ours(host) => LIMIT / 2,
        Cause::Connect { host, source } if is_ours(host) => of_connection(source),
        // Without a token the host cannot be read.
        Cause::Token { source, .. } => match &**source {
            Cause::NoAnswer { .. } => LIMIT / 2,
            Cause::Connect { source, .. } => of_connection(source),
            _ => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "registry.example.com";

    fn no_answer() -> Result<(), Cause> {
        Err(Cause::NoAnswer { host: HOST.to_owned(), after: Duration::from_secs(15) })
    }

    fn fails(breaker: &Breaker) -> Cause {
        let attempt = breaker.admit().expect("admitted");
        attempt.settle(HOST, no_answer()).expect_err("no answer")
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_down_after_two_requests_without_an_answer_until_a_probe_is_answered() {
        let breaker = Breaker::default();
        assert!(matches!(fails(&breaker), Cause::NoAnswer { .. }));
        let down = fails(&breaker);
        let text = down.to_string();
        assert!(matches!(down, Cause::Down { .. }) && text.contains(HOST), "{text}");
        assert!(breaker.is_open() && !breaker.wants_probe());
        assert_eq!(breaker.admit().expect_err("held back").to_string(), text);

        for wait in [5, 10, 20, 40, 60, 60] {
            tokio::time::advance(Duration::from_secs(wait) - Duration::from_millis(1)).await;
            assert!(breaker.admit().is_err(), "before {wait} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(breaker.wants_probe());
            let probe = breaker.admit().expect("a probe");
            assert!(breaker.admit().is_err() && !breaker.wants_probe(), "one at a time");
            assert_eq!(probe.settle(HOST, no_answer()).expect_err("down").to_string(), text);
        }

        tokio::time::advance(LONGEST_PROBE).await;
        drop(breaker.admit().expect("a probe that is cancelled"));
        let probe = breaker.admit().expect("the next one");
        probe.settle(HOST, Ok(())).expect("an answer");
        drop(probe);
        assert!(!breaker.is_open());
        assert!(matches!(fails(&breaker), Cause::NoAnswer { .. }), "counts from zero");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_counts_only_without_an_answer_to_others_and_for_the_host_itself() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            let slow = breaker.admit().expect("admitted");
            tokio::time::advance(Duration::from_secs(1)).await;
            let quick = breaker.admit().expect("admitted");
            quick.settle(HOST, Ok(())).expect("an answer");
            tokio::time::advance(Duration::from_secs(1)).await;
            quick.settle(HOST, Ok(())).expect("an answer");
            assert!(slow.settle(HOST, no_answer()).is_err());
        }
        for _ in 0..10 {
            let attempt = breaker.admit().expect("admitted");
            assert!(attempt.settle("other.example.com", no_answer()).is_err());
            let broken = Cause::Unexpected("odd".to_owned());
            assert!(attempt.settle(HOST, Err::<(), _>(broken)).is_err());
        }
        assert!(!breaker.is_open());
    }
}
