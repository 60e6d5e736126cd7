//! Concurrency limits of one registry: requests, downloads and uploads at a time; fewer after a
//! 429, and none during a pause that the registry asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::{Attempt, Breaker};
use super::cause::Cause;
use super::retry::MAX_ASKED_WAIT;

/// A rate limit from outside the registry client: ECR has an API quota for writing manifests.
#[async_trait]
pub(crate) trait Gate: Send + Sync + fmt::Debug {
    /// Waits until one more request may be sent.
    async fn pass(&self);

    /// Notes that the registry throttled a request.
    fn throttled(&self);
}

/// The number of concurrent requests and transfers with one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    /// Small requests, until the head of the answer.
    pub(crate) requests: usize,
    /// Downloads of blobs, until the last byte.
    pub(crate) downloads: usize,
    /// Uploads of blobs, until the answer.
    pub(crate) uploads: usize,
}

impl Default for Widths {
    /// 32 of each fill an ordinary link at 30 ms of latency. Other clients use 3 to 10 per image,
    /// for many images at once. After a 429 the number of requests goes down.
    fn default() -> Self {
        Self { requests: 32, downloads: 32, uploads: 32 }
    }
}

/// The limits of one registry. Clients of the same host with other credentials may share them.
///
/// # Guarantees
/// A copy never holds a slot of one registry while it waits for a slot of another one: see
/// [`both`].
#[derive(Debug)]
pub struct Limits {
    requests: Arc<Adaptive>,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    max_uploads: u32,
    /// Blobs of at least this size are written in parts: the registry refused a whole one.
    parts_from: AtomicU64,
    paused_until: Mutex<Option<Instant>>,
    /// Only for sources: ECR is asked again by all, since it is the target of all.
    breaker: Option<Breaker>,
}

/// A slot, released when dropped.
pub(crate) type Slot = OwnedSemaphorePermit;

/// An adaptive number of concurrent requests: half as many when the registry throttles, one more
/// after as many successes as run at once, up to the initial number.
#[derive(Debug)]
struct Adaptive {
    slots: Arc<Semaphore>,
    max: usize,
    state: Mutex<Width>,
}

#[derive(Debug)]
struct Width {
    current: usize,
    /// Slots in use that will be removed when they are released.
    owed: usize,
    /// Successes since the width changed.
    successes: usize,
    last_narrowed: Option<Instant>,
}

/// Requests that were in flight together are throttled together: that counts once.
const NARROW_INTERVAL: Duration = Duration::from_millis(100);

/// A slot for a small request.
pub(crate) struct RequestSlot {
    width: Arc<Adaptive>,
    permit: Option<Slot>,
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let mut state = self.width.state.lock();
        if let Some(owed) = state.owed.checked_sub(1) {
            state.owed = owed;
            self.permit.take().into_iter().for_each(Slot::forget);
        }
    }
}

impl Adaptive {
    fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let width = Width { current: max, owed: 0, successes: 0, last_narrowed: None };
        Self { slots: Arc::new(Semaphore::new(max)), max, state: Mutex::new(width) }
    }

    async fn acquire(self: &Arc<Self>) -> Result<RequestSlot, Cause> {
        Ok(RequestSlot { permit: Some(acquire(&self.slots).await?), width: self.clone() })
    }

    fn widen(&self) {
        let mut state = self.state.lock();
        state.successes += 1;
        if state.current >= self.max || state.successes < state.current {
            return;
        }

        state.successes = 0;
        state.current += 1;
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => self.slots.add_permits(1),
        }
    }

    fn narrow(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.last_narrowed.is_some_and(|last| now < last + NARROW_INTERVAL) {
            return;
        }

        let half = (state.current / 2).max(1);
        let removed = state.current - half;
        state.current = half;
        state.successes = 0;
        state.last_narrowed = Some(now);
        state.owed += removed - self.slots.forget_permits(removed);
    }
}

impl Limits {
    /// Creates limits of these widths.
    #[must_use]
    pub(crate) fn new(widths: Widths) -> Self {
        let semaphore =
            |width: usize| Arc::new(Semaphore::new(width.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            requests: Arc::new(Adaptive::new(widths.requests)),
            downloads: semaphore(widths.downloads),
            uploads: semaphore(widths.uploads),
            max_uploads: u32::try_from(widths.uploads.max(1)).unwrap_or(u32::MAX),
            parts_from: AtomicU64::new(u64::MAX),
            paused_until: Mutex::new(None),
            breaker: None,
        }
    }

    /// Creates the limits of a source, which holds requests back while its host is down.
    #[must_use]
    pub(crate) fn of_source() -> Self {
        Self { breaker: Some(Breaker::default()), ..Self::default() }
    }

    /// Lets a request be sent to the host. The caller reports the result to the attempt.
    ///
    /// # Errors
    /// [`Cause::Down`] while the host is down.
    pub(crate) fn admit(&self) -> Result<Attempt<'_>, Cause> {
        self.breaker.as_ref().map_or_else(|| Ok(Attempt::free()), Breaker::admit)
    }

    /// Whether the host was found not to answer.
    pub(crate) fn is_down(&self) -> bool {
        self.breaker.as_ref().is_some_and(Breaker::is_open)
    }

    /// Whether a request should probe whether the host answers again.
    pub(crate) fn wants_probe(&self) -> bool {
        self.breaker.as_ref().is_some_and(Breaker::wants_probe)
    }

    /// Waits for a slot for a small request, and for the end of a pause of at most `max_wait`.
    pub(crate) async fn request(
        &self,
        host: &str,
        max_wait: Duration,
    ) -> Result<RequestSlot, Cause> {
        loop {
            let slot = self.requests.acquire().await?;
            let Some(wait) = self.pause() else { return Ok(slot) };
            drop(slot);
            if wait > max_wait {
                return Err(Cause::Paused { host: host.to_owned(), wait });
            }
            // The jitter spreads the waiting requests over a quarter of a second.
            let jitter = Duration::from_millis(250).mul_f64(fastrand::f64());
            tokio::time::sleep(wait + jitter).await;
        }
    }

    pub(crate) async fn download(&self) -> Result<Slot, Cause> {
        acquire(&self.downloads).await
    }

    pub(crate) async fn upload(&self) -> Result<Slot, Cause> {
        acquire_many(&self.uploads, self.upload_slots()).await
    }

    fn try_upload(&self) -> Option<Slot> {
        self.uploads.clone().try_acquire_many_owned(self.upload_slots()).ok()
    }

    /// The number of slots of one upload. An upload in parts holds a part in memory, ten times as
    /// much as a stream.
    fn upload_slots(&self) -> u32 {
        if self.parts_from.load(Ordering::Relaxed) == u64::MAX {
            1
        } else {
            4.min(self.max_uploads)
        }
    }

    /// Whether blobs of this size must be written in parts.
    pub(crate) fn wants_parts(&self, size: u64) -> bool {
        size > 0 && size >= self.parts_from.load(Ordering::Relaxed)
    }

    /// Notes that the registry refused a whole blob of this size: from this size on it gets parts.
    pub(crate) fn use_parts_from(&self, size: u64) {
        self.parts_from.fetch_min(size, Ordering::Relaxed);
    }

    /// Notes that the registry refuses parts too: the next blob is sent whole again.
    pub(crate) fn use_whole_blobs(&self) {
        self.parts_from.store(u64::MAX, Ordering::Relaxed);
    }

    /// Notes a success.
    pub(crate) fn answered(&self) {
        self.requests.widen();
    }

    /// Notes that the registry throttled a request.
    pub(crate) fn refused(&self) {
        self.requests.narrow();
    }

    /// Notes a 429 with a wait: all requests wait, not only the refused one. The registry is asked
    /// again after 15 minutes at most, so that one wrong answer does not stop it for a day.
    pub(crate) fn pause_for(&self, wait: Duration) {
        let end = Instant::now() + wait.min(MAX_ASKED_WAIT);
        let mut paused_until = self.paused_until.lock();
        if paused_until.is_none_or(|earlier| earlier < end) {
            *paused_until = Some(end);
        }
    }

    /// The rest of the pause, if there is one.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let mut paused_until = self.paused_until.lock();
        let left = (*paused_until)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *paused_until = None;
            return None;
        }
        Some(left)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(Widths::default())
    }
}

/// Waits for a download slot of `source` and an upload slot of `target`, and holds neither while it
/// waits for the other.
pub(crate) async fn both(source: &Limits, target: &Limits) -> Result<(Slot, Slot), Cause> {
    loop {
        let download = source.download().await?;
        if let Some(upload) = target.try_upload() {
            return Ok((download, upload));
        }
        drop(download);
        let upload = target.upload().await?;
        if let Ok(download) = source.downloads.clone().try_acquire_owned() {
            return Ok((download, upload));
        }
    }
}

async fn acquire_many(semaphore: &Arc<Semaphore>, permits: u32) -> Result<Slot, Cause> {
    let acquired = semaphore.clone().acquire_many_owned(permits).await;
    // The semaphore is never closed: the client that owns it is dropped first.
    acquired.map_err(|_| Cause::Internal("the registry client was shut down".into()))
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<Slot, Cause> {
    acquire_many(semaphore, 1).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_for_the_target_holds_no_slot_of_the_source() {
        let source = Limits::new(Widths { downloads: 1, ..Widths::default() });
        let target = Limits::new(Widths { uploads: 1, ..Widths::default() });
        let (_, upload) = both(&source, &target).await.unwrap();
        let (first, second) = {
            let mut waiting = Box::pin(both(&source, &target));
            assert!(futures::poll!(&mut waiting).is_pending());
            let free = source.downloads.available_permits();
            drop(upload);
            (free, waiting.await.is_ok())
        };
        assert_eq!((first, second), (1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_refuses_is_asked_less_at_a_time_and_more_again_later() {
        let limits = Limits::new(Widths { requests: 8, ..Widths::default() });
        let max_wait = Duration::from_secs(1);
        let free = || limits.requests.slots.available_permits();
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(limits.request("r", max_wait).await.unwrap());
        }

        tokio::time::advance(NARROW_INTERVAL).await;
        (0..5).for_each(|_| limits.refused());
        assert_eq!(free(), 0, "4 at once, 6 are in flight");
        taken.truncate(4);
        assert_eq!(free(), 0);
        taken.truncate(3);
        assert_eq!(free(), 1);
        taken.clear();
        assert_eq!(free(), 4);

        (0..4).for_each(|_| limits.answered());
        assert_eq!(free(), 5);
        (0..100).for_each(|_| limits.answered());
        assert_eq!(free(), 8, "at most the initial number");

        for _ in 0..10 {
            tokio::time::advance(NARROW_INTERVAL).await;
            limits.refused();
        }
        assert_eq!(free(), 1);
    }

    #[tokio::test]
    async fn a_pause_holds_all_requests_and_a_long_one_is_reported() {
        let limits = Limits::default();
        limits.pause_for(Duration::from_millis(50));
        limits.pause_for(Duration::from_millis(1));
        let began = Instant::now();
        let _slot = limits.request("r", Duration::from_secs(20)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        limits.pause_for(Duration::from_secs(24 * 60 * 60));
        assert!(limits.pause().is_some_and(|pause| pause <= MAX_ASKED_WAIT));
        assert!(matches!(
            limits.request("r", Duration::from_secs(20)).await,
            Err(Cause::Paused { .. })
        ));
    }
}
