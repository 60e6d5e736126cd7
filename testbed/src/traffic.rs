//! What went over the wire, and what to do to it on the way.
//!
//! The ECR stand-in and the fault proxy keep the same [`Log`] and obey the same [`Faults`], so a
//! test counts requests at the servers, never in the counters of the program under test.

mod exchange;
mod fault;
mod pulls;
mod record;
mod route;
mod server;

pub use fault::{Fault, Faults, Match, Then};
pub use pulls::Pulls;
pub use record::{Log, Mark, Plane, Record};

pub(crate) use exchange::{Answered, Exchange, cut};
pub(crate) use route::Route;
pub(crate) use server::{Cut, Host, serve};
