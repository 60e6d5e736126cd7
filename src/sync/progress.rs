//! The progress of a pass: counts of steps and bytes, and whether they still grow.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::field::Field;
use crate::failure::Failure;
use crate::registry::Client;
use crate::units::size;

/// An action that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The part of the repository: [`super::Action::field`].
    pub field: Field,
    /// The change, in words, or why it failed.
    pub result: Result<String, Failure>,
}

/// Receives every action when it ends, so that the actions of an interrupted pass are known, too.
pub trait ActionListener: Send + Sync + std::fmt::Debug {
    /// Receives an action that has ended.
    fn ended(&self, step: Step);
}

/// A number of things, and how many of them are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of things that are done, successfully or not.
    pub done: u64,
    /// Number of things that are known so far.
    pub of: u64,
}

/// The progress of a pass at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Tags to copy.
    pub tags: Count,
    /// Manifests to write. Their number grows while images are read.
    pub manifests: Count,
    /// Blobs that ECR lacks.
    pub blobs: Count,
    /// Bytes of these blobs. Bytes that are sent again after an interruption count once.
    pub bytes: Count,
    /// Bytes per second, over the last seconds.
    pub rate: u64,
    /// Registries that asked for a pause, and the rest of the pause.
    pub waits: Vec<(String, Duration)>,
}

impl Snapshot {
    /// Whether tags are still being copied.
    #[must_use]
    pub const fn is_copying(&self) -> bool {
        self.tags.done < self.tags.of
    }
}

impl fmt::Display for Snapshot {
    /// `3/20 tags, 14/47 blobs, 12 MB of 98 MB, 5.2 MB/s, waits 12 s for docker.io`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tags, manifests: _, blobs, bytes, rate, waits } = self;
        write!(f, "{}/{} tags, {}/{} blobs", tags.done, tags.of, blobs.done, blobs.of)?;
        write!(f, ", {} of {}, {}/s", size(bytes.done), size(bytes.of), size(*rate))?;
        waits
            .iter()
            .try_for_each(|(host, left)| write!(f, ", waits {} s for {host}", left.as_secs()))
    }
}

/// Counts the bytes and finished steps of one pass. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    counts: Arc<Counts>,
    listener: Option<Arc<dyn ActionListener>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes and steps of any kind. The pass is alive while their number grows.
    moves: AtomicU64,
    tags: Counter,
    manifests: Counter,
    blobs: Counter,
    bytes: Counter,
    rate: Mutex<Rate>,
    registries: Mutex<Vec<Client>>,
}

#[derive(Debug, Default)]
struct Counter {
    done: AtomicU64,
    of: AtomicU64,
}

impl Counter {
    fn count(&self) -> Count {
        Count { done: self.done.load(Ordering::Relaxed), of: self.of.load(Ordering::Relaxed) }
    }
}

/// The bytes of the last seconds.
#[derive(Debug, Default)]
struct Rate {
    /// (second, bytes), the newest last.
    seconds: VecDeque<(u64, u64)>,
    began: Option<Instant>,
}

impl Rate {
    /// Long enough for a steady number, short enough to show that the transfer has stopped.
    const SECONDS: u64 = 5;

    fn now(&mut self) -> u64 {
        let now = self.began.get_or_insert_with(Instant::now).elapsed().as_secs();
        while self.seconds.front().is_some_and(|(second, _)| second + Self::SECONDS < now) {
            self.seconds.pop_front();
        }
        now
    }

    fn add(&mut self, bytes: u64) {
        let now = self.now();
        match self.seconds.back_mut().filter(|(second, _)| *second == now) {
            Some((_, sum)) => *sum += bytes,
            None => self.seconds.push_back((now, bytes)),
        }
    }

    /// Returns the bytes per second. The current second is not over, so it counts only if it is the
    /// first one.
    fn per_second(&mut self) -> u64 {
        let now = self.now();
        let seconds = self.seconds.iter().filter(|(second, _)| now == 0 || *second < now);
        let sum: u64 = seconds.map(|(_, sum)| sum).sum();
        sum / now.clamp(1, Self::SECONDS)
    }
}

impl Progress {
    /// Creates the progress of a pass that reports its actions to `listener`.
    #[must_use]
    pub fn with_listener(listener: Arc<dyn ActionListener>) -> Self {
        Self { counts: Arc::default(), listener: Some(listener) }
    }

    /// Counts bytes or steps of any kind.
    pub fn advance(&self, by: u64) {
        self.counts.moves.fetch_add(by, Ordering::Relaxed);
    }

    /// Returns the number of bytes and steps so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.moves.load(Ordering::Relaxed)
    }

    /// Returns the progress of the copies.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Counts { tags, manifests, blobs, bytes, rate, registries, .. } = &*self.counts;
        let waits = registries
            .lock()
            .iter()
            .filter_map(|registry| Some((registry.host().to_owned(), registry.pause()?)))
            .collect();
        Snapshot {
            tags: tags.count(),
            manifests: manifests.count(),
            blobs: blobs.count(),
            bytes: bytes.count(),
            rate: rate.lock().per_second(),
            waits,
        }
    }

    /// Adds a registry that the pass uses.
    pub(super) fn uses(&self, registry: &Client) {
        let mut registries = self.counts.registries.lock();
        if !registries.iter().any(|known| known.host() == registry.host()) {
            registries.push(registry.clone());
        }
    }

    /// Adds tags to copy.
    pub(crate) fn expects_tags(&self, count: usize) {
        self.counts.tags.of.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a tag that was copied, or failed.
    pub(crate) fn ended_tag(&self) {
        self.counts.tags.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Adds manifests to write.
    pub(crate) fn expects_manifests(&self, count: usize) {
        self.counts.manifests.of.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a manifest that was written, or exists.
    pub(crate) fn ended_manifest(&self) {
        self.counts.manifests.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Adds a blob that ECR lacks.
    pub(crate) fn expects_blob(&self, bytes: u64) {
        self.counts.blobs.of.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.of.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of blobs that were sent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.counts.bytes.done.fetch_add(bytes, Ordering::Relaxed);
        self.counts.rate.lock().add(bytes);
        self.advance(bytes);
    }

    /// Counts a blob that was sent, or failed.
    pub(crate) fn ended_blob(&self) {
        self.counts.blobs.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Reports an action that was carried out, or that failed.
    pub(super) fn report(&self, field: Field, result: Result<String, Failure>) {
        if let Some(listener) = &self.listener {
            listener.ended(Step { field, result });
        }
    }

    /// Logs the progress of the copies once a minute.
    pub(super) async fn log(&self, repository: &str) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let snapshot = self.snapshot();
            if snapshot.is_copying() {
                tracing::info!(repository, progress = %snapshot, "copying");
            }
        }
    }

    /// Returns when nothing was counted for `longest`, give or take a tenth.
    pub async fn stalled(&self, longest: Duration) {
        /// Checks per `longest`.
        const CHECKS: u32 = 10;

        let mut last = self.count();
        let mut idle = 0;
        while idle < CHECKS {
            tokio::time::sleep(longest / CHECKS).await;
            let now = self.count();
            idle = if now == last { idle + 1 } else { 0 };
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_shows_what_is_done_how_fast_and_what_is_left() {
        let progress = Progress::default();
        progress.expects_tags(2);
        (0..3).for_each(|_| progress.expects_blob(2_000_000));
        for _ in 0..4 {
            progress.sent(1_000_000);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        progress.ended_blob();
        progress.ended_tag();
        assert_eq!(
            progress.snapshot().to_string(),
            "1/2 tags, 1/3 blobs, 4.0 MB of 6.0 MB, 1.0 MB/s"
        );
        assert_eq!(progress.count(), 4_000_002);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((progress.snapshot().rate, progress.snapshot().is_copying()), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_pass_without_progress_stalls() {
        let progress = Progress::default();
        let started = Instant::now();
        let stalled = tokio::spawn({
            let progress = progress.clone();
            async move { progress.stalled(Duration::from_secs(100)).await }
        });
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            progress.advance(1);
        }
        assert!(!stalled.is_finished(), "slow progress for 450 s is not a stall");
        stalled.await.expect("it ends");
        let idle = started.elapsed() - Duration::from_secs(450);
        assert!((90..=110).contains(&idle.as_secs()), "{idle:?}");
    }
}
