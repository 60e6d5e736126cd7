//! Token buckets at ECR's published quotas, one set per (account, region) for the whole process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::meter::Meter;

/// Waits so that no more than `rate` passes happen per second, after a burst of as many.
#[derive(Debug)]
pub struct Limiter {
    /// ECR's name for what is limited.
    action: &'static str,
    meter: Arc<dyn Meter>,
    /// Time that one pass costs.
    cost: Duration,
    /// How far the schedule may lie behind now: a second's worth of passes.
    burst: Duration,
    /// When the schedule stands: each pass moves it on by `cost`.
    schedule: Mutex<Instant>,
}

impl Limiter {
    /// `rate` passes per second of this action.
    #[must_use]
    pub fn per_second(action: &'static str, rate: u32, meter: Arc<dyn Meter>) -> Self {
        let rate = rate.max(1);
        let burst = Duration::from_secs(1);
        Self { action, meter, cost: burst / rate, burst, schedule: Mutex::new(Instant::now()) }
    }

    /// Returns when the caller may go on. Callers pass in the order in which they asked.
    pub async fn pass(&self) {
        let at = {
            let mut schedule = self.schedule.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            let floor = now.checked_sub(self.burst.saturating_sub(self.cost)).unwrap_or(now);
            let at = (*schedule).max(floor);
            *schedule = at + self.cost;
            at
        };
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.meter.throttled(self.action, wait);
            tokio::time::sleep_until(at).await;
        }
    }
}

/// The limits that matter to a copy.
#[derive(Debug)]
pub struct Limits {
    /// Manifest PUTs. 10 per second and (account, region): the scarce thing of a sync with many tags.
    pub put_image: Limiter,
}

impl Limits {
    /// ECR's defaults, with `put_image_rate` where the account's quota was raised.
    #[must_use]
    pub fn new(put_image_rate: u32, meter: &Arc<dyn Meter>) -> Self {
        Self { put_image: Limiter::per_second("PutImage", put_image_rate, meter.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let limiter = Limiter::per_second("PutImage", 10, Arc::new(crate::meter::Silent));
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
}
