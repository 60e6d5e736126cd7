//! Testbed

pub mod certificates;
pub mod chart_repository;
pub mod cluster;
pub mod demo;
pub mod ecr;
pub mod forward_proxy;
pub mod generated;
pub mod http;
pub mod layer;
pub mod moto;
pub mod process;
pub mod proxy;
pub mod scratch;
pub mod tools;
pub mod traffic;
pub mod upstream;

/// What fails in a testbed fails a test: the message is all that anybody uses.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
