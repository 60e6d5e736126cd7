//! Traffic of the testbed's servers: the log of requests, and faults to inject.
//!
//! The ECR stand-in and the fault proxy have the same [`Log`] and the same [`Faults`], so that a
//! test counts requests at the servers, never in the counters of the program under test.

mod exchange;
mod fault;
mod pulls;
mod record;
mod route;
mod server;

pub use fault::{Choice, Fault, Faults, Hook, Match, Then};
pub use pulls::Pulls;
pub use record::{Log, Mark, Plane, Record};

pub(crate) use exchange::{Answered, Exchange, REQUEST_ID, cut};
pub(crate) use fault::sts_error;
pub(crate) use route::Route;
pub(crate) use server::{Cut, Host, serve};
