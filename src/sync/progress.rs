//! Whether a pass still moves, and how far it has come.

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

/// An action of a pass that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What of the repository it changes: [`super::Action::field`].
    pub field: Field,
    /// What was done, or why it was not.
    pub result: Result<String, Failure>,
}

/// Told of every action at the moment it ends, so that an interrupted pass has its account too.
pub trait ActionListener: Send + Sync + std::fmt::Debug {
    /// An action has ended.
    fn ended(&self, step: Step);
}

/// How many of something are done, and how many there are, as far as is known by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that are done, well or not.
    pub done: u64,
    /// All of them.
    pub of: u64,
}

/// How far a pass has come with its copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Tags to copy.
    pub tags: Count,
    /// Manifests to write; grows while images are read.
    pub manifests: Count,
    /// Blobs that ECR lacks.
    pub blobs: Count,
    /// Their bytes. What is sent again after a break counts once.
    pub bytes: Count,
    /// Bytes per second, over the last few.
    pub rate: u64,
    /// Registries that asked for a pause, and how long it will take.
    pub waits: Vec<(String, Duration)>,
}

impl Snapshot {
    /// Whether there is anything to copy.
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

/// Counts bytes and finished steps of one pass. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    counts: Arc<Counts>,
    listener: Option<Arc<dyn ActionListener>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes and steps of any kind: that they go on counts.
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

/// Bytes of the last seconds.
#[derive(Debug, Default)]
struct Rate {
    /// (second, bytes), the newest last.
    seconds: VecDeque<(u64, u64)>,
    began: Option<Instant>,
}

impl Rate {
    /// Long enough to be calm, short enough to show a standstill.
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

    /// Per second, without the one that is not over yet unless there is no other.
    fn per_second(&mut self) -> u64 {
        let now = self.now();
        let sum: u64 = self
            .seconds
            .iter()
            .filter(|(second, _)| now == 0 || *second < now)
            .map(|(_, sum)| sum)
            .sum();
        sum / now.clamp(1, Self::SECONDS)
    }
}

impl Progress {
    /// The progress of a pass whose actions `witness` is told of.
    #[must_use]
    pub fn with_listener(listener: Arc<dyn ActionListener>) -> Self {
        Self { counts: Arc::default(), listener: Some(listener) }
    }

    /// Notes a step of any kind.
    pub fn advance(&self, by: u64) {
        self.counts.moves.fetch_add(by, Ordering::Relaxed);
    }

    /// Bytes and steps so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.moves.load(Ordering::Relaxed)
    }

    /// How far the copies have come.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Counts { tags, manifests, blobs, bytes, rate, registries, .. } = &*self.counts;
        let registries = registries.lock();
        let waits = registries
            .iter()
            .filter_map(|registry| Some((registry.host().to_owned(), registry.pause()?)));
        Snapshot {
            tags: tags.count(),
            manifests: manifests.count(),
            blobs: blobs.count(),
            bytes: bytes.count(),
            rate: rate.lock().per_second(),
            waits: waits.collect(),
        }
    }

    /// Notes a registry that the pass works with.
    pub(super) fn uses(&self, registry: &Client) {
        let mut registries = self.counts.registries.lock();
        if !registries.iter().any(|known| known.host() == registry.host()) {
            registries.push(registry.clone());
        }
    }

    /// Notes tags that will be copied.
    pub(crate) fn expects_tags(&self, count: usize) {
        self.counts.tags.of.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Notes a tag that was copied, or will not be.
    pub(crate) fn ended_tag(&self) {
        self.counts.tags.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Notes manifests that will be written.
    pub(crate) fn expects_manifests(&self, count: usize) {
        self.counts.manifests.of.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Notes a manifest that is there.
    pub(crate) fn ended_manifest(&self) {
        self.counts.manifests.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Notes a blob that ECR lacks.
    pub(crate) fn expects_blob(&self, bytes: u64) {
        self.counts.blobs.of.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.of.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes bytes on their way.
    pub(crate) fn sent(&self, bytes: u64) {
        self.counts.bytes.done.fetch_add(bytes, Ordering::Relaxed);
        self.counts.rate.lock().add(bytes);
        self.advance(bytes);
    }

    /// Notes a blob that is there, or will not be.
    pub(crate) fn ended_blob(&self) {
        self.counts.blobs.done.fetch_add(1, Ordering::Relaxed);
        self.advance(1);
    }

    /// Tells that an action was carried out, in words.
    pub(super) fn did(&self, field: Field, what: impl Into<String>) {
        self.tell(field, Ok(what.into()));
    }

    /// Tells that an action failed.
    pub(super) fn failed(&self, field: Field, failure: &Failure) {
        self.tell(field, Err(failure.clone()));
    }

    fn tell(&self, field: Field, result: Result<String, Failure>) {
        if let Some(listener) = &self.listener {
            listener.ended(Step { field, result });
        }
    }

    /// Logs every minute how far the copies of `repository` have come.
    pub(super) async fn log(&self, repository: &str) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let snapshot = self.snapshot();
            if snapshot.is_copying() {
                tracing::info!(repository, %snapshot, "copying");
            }
        }
    }

    /// Returns once nothing was noted for `longest`, give or take a tenth.
    pub async fn stalled(&self, longest: Duration) {
        /// Looks per `longest`.
        const LOOKS: u32 = 10;
        let mut last = self.count();
        let mut still = 0;
        while still < LOOKS {
            tokio::time::sleep(longest / LOOKS).await;
            let now = self.count();
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_standing_tells_what_is_done_how_fast_and_what_is_left() {
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
    async fn only_silence_counts() {
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
        assert!(!stalled.is_finished(), "450 s of slow progress are no stall");
        stalled.await.expect("it ends");
        let silent = started.elapsed() - Duration::from_secs(450);
        assert!((90..=110).contains(&silent.as_secs()), "{silent:?}");
    }
}
