//! Everything needed to run ecr-sync for real on one machine: an ECR stand-in, a real Kubernetes API
//! server, real registries and chart repositories, a proxy that injects faults, and the demo.

pub mod certificates;
pub mod chart_repository;
pub mod cluster;
pub mod demo;
pub mod ecr;
pub mod forward_proxy;
pub mod generated;
pub mod http;
mod interrupt;
pub mod layer;
pub mod moto;
pub mod process;
pub mod proxy;
mod rules;
pub mod scratch;
pub mod serve;
pub mod tls_front;
pub mod tools;
pub mod traffic;
pub mod upstream;

/// An error of the testbed: it fails a test, and only its message is used.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
