//! Remaining copies of the running passes (`ecrsync_copy_pending`), summed up at each scrape.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

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
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let pending = Opts::new(
            "ecrsync_copy_pending",
            "Remaining work of the running passes, as far as they know: tags, manifests, blobs and \
             bytes.",
        );
        Ok(Self { pending: IntGaugeVec::new(pending, &["kind"])?, running: Arc::default() })
    }

    /// Adds a running pass.
    #[must_use]
    pub fn watch(&self, progress: &Progress) -> Watched {
        let mut running = self.running.lock();
        let id = running.last().map_or(0, |(id, _)| id + 1);
        running.push((id, progress.clone()));
        Watched { copies: self.clone(), id }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.copies.running.lock().retain(|(id, _)| *id != self.id);
    }
}

impl Collector for Copies {
    fn desc(&self) -> Vec<&Desc> {
        self.pending.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
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
        self.pending.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(copies: &Copies) -> Vec<(String, f64)> {
        let families = copies.collect();
        let series = families.iter().flat_map(MetricFamily::get_metric);
        let mut kinds: Vec<_> = series
            .map(|series| {
                (series.get_label()[0].value().to_owned(), series.get_gauge().get_value())
            })
            .collect();
        // A vector of series has no order of its own.
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        kinds
    }

    #[test]
    fn remaining_work_is_summed_over_running_passes() {
        let copies = Copies::new().unwrap();
        let progress = Progress::default();
        let watched = copies.watch(&progress);
        let other = copies.watch(&progress.clone());
        progress.expects_tags(2);
        progress.expects_blob(30);
        progress.sent(10);
        progress.ended_tag();

        let of = |bytes, blobs, tags| {
            [("blobs", blobs), ("bytes", bytes), ("manifests", 0.0), ("tags", tags)]
                .map(|(kind, sum)| (kind.to_owned(), sum))
        };
        assert_eq!(pending(&copies), of(40.0, 2.0, 2.0), "two passes with the same progress");
        drop(watched);

        assert_eq!(pending(&copies), of(20.0, 1.0, 1.0));
        drop(other);
        assert_eq!(pending(&copies), of(0.0, 0.0, 0.0));
    }
}
