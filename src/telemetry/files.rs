//! Whether the files that are read again when they change can be used, looked at when somebody
//! asks.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::reload::Checked;

/// The files, each with its kind.
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
            "Whether a file of the operator can be used as it is now; if not, what it said before stays in force.",
        );
        Ok(Self { usable: IntGaugeVec::new(usable, &["file"])?, watched: Arc::default() })
    }

    /// Tells of a file from now on. `kind` comes from a closed set: it is no path.
    pub fn watch(&self, kind: &'static str, file: impl Checked + 'static) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push((kind, Box::new(file)));
    }
}

impl Collector for Files {
    fn desc(&self) -> Vec<&Desc> {
        self.usable.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (kind, file) in &*self.watched.lock().unwrap_or_else(PoisonError::into_inner) {
            self.usable.with_label_values(&[kind]).set(file.is_usable().into());
        }
        self.usable.collect()
    }
}
