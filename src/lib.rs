//! `ecr-sync`: creates Amazon ECR repositories, keeps their policies, and copies images into them.
//!
//! The flow, the same for the controller and for the command line (module [`sync`]):
//!
//! ```text
//! resolve   spec  -> Desired     which source tags are wanted now, with digests
//! observe   spec  -> Observed    what ECR has; never by pulling
//! plan      Desired x Observed -> Plan
//! apply     Plan  -> Outcomes
//! report    Outcomes -> status, events, metrics, or the summary on a terminal
//! ```
//!
//! Modules; each depends only on those above it:
//!
//! - [`class`]: what kind of failure an error is
//! - [`meter`]: what the lower layers tell of their work
//! - [`reload`]: files that are read again when they change
//! - [`api`]: the resource `EcrRepositorySync`
//! - [`selection`]: which of a source's tags are wanted; pure
//! - [`registry`]: OCI distribution client; knows nothing of ECR or Kubernetes
//! - [`helm`]: HTTP chart repositories, and charts as OCI artifacts
//! - [`ecr`]: the control plane of ECR
//! - [`failure`]: a failure as it is reported
//! - [`violation`]: a rule that a spec breaks
//! - [`spec`]: the spec, checked
//! - [`sync`]: the engine
//! - [`credentials`]: Secret or docker config -> registry credential
//! - [`mirrors`]: places to read images from instead of their own
//! - [`tenancy`]: what a namespace may use
//! - `logins`: ways to the sources, for controller and command line alike
//! - [`inventory`]: reads desired state from files
//! - [`telemetry`]: logs and metrics
//! - [`controller`]: streams, reconcile, jobs, status, events
//! - [`operator`]: wiring and life cycle of the controller process
//! - [`cli`]: arguments, one file per subcommand

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

pub mod api;
mod backoff;
mod bounded;
mod causes;
pub mod class;
pub mod cli;
pub mod controller;
pub mod credentials;
pub mod ecr;
pub mod failure;
mod hash;
pub mod helm;
mod iam;
pub mod inventory;
mod logins;
pub mod meter;
pub mod mirrors;
mod operator;
pub mod registry;
pub mod reload;
pub mod selection;
pub mod spec;
pub mod sync;
pub mod telemetry;
pub mod tenancy;
mod text;
mod units;
pub mod violation;
mod wildcard;
