//! Logs and metrics.
//!
//! - `metrics`: all metrics, and the page for Prometheus
//! - `queue`: the job pool; `requests`: requests to AWS and registries, waits, bytes; `resources`:
//!   series per resource; `copies`: remaining copies; `files`: reloaded files
//! - `schedule`: the last and the next pass of every resource
//! - `liveness`: whether due passes get done; `watches`: whether the API server can be watched
//! - `log`: log level and format

mod copies;
mod files;
mod liveness;
mod log;
mod metrics;
mod queue;
mod requests;
mod resources;
mod schedule;
mod watches;

pub use copies::{Copies, Watched};
pub use files::Files;
pub use liveness::Liveness;
pub use log::{Format, init};
pub use metrics::Metrics;
pub use queue::{Queue, Ticket};
pub use requests::Requests;
pub use resources::{Labels, Resources};
pub use schedule::{Next, Schedule};
pub use watches::{Kind, Watch, Watches};
