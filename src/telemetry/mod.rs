//! Logs and metrics.
//!
//! - `metrics`: all metrics, and the page for Prometheus
//! - `queue`: the job pool; `requests`: requests to AWS and registries, waits, bytes; `copies`:
//!   remaining copies; `files`: reloaded files
//! - `resources`: the state and the passes of all resources, and their series
//! - `exposition`: the text format, for series that are written at the scrape
//! - `liveness`: whether due passes get done; `watches`: whether the API server can be watched
//! - `log`: log level and format

mod copies;
mod exposition;
mod files;
mod liveness;
mod log;
mod metrics;
mod queue;
mod requests;
mod resources;
mod watches;

pub use copies::{Copies, Watched};
pub use files::Files;
pub use liveness::Liveness;
pub use log::{Format, init};
pub use metrics::Metrics;
#[cfg(test)]
pub(crate) use queue::CLASSES;
pub use queue::{Place, Queue, Ticket};
pub use requests::Requests;
pub use resources::{Condition, ConditionType, Filter, Next, Resources, Second, State, Status};
pub use watches::{Kind, Watch, Watches};
