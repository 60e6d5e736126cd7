//! Logs and metrics.

mod log;
mod metrics;
mod resources;

pub use log::{Format, init};
pub use metrics::Metrics;
pub use resources::{Labels, Resources};
