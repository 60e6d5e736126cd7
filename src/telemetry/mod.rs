//! Logs and metrics.

mod liveness;
mod log;
mod metrics;
mod queue;
mod requests;
mod resources;

pub use liveness::Liveness;
pub use log::{Format, init};
pub use metrics::Metrics;
pub use queue::{Queue, Ticket};
pub use resources::{Labels, Resources};
