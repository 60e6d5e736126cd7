//! Credentials for sources: from a Kubernetes Secret, or from the docker config of whoever runs the command line.

mod docker;
mod secret;

pub use docker::{DockerConfig, Error as DockerConfigError};
pub use secret::{Error as SecretError, from_secret};
