//! State of the reloaded files (`ecrsync_file_usable`), checked at each scrape.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Registry, register_int_gauge_vec_with_registry};

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
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let usable = register_int_gauge_vec_with_registry!(
            "ecrsync_file_usable",
            "1 if the content of a file is valid; 0 if it is ignored and the previous content is \
             in effect.",
            &["file"],
            registry
        )?;
        Ok(Self { usable, watched: Arc::default() })
    }

    /// Adds a file. `kind` is from a closed set, not a path.
    pub fn watch(&self, kind: &'static str, file: impl Checked + 'static) {
        self.watched.lock().push((kind, Box::new(file)));
    }

    /// Updates the gauges.
    pub(super) fn refresh(&self) {
        for (kind, file) in &*self.watched.lock() {
            self.usable.with_label_values(&[kind]).set(file.is_usable().into());
        }
    }
}
