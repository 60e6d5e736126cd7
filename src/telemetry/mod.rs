//! Logs and metrics.

mod log;
mod metrics;

pub use log::{Format, init};
pub use metrics::Metrics;
