//! Token buckets at ECR's published quotas, one set per (account, region) for the whole process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::meter::Meter;
use crate::registry::Gate;

/// Waits so that no more than `rate` passes happen per second, after a burst of as many.
#[derive(Debug)]
pub struct RateLimiter {
    /// ECR's name for what is limited.
    action: &'static str,
    meter: Arc<dyn Meter>,
    /// Time that one pass costs.
    cost: Duration,
    /// How far the schedule may lie behind now: a second's worth of passes.
    burst: Duration,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When the next one may pass: each pass moves it on by the cost of one.
    schedule: Instant,
    /// How many times `cost` a pass costs now: more than 1 after a throttle.
    slowness: f64,
    /// When it was slowed down last.
    slowed: Option<Instant>,
}

/// A throttle makes a pass cost so much more; others use the quota too, and it may be lower than we
/// were told.
const STEP: f64 = 1.5;
/// Slower than this is nothing that a quota explains.
const SLOWEST: f64 = 8.0;
/// Each pass takes off a hundredth: after a throttle the old pace is back within 40 passes.
const RECOVERY: f64 = 0.99;
/// Requests that were on their way together are throttled together: that is one throttle.
const EPOCH: Duration = Duration::from_millis(250);

impl RateLimiter {
    /// `rate` passes per second of this action.
    #[must_use]
    pub fn per_second(action: &'static str, rate: u32, meter: Arc<dyn Meter>) -> Self {
        let rate = rate.max(1);
        let burst = Duration::from_secs(1);
        Self {
            action,
            meter,
            cost: burst / rate,
            burst,
            pace: Mutex::new(Pace { schedule: Instant::now(), slowness: 1.0, slowed: None }),
        }
    }

    /// Returns when the caller may go on. Callers pass in the order in which they asked.
    pub async fn pass(&self) {
        let at = {
            let mut pace = self.pace();
            let now = Instant::now();
            let floor = now.checked_sub(self.burst.saturating_sub(self.cost)).unwrap_or(now);
            // What was saved up before a throttle is spent.
            let floor = pace.slowed.map_or(floor, |slowed| floor.max(slowed));
            let at = pace.schedule.max(floor);
            pace.schedule = at + self.cost.mul_f64(pace.slowness);
            pace.slowness = (pace.slowness * RECOVERY).max(1.0);
            at
        };
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.meter.throttled(self.action, wait);
            tokio::time::sleep_until(at).await;
        }
    }
}

impl RateLimiter {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Gate for RateLimiter {
    async fn pass(&self) {
        Self::pass(self).await;
    }

    /// Steps back at once: nobody passes for the time of one pass, and the next ones pass slower.
    fn throttled(&self) {
        let mut pace = self.pace();
        let now = Instant::now();
        if pace.slowed.is_some_and(|slowed| now < slowed + EPOCH) {
            return;
        }
        pace.slowness = (pace.slowness * STEP).min(SLOWEST);
        pace.slowed = Some(now);
        pace.schedule = pace.schedule.max(now + self.cost.mul_f64(pace.slowness));
    }
}

/// The queue of one pass before a [`RateLimiter`] that all passes share. Whoever has hundreds of
/// manifests to write keeps most of them here, so that a pass with two comes to its turn among the
/// next few.
#[derive(Debug)]
pub(super) struct Queue {
    limiter: Arc<RateLimiter>,
    places: Semaphore,
}

impl Queue {
    /// What one pass may have waiting: at ECR's 10 per second, others come in between after 1.6 s
    /// at the latest.
    pub(super) const PLACES: usize = 16;

    pub(super) fn before(limiter: Arc<RateLimiter>) -> Self {
        Self { limiter, places: Semaphore::new(Self::PLACES) }
    }
}

#[async_trait]
impl Gate for Queue {
    async fn pass(&self) {
        // Never closed.
        let _place = self.places.acquire().await;
        self.limiter.pass().await;
    }

    fn throttled(&self) {
        self.limiter.throttled();
    }
}

/// The quotas that a copy can reach, of those that ECR publishes per account and region (User
/// Guide, quotas). The others it cannot: tokens are kept, BatchCheckLayerAvailability (1,000) is
/// asked for a hundred layers at once, and as a source ECR is asked 16 things at a time, which
/// stays below BatchGetImage (2,000) and GetDownloadUrlForLayer (3,000).
#[derive(Debug)]
pub struct RateLimits {
    /// Manifest PUTs: the scarce thing of a sync with many tags.
    pub put_image: Arc<RateLimiter>,
    /// Uploads of blobs: each is one InitiateLayerUpload and one CompleteLayerUpload.
    pub uploads: Arc<RateLimiter>,
}

/// Calls per second that an account may make in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// PutImage.
    pub put_image: u32,
    /// InitiateLayerUpload and CompleteLayerUpload.
    pub uploads: u32,
}

impl Default for Rates {
    /// ECR's own defaults.
    fn default() -> Self {
        Self { put_image: 10, uploads: 100 }
    }
}

impl RateLimits {
    /// At these rates.
    #[must_use]
    pub fn new(rates: Rates, meter: &Arc<dyn Meter>) -> Self {
        let limiter = |action, rate| Arc::new(RateLimiter::per_second(action, rate, meter.clone()));
        Self {
            put_image: limiter("PutImage", rates.put_image),
            uploads: limiter("InitiateLayerUpload", rates.uploads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let limiter = RateLimiter::per_second("PutImage", 10, Arc::new(crate::meter::Silent));
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..10 {
            limiter.pass().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            limiter.pass().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_steps_back_at_once_and_is_made_up_for_slowly() {
        let limiter = RateLimiter::per_second("PutImage", 10, Arc::new(crate::meter::Silent));
        tokio::time::advance(Duration::from_secs(60)).await;
        let passes = async |count: u32| {
            let start = Instant::now();
            for _ in 0..count {
                limiter.pass().await;
            }
            start.elapsed()
        };
        assert_eq!(passes(1).await, Duration::ZERO);
        // Those that were on their way together are one throttle.
        (0..5).for_each(|_| limiter.throttled());
        let (first, next) = (passes(1).await, passes(10).await);
        assert!((149..=151).contains(&first.as_millis()), "{first:?}");
        assert!(
            (1350..=1500).contains(&next.as_millis()),
            "no burst, at two thirds of the pace: {next:?}"
        );
        passes(60).await;
        let again = passes(10).await;
        assert!((999..=1001).contains(&again.as_millis()), "{again:?}");
        for _ in 0..50 {
            tokio::time::advance(EPOCH).await;
            limiter.throttled();
        }
        assert!(passes(10).await <= Duration::from_secs(8 + 1), "it never stands still");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_with_two_manifests_does_not_wait_for_one_with_hundreds() {
        let limiter =
            Arc::new(RateLimiter::per_second("PutImage", 10, Arc::new(crate::meter::Silent)));
        let queue = || Arc::new(Queue::before(limiter.clone()));
        let (many, few) = (queue(), queue());
        let mut passes = tokio::task::JoinSet::new();
        let start = Instant::now();
        for _ in 0..200 {
            let many = many.clone();
            passes.spawn(async move { many.pass().await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        few.pass().await;
        few.pass().await;
        // The sixteen that waited, and as many as pass between the two.
        assert!(start.elapsed() <= Duration::from_secs(1 + 2 + 2), "{:?}", start.elapsed());
        while passes.join_next().await.is_some() {}
        let all = start.elapsed().as_secs();
        assert!((19..=21).contains(&all), "the rate is used to the full: {all} s");
    }
}
