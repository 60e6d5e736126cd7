//! Remaining copies of the running passes (`ecrsync_copy_pending`), summed up at each scrape.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Registry, register_int_gauge_vec_with_registry};

use crate::sync::{Count, Progress};

/// The running passes.
#[derive(Clone, Debug)]
pub struct Copies {
    pending: IntGaugeVec,
    running: Arc<Mutex<Vec<(u64, Progress)>>>,
}

/// A running pass, counted until this is dropped.
#[derive(Debug)]
pub struct Watched {
    copies: Copies,
    id: u64,
}

impl Copies {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let pending = register_int_gauge_vec_with_registry!(
            "ecrsync_copy_pending",
            "Remaining work of the running passes, as far as they know: tags, manifests, blobs and \
             bytes.",
            &["kind"],
            registry
        )?;
        Ok(Self { pending, running: Arc::default() })
    }

    /// Adds a running pass.
    #[must_use]
    pub fn watch(&self, progress: &Progress) -> Watched {
        let mut running = self.running.lock();
        let id = running.last().map_or(0, |(id, _)| id + 1);
        running.push((id, progress.clone()));
        Watched { copies: self.clone(), id }
    }

    /// Updates the gauges.
    pub(super) fn refresh(&self) {
        let remaining = |part: Count| part.of.saturating_sub(part.done);
        let mut sums = [("tags", 0), ("manifests", 0), ("blobs", 0), ("bytes", 0)];
        for (_, progress) in &*self.running.lock() {
            let snapshot = progress.snapshot();
            let parts = [snapshot.tags, snapshot.manifests, snapshot.blobs, snapshot.bytes];
            sums.iter_mut().zip(parts).for_each(|((_, sum), part)| *sum += remaining(part));
        }
        for (kind, sum) in sums {
            self.pending.with_label_values(&[kind]).set(sum.try_into().unwrap_or(i64::MAX));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.copies.running.lock().retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(copies: &Copies) -> [i64; 4] {
        copies.refresh();
        ["tags", "manifests", "blobs", "bytes"]
            .map(|kind| copies.pending.with_label_values(&[kind]).get())
    }

    #[test]
    fn remaining_work_is_summed_over_running_passes() {
        let copies = Copies::new(&Registry::new()).unwrap();
        let progress = Progress::default();
        let watched = copies.watch(&progress);
        let other = copies.watch(&progress.clone());
        progress.expects_tags(2);
        progress.expects_blob(30);
        progress.sent(10);
        progress.ended_tag();

        assert_eq!(pending(&copies), [2, 0, 2, 40], "two passes with the same progress");
        drop(watched);

        assert_eq!(pending(&copies), [1, 0, 1, 20]);
        drop(other);
        assert_eq!(pending(&copies), [0; 4]);
    }
}
