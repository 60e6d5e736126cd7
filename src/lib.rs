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
//! docs/architecture.md lists the modules, and which of them each may use.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

pub mod api;
mod backoff;
mod bounded;
mod causes;
#[cfg(test)]
#[path = "../tests/chaos/mod.rs"]
mod chaos;
pub mod class;
pub mod cli;
pub mod controller;
mod credentials;
pub mod ecr;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
pub mod helm;
mod iam;
pub mod inventory;
mod logins;
pub mod memory_budget;
pub mod meter;
mod mirrors;
mod nesting;
mod operator;
mod place;
pub mod registry;
mod reload;
mod selection;
mod shard;
mod signals;
pub mod spec;
pub mod sync;
pub mod telemetry;
pub mod tenancy;
mod text;
mod units;
mod violation;
mod wildcard;
mod writes;
mod yaml_tree;
