//! The memory budget: the memory of everything that is read from sources, reserved before it is
//! used.
//!
//! | part | share | for |
//! |---|---|---|
//! | small documents | 1/8 | a document while it is read and parsed, as long as it needs at most [`SMALL`] |
//! | large documents | 3/8 | the same, above [`SMALL`] |
//! | results | 1/2 | the results of parsed documents: lists, graphs of manifests, indexes, archives |
//!
//! # No deadlock
//! A reader waits for the budget only in this order, and only once for each part:
//! results (never waits) < small documents < large documents.
//!
//! - [`Budget::document`] waits for small documents. The caller holds no document: a document is
//!   dropped before the next one is read. The caller may hold results.
//! - [`Document::grow`] waits for large documents when the document outgrows its small reservation,
//!   which it keeps meanwhile. From then on it never waits: if nothing is free, the read fails.
//! - [`Results`] never wait. If nothing is free, the pass fails and gives back all that it holds.
//!
//! A document that holds a part of the budget and does not wait ends by the deadlines for bodies
//! (`registry::bodies`). So each wait ends, and in any case after [`LONGEST_WAIT`].
//!
//! # Fairness
//! Most documents have some kilobytes. They never wait for the large ones: these have another part,
//! and no result uses more than half of its part, and large ones leave the
//! last quarter to the small ones.

mod limit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::class::Class;
pub use limit::{Limit, Origin};

/// The most bytes of a small document or result. A manifest of 20 KiB or a list of 1000 tags needs
/// less.
pub(crate) const SMALL: usize = 256 * 1024;
/// The longest wait for memory. Other documents of one source take some seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a permit of a semaphore, which counts at most 4 billion permits at once.
const UNIT: usize = 1024;

/// The memory that a reader needs for a document. Tests measure that the worst document needs no
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes for any document.
    pub(crate) fixed: usize,
    /// Bytes for each byte of the document.
    pub(crate) per_byte: usize,
    /// Bytes for each byte of the document, for the values that are parsed; and the most bytes for
    /// them, if their number is bounded.
    pub(crate) parsed: (usize, usize),
}

impl Need {
    /// Returns the memory for a document of this size.
    pub(crate) const fn of(self, bytes: usize) -> usize {
        let (per_byte, most) = self.parsed;
        let parsed = bytes.saturating_mul(per_byte);
        let parsed = if parsed < most { parsed } else { most };
        self.fixed.saturating_add(bytes.saturating_mul(self.per_byte)).saturating_add(parsed)
    }
}

/// Memory that cannot be reserved. The messages are the same for each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// A document alone needs more than the budget allows.
    #[error(
        "it needs more than {} of memory, the most that one document may use of the memory budget \
         of {}: raise --memory-budget (controller.memoryBudget), or use a smaller source",
        mebibytes(*.most), mebibytes(*.total)
    )]
    TooLarge {
        /// The most bytes for one document.
        most: usize,
        /// The bytes of the budget.
        total: usize,
    },
    /// Other documents use the memory.
    #[error(
        "no memory is free for it: other documents use the memory budget of {}; it will be read \
         again later. If this lasts, raise --memory-budget (controller.memoryBudget)",
        mebibytes(*.total)
    )]
    Busy {
        /// The bytes of the budget.
        total: usize,
    },
}

impl Shortage {
    /// The class of this failure.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::SourceInvalid,
            Self::Busy { .. } => Class::MemoryPressure,
        }
    }
}

/// Returns a number of bytes in mebibytes: `96 MiB`.
pub(crate) fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

/// The memory for everything that is read from sources. Clones share it.
#[derive(Clone)]
pub struct Budget(Arc<Parts>);

struct Parts {
    total: usize,
    small: Part,
    large: Part,
    /// The bytes for results.
    for_results: usize,
    results: Mutex<InUse>,
}

/// Bytes in use.
#[derive(Default)]
struct InUse {
    bytes: usize,
    #[cfg(test)]
    most: usize,
}

/// A part that can be waited for, first come, first served.
struct Part {
    bytes: usize,
    free: Arc<Semaphore>,
}

impl Part {
    fn new(bytes: usize) -> Self {
        Self { bytes, free: Arc::new(Semaphore::new(permits(bytes) as usize)) }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("total", &self.0.total).finish_non_exhaustive()
    }
}

impl Default for Budget {
    /// The budget of a process without a memory limit.
    fn default() -> Self {
        Self::new(limit::WITHOUT_LIMIT)
    }
}

impl Budget {
    /// The least total: below, not even the largest manifest could be read.
    pub const LEAST: usize = 32 * 1024 * 1024;

    /// Creates a budget of `total` bytes, at least [`Self::LEAST`].
    #[must_use]
    pub fn new(total: usize) -> Self {
        let total = total.max(Self::LEAST);
        let (small, large) = (total / 8, total / 8 * 3);
        Self(Arc::new(Parts {
            total,
            small: Part::new(small),
            large: Part::new(large),
            for_results: total - small - large,
            results: Mutex::default(),
        }))
    }

    /// The bytes of the whole budget.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// The most bytes for one document.
    pub(crate) fn most(&self) -> usize {
        self.0.large.bytes
    }

    /// Reserves memory for a document that needs `bytes`, as far as it is known. It begins with a
    /// small reservation: a source must send a part of a large document before it gets the memory
    /// for all of it.
    ///
    /// # Errors
    /// [`Shortage`]; after a minute without free memory.
    pub(crate) async fn document(&self, bytes: usize) -> Result<Document, Shortage> {
        if bytes > self.most() {
            return Err(self.too_large());
        }
        let bytes = bytes.min(SMALL);
        let permit = self.acquire(&self.0.small, bytes).await?;
        Ok(Document { budget: self.clone(), permit, bytes, is_large: false })
    }

    async fn acquire(&self, part: &Part, bytes: usize) -> Result<OwnedSemaphorePermit, Shortage> {
        let acquired = part.free.clone().acquire_many_owned(permits(bytes));
        match timeout(LONGEST_WAIT, acquired).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(AcquireError { .. })) | Err(_) => Err(self.busy()),
        }
    }

    /// Returns a reservation for results, which has no bytes yet.
    pub(crate) fn results(&self) -> Results {
        Results { budget: self.clone(), bytes: 0 }
    }

    /// Keeps a body as long as it is used.
    ///
    /// # Errors
    /// [`Shortage`].
    pub(crate) fn keep(&self, bytes: Bytes) -> Result<Bytes, Shortage> {
        let mut memory = self.results();
        memory.add(bytes.len())?;
        Ok(Bytes::from_owner(Kept { bytes, _memory: memory }))
    }

    /// The bytes of results in use, and the most that were in use at once.
    #[cfg(test)]
    pub(crate) fn results_in_use(&self) -> (usize, usize) {
        let in_use = self.0.results.lock();
        (in_use.bytes, in_use.most)
    }

    pub(crate) fn too_large(&self) -> Shortage {
        Shortage::TooLarge { most: self.most(), total: self.0.total }
    }

    fn busy(&self) -> Shortage {
        Shortage::Busy { total: self.0.total }
    }
}

/// Memory for a document while it is read and parsed, given back on drop.
#[derive(Debug)]
pub(crate) struct Document {
    budget: Budget,
    permit: OwnedSemaphorePermit,
    bytes: usize,
    is_large: bool,
}

impl Document {
    /// The reserved bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves `bytes` in all, before they are used. Waits at most once: when the document outgrows
    /// its small reservation.
    ///
    /// # Errors
    /// [`Shortage`].
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Shortage> {
        if bytes > self.budget.most() {
            return Err(self.budget.too_large());
        }
        if bytes <= self.bytes {
            return Ok(());
        }
        if self.is_large || bytes <= SMALL {
            return self.grow_now(bytes);
        }

        self.permit = self.budget.acquire(&self.budget.0.large, bytes).await?;
        self.bytes = bytes;
        self.is_large = true;
        Ok(())
    }

    fn grow_now(&mut self, bytes: usize) -> Result<(), Shortage> {
        let part = if self.is_large { &self.budget.0.large } else { &self.budget.0.small };
        let more = permits(bytes) - permits(self.bytes);
        let permit = part.free.clone().try_acquire_many_owned(more);
        self.permit.merge(permit.map_err(|_| self.budget.busy())?);
        self.bytes = bytes;
        Ok(())
    }

    /// [`Self::grow`] on a thread that may block.
    ///
    /// # Errors
    /// [`Shortage`].
    pub(crate) fn grow_blocking(&mut self, bytes: usize) -> Result<(), Shortage> {
        if bytes <= self.bytes {
            return Ok(());
        }
        tokio::runtime::Handle::current().block_on(self.grow(bytes))
    }
}

/// A body with its memory.
struct Kept {
    bytes: Bytes,
    _memory: Results,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Memory for the results of documents, given back on drop.
#[derive(Debug)]
pub(crate) struct Results {
    budget: Budget,
    bytes: usize,
}

impl Results {
    /// Reserves more bytes, without a wait.
    ///
    /// # Errors
    /// [`Shortage`].
    pub(crate) fn add(&mut self, more: usize) -> Result<(), Shortage> {
        let all = self.budget.0.for_results;
        let bytes = self.bytes.saturating_add(more);
        if bytes > all / 2 {
            return Err(Shortage::TooLarge { most: all / 2, total: self.budget.0.total });
        }
        let most = if bytes <= SMALL { all } else { all / 4 * 3 };

        let mut in_use = self.budget.0.results.lock();
        if in_use.bytes + more > most {
            return Err(self.budget.busy());
        }
        in_use.bytes += more;
        #[cfg(test)]
        {
            in_use.most = in_use.most.max(in_use.bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.0.results.lock().bytes -= less;
        self.bytes -= less;
    }

    /// The reserved bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The budget that they are from.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests;
