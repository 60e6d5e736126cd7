//! State of the reloaded files (`ecrsync_file_usable`), checked at each scrape.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::reload::Checked;

/// The reloaded files, each with its kind.
#[derive(Clone, Debug)]
pub struct Files {
    usable: IntGaugeVec,
    watched: Arc<Mutex<Vec<Watched>>>,
}

/// A file and its kind.
type Watched = (&'static str, Box<dyn Checked>);

impl Files {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let usable = Opts::new(
            "ecrsync_file_usable",
            "1 if the content of a file is valid; 0 if it is ignored and the previous content is \
             in effect.",
        );
        Ok(Self { usable: IntGaugeVec::new(usable, &["file"])?, watched: Arc::default() })
    }

    /// Adds a file. `kind` is from a closed set, not a path.
    pub fn watch(&self, kind: &'static str, file: impl Checked + 'static) {
        self.watched.lock().push((kind, Box::new(file)));
    }
}

impl Collector for Files {
    fn desc(&self) -> Vec<&Desc> {
        self.usable.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (kind, file) in &*self.watched.lock() {
            self.usable.with_label_values(&[kind]).set(file.is_usable().into());
        }
        self.usable.collect()
    }
}
