//! How much is asked of one registry at a time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::Failure;

/// The pace at which manifests are written, where somebody else knows it: ECR has a quota for them
/// alone.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug {
    /// Returns when one more may be sent.
    async fn pass(&self);

    /// The registry said that it was one too many.
    fn throttled(&self);
}

/// How many requests and streams run at once against one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Small requests, from sending until the head of the answer.
    pub requests: usize,
    /// Blobs that are read, until their last byte.
    pub downloads: usize,
    /// Blobs that are written, until the answer.
    pub uploads: usize,
}

impl Default for Widths {
    /// 32 of each hide 30 ms of latency at full speed of an ordinary link; registries' own clients
    /// use 3 to 10 per image and many images at once. A registry that finds it too much says so,
    /// and is asked less.
    fn default() -> Self {
        Self { requests: 32, downloads: 32, uploads: 32 }
    }
}

/// The limits of one registry. Clients of the same host with other credentials may share them.
///
/// # Guarantees
/// Nobody holds a slot of one registry while it waits for a slot of another one: see [`both`].
#[derive(Debug)]
pub struct Limits {
    requests: Arc<Adaptive>,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    most_uploads: u32,
    /// Blobs of at least this size are written in parts: the registry has refused one in one piece.
    parts_from: AtomicU64,
    paused_until: Mutex<Option<Instant>>,
}

/// A slot, given back when dropped.
pub(crate) type Slot = OwnedSemaphorePermit;

/// How many requests run at once, by what the registry bears: half as many when it says that it is
/// too much, one more after as many good answers as run at once, up to where it began.
#[derive(Debug)]
struct Adaptive {
    slots: Arc<Semaphore>,
    most: usize,
    state: Mutex<Width>,
}

#[derive(Debug)]
struct Width {
    now: usize,
    /// Slots that are taken and will not be given back.
    owed: usize,
    /// Good answers since the width changed.
    answers: usize,
    narrowed: Option<Instant>,
}

/// Requests that were on their way together are refused together: that is one refusal.
const EPOCH: Duration = Duration::from_millis(100);

/// A slot for a small request.
pub(crate) struct RequestSlot {
    width: Arc<Adaptive>,
    permit: Option<Slot>,
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let mut state = self.width.state();
        if let Some(owed) = state.owed.checked_sub(1) {
            state.owed = owed;
            self.permit.take().into_iter().for_each(Slot::forget);
        }
    }
}

impl Adaptive {
    fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let state = Mutex::new(Width { now: most, owed: 0, answers: 0, narrowed: None });
        Self { slots: Arc::new(Semaphore::new(most)), most, state }
    }

    fn state(&self) -> MutexGuard<'_, Width> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acquire(self: &Arc<Self>) -> Result<RequestSlot, Failure> {
        Ok(RequestSlot { permit: Some(acquire(&self.slots).await?), width: self.clone() })
    }

    fn widen(&self) {
        let mut state = self.state();
        state.answers += 1;
        if state.now >= self.most || state.answers < state.now {
            return;
        }
        state.answers = 0;
        state.now += 1;
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => self.slots.add_permits(1),
        }
    }

    fn narrow(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.narrowed.is_some_and(|before| now < before + EPOCH) {
            return;
        }
        let half = (state.now / 2).max(1);
        let fewer = state.now - half;
        state.now = half;
        state.answers = 0;
        state.narrowed = Some(now);
        state.owed += fewer - self.slots.forget_permits(fewer);
    }
}

impl Limits {
    /// Limits of these widths.
    #[must_use]
    pub fn new(widths: Widths) -> Self {
        let semaphore =
            |width: usize| Arc::new(Semaphore::new(width.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            requests: Arc::new(Adaptive::new(widths.requests)),
            downloads: semaphore(widths.downloads),
            uploads: semaphore(widths.uploads),
            most_uploads: u32::try_from(widths.uploads.max(1)).unwrap_or(u32::MAX),
            parts_from: AtomicU64::new(u64::MAX),
            paused_until: Mutex::new(None),
        }
    }

    /// A slot for a small request, once the registry wants to hear of us again.
    pub(crate) async fn request(
        &self,
        host: &str,
        patience: Duration,
    ) -> Result<RequestSlot, Failure> {
        loop {
            let slot = self.requests.acquire().await?;
            let Some(wait) = self.pause() else { return Ok(slot) };
            drop(slot);
            if wait > patience {
                return Err(Failure::Paused { host: host.to_owned(), wait });
            }
            // Whoever waited starts spread over a quarter of a second, not all at once.
            tokio::time::sleep(wait + Duration::from_millis(250).mul_f64(fastrand::f64())).await;
        }
    }

    pub(crate) async fn download(&self) -> Result<Slot, Failure> {
        acquire(&self.downloads).await
    }

    pub(crate) async fn upload(&self) -> Result<Slot, Failure> {
        acquire_many(&self.uploads, self.weight()).await
    }

    fn try_upload(&self) -> Option<Slot> {
        self.uploads.clone().try_acquire_many_owned(self.weight()).ok()
    }

    /// How many uploads one counts for: one in parts holds a part in memory, ten times as much as a
    /// stream.
    fn weight(&self) -> u32 {
        if self.parts_from.load(Ordering::Relaxed) == u64::MAX {
            1
        } else {
            4.min(self.most_uploads)
        }
    }

    /// Whether blobs of this size are to be written in parts.
    pub(crate) fn wants_parts(&self, size: u64) -> bool {
        size > 0 && size >= self.parts_from.load(Ordering::Relaxed)
    }

    /// The registry has refused a blob in one piece; from this size on it gets parts.
    pub(crate) fn takes_parts_from(&self, size: u64) {
        self.parts_from.fetch_min(size, Ordering::Relaxed);
    }

    /// The registry refuses parts, whatever else it refuses.
    pub(crate) fn takes_whole_blobs(&self) {
        self.parts_from.store(u64::MAX, Ordering::Relaxed);
    }

    /// The registry answered well.
    pub(crate) fn answered(&self) {
        self.requests.widen();
    }

    /// The registry said that it is asked too much.
    pub(crate) fn refused(&self) {
        self.requests.narrow();
    }

    /// The registry said 429 and how long to wait: everyone waits, not just the one who was told.
    pub(crate) fn pause_for(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none_or(|before| before < until) {
            *paused = Some(until);
        }
    }

    /// What is left of the pause, if there is one.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (*paused)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *paused = None;
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

/// A download slot of `source` and an upload slot of `target`, neither of them held while waiting
/// for the other.
pub(crate) async fn both(source: &Limits, target: &Limits) -> Result<(Slot, Slot), Failure> {
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

async fn acquire_many(semaphore: &Arc<Semaphore>, permits: u32) -> Result<Slot, Failure> {
    let acquired = semaphore.clone().acquire_many_owned(permits).await;
    // Never closed: the client that owns it is gone first.
    acquired.map_err(|_| Failure::Internal("the registry client was shut down".into()))
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<Slot, Failure> {
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
        let patience = Duration::from_secs(1);
        let free = || limits.requests.slots.available_permits();
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(limits.request("r", patience).await.unwrap());
        }
        tokio::time::advance(EPOCH).await;
        (0..5).for_each(|_| limits.refused());
        assert_eq!(free(), 0, "4 at once, 6 are under way");
        taken.truncate(4);
        assert_eq!(free(), 0);
        taken.truncate(3);
        assert_eq!(free(), 1);
        taken.clear();
        assert_eq!(free(), 4);
        (0..4).for_each(|_| limits.answered());
        assert_eq!(free(), 5);
        (0..100).for_each(|_| limits.answered());
        assert_eq!(free(), 8, "no more than it began with");
        for _ in 0..10 {
            tokio::time::advance(EPOCH).await;
            limits.refused();
        }
        assert_eq!(free(), 1);
    }

    #[tokio::test]
    async fn a_pause_holds_everyone_and_a_long_one_is_told() {
        let limits = Limits::default();
        limits.pause_for(Duration::from_millis(50));
        limits.pause_for(Duration::from_millis(1));
        let began = Instant::now();
        let _slot = limits.request("r", Duration::from_secs(20)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        limits.pause_for(Duration::from_secs(60));
        assert!(matches!(
            limits.request("r", Duration::from_secs(20)).await,
            Err(Failure::Paused { .. })
        ));
    }
}
