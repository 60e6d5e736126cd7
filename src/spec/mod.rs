//! The spec of a resource, checked.

pub mod validation;
