//! The Kubernetes API of the project: types only, no I/O.

pub mod v1alpha1;
