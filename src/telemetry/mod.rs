//! Logs and metrics.

mod copies;
mod files;
mod liveness;
mod log;
mod metrics;
mod queue;
mod requests;
mod resources;

pub use copies::{Copies, Watched};
pub use files::Files;
pub use liveness::Liveness;
pub use log::{Format, init};
pub use metrics::Metrics;
pub use queue::{Queue, Ticket};
pub use resources::{Labels, Resources};
