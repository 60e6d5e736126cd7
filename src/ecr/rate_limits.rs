//! Rate limits of calls to ECR, PutImage above all: token buckets at ECR's published quotas, one
//! set per (account, region) for the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::meter::Meter;
use crate::registry::Gate;

/// A token bucket: `rate` calls per second, after a burst of as many. ECR's throttling slows it
/// down.
#[derive(Debug)]
pub struct RateLimiter {
    /// The API action, for metrics.
    action: &'static str,
    meter: Arc<dyn Meter>,
    /// Time between two calls, with the whole quota.
    cost: Duration,
    share: Share,
    pace: Mutex<Pace>,
}

/// The part of each quota that this process may use. Replicas with shards split the quotas by the
/// shards that they hold. Clones share it.
#[derive(Clone, Debug)]
pub struct Share(Arc<AtomicU32>);

impl Share {
    /// The whole, as it is stored: a fine unit, so that many shards add up to the whole.
    const WHOLE: u32 = 1 << 20;

    /// Sets the part to `held` of `all`. A process that holds nothing keeps the part of one, for the
    /// calls of jobs that are ending.
    pub fn set(&self, held: u32, all: u32) {
        let held = held.clamp(1, all.max(1));
        self.0.store(Self::WHOLE / all.max(1) * held, Ordering::Relaxed);
    }

    /// Returns the part, more than 0 and at most 1.
    fn get(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / f64::from(Self::WHOLE)
    }
}

impl Default for Share {
    /// The whole quota.
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(Self::WHOLE)))
    }
}

#[derive(Debug)]
struct Pace {
    /// Time of the next call. Each call moves it on by its cost.
    schedule: Instant,
    /// Factor of `cost`; more than 1 after throttling.
    slowness: f64,
    /// Time of the last slowdown.
    slowed: Option<Instant>,
}

/// Longest time by which the schedule may lag behind now: one second's worth of calls.
const BURST: Duration = Duration::from_secs(1);
/// Factor by which throttling slows down: others use the quota too, and it may be lower than
/// configured.
const STEP: f64 = 1.5;
/// Upper bound of the slowdown: no quota explains more.
const SLOWEST: f64 = 8.0;
/// Each call speeds up by a hundredth: 40 calls make up for one slowdown.
const RECOVERY: f64 = 0.99;
/// Requests in flight at the same time are throttled together: that is one slowdown.
const EPOCH: Duration = Duration::from_millis(250);

impl RateLimiter {
    /// A limiter of `rate` calls of `action` per second, or of a share of them.
    #[must_use]
    pub fn per_second(
        action: &'static str,
        rate: u32,
        share: Share,
        meter: Arc<dyn Meter>,
    ) -> Self {
        Self {
            action,
            meter,
            cost: Duration::from_secs(1) / rate.max(1),
            share,
            pace: Mutex::new(Pace { schedule: Instant::now(), slowness: 1.0, slowed: None }),
        }
    }

    /// Time between two calls of this process.
    fn cost(&self) -> Duration {
        self.cost.div_f64(self.share.get())
    }
}

#[async_trait]
impl Gate for RateLimiter {
    /// Waits until the caller may send its call. First come, first served.
    async fn pass(&self) {
        let at = {
            let mut pace = self.pace.lock();
            let (now, cost) = (Instant::now(), self.cost());
            let earliest = now.checked_sub(BURST.saturating_sub(cost)).unwrap_or(now);
            // Throttling ends the burst.
            let earliest = pace.slowed.map_or(earliest, |slowed| earliest.max(slowed));
            let at = pace.schedule.max(earliest);
            pace.schedule = at + cost.mul_f64(pace.slowness);
            pace.slowness = (pace.slowness * RECOVERY).max(1.0);
            at
        };

        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.meter.throttled(self.action, wait);
            tokio::time::sleep_until(at).await;
        }
    }

    /// Slows down at once: the next call waits for its full cost, and the following ones are
    /// slower.
    fn throttled(&self) {
        let mut pace = self.pace.lock();
        let now = Instant::now();
        if pace.slowed.is_some_and(|slowed| now < slowed + EPOCH) {
            return;
        }
        pace.slowness = (pace.slowness * STEP).min(SLOWEST);
        pace.slowed = Some(now);
        pace.schedule = pace.schedule.max(now + self.cost().mul_f64(pace.slowness));
    }
}

/// The queue of one pass in front of a [`RateLimiter`] that all passes share. A pass that writes
/// hundreds of manifests keeps most of them here, so a pass with two does not wait behind them all.
#[derive(Debug)]
pub(super) struct Queue {
    limiter: Arc<RateLimiter>,
    slots: Semaphore,
}

impl Queue {
    /// Calls of one pass that may wait at the limiter. At ECR's 10 per second, other passes wait at
    /// most 1.6 s for them.
    const SLOTS: usize = 16;

    pub(super) fn before(limiter: Arc<RateLimiter>) -> Self {
        Self { limiter, slots: Semaphore::new(Self::SLOTS) }
    }
}

#[async_trait]
impl Gate for Queue {
    async fn pass(&self) {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        self.limiter.pass().await;
    }

    fn throttled(&self) {
        self.limiter.throttled();
    }
}

/// Limits for those of ECR's quotas per account and region that a copy can reach (User Guide,
/// quotas). It cannot reach the others: tokens are cached, BatchCheckLayerAvailability (1,000)
/// checks 100 layers per call, and reads from ECR as a source run 16 at a time, below BatchGetImage
/// (2,000) and GetDownloadUrlForLayer (3,000).
#[derive(Debug)]
pub struct RateLimits {
    /// Manifest PUTs: the bottleneck of a sync with many tags.
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
    /// ECR's default quotas.
    fn default() -> Self {
        Self { put_image: 10, uploads: 100 }
    }
}

impl RateLimits {
    /// Limits at this share of these rates.
    #[must_use]
    pub fn new(rates: Rates, share: &Share, meter: &Arc<dyn Meter>) -> Self {
        let limiter = |action, rate| {
            Arc::new(RateLimiter::per_second(action, rate, share.clone(), meter.clone()))
        };
        Self {
            put_image: limiter("PutImage", rates.put_image),
            uploads: limiter("InitiateLayerUpload", rates.uploads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(share: Share) -> RateLimiter {
        RateLimiter::per_second("PutImage", 10, share, Arc::new(crate::meter::Silent))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let limiter = limiter(Share::default());
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
    async fn replicas_split_the_rate_by_their_shards_as_they_change() {
        let shares = [Share::default(), Share::default()];
        let limiters = shares.clone().map(limiter);
        let calls = async |seconds| {
            let end = Instant::now() + Duration::from_secs(seconds);
            let calls = async |limiter: &RateLimiter| {
                let mut count = 0;
                while tokio::time::timeout_at(end, limiter.pass()).await.is_ok() {
                    count += 1;
                }
                count
            };
            tokio::join!(calls(&limiters[0]), calls(&limiters[1]))
        };

        shares[0].set(1, 4);
        shares[1].set(3, 4);
        let (few, many) = calls(40).await;
        assert!((99..=103).contains(&few) && (299..=309).contains(&many), "{few} {many}");
        shares[0].set(4, 4);
        shares[1].set(0, 4);
        let (all, none) = calls(40).await;
        // A call that did not get its turn in time has still used it.
        assert!((390..=411).contains(&all) && none <= 103, "{all} {none}");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_slows_down_at_once_and_recovers_slowly() {
        let limiter = limiter(Share::default());
        tokio::time::advance(Duration::from_secs(60)).await;
        let passes = async |count: u32| {
            let start = Instant::now();
            for _ in 0..count {
                limiter.pass().await;
            }
            start.elapsed()
        };

        assert_eq!(passes(1).await, Duration::ZERO);
        // Requests in flight together are one slowdown.
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

        assert!(passes(10).await <= Duration::from_secs(8 + 1), "it never stops");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_with_two_manifests_does_not_wait_for_one_with_hundreds() {
        let limiter = Arc::new(limiter(Share::default()));
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
        // The sixteen that waited, and as many between the two.
        assert!(start.elapsed() <= Duration::from_secs(1 + 2 + 2), "{:?}", start.elapsed());
        while passes.join_next().await.is_some() {}

        let all = start.elapsed().as_secs();
        assert!((19..=21).contains(&all), "the rate is used to the full: {all} s");
    }
}
