//! How to reach sources: from Kubernetes Secrets, or from the docker config of whoever runs the command line.

mod docker;
mod secret;

pub use docker::{DockerConfig, Error as DockerConfigError};
pub use secret::{Error as SecretError, from_secret, proxy_from_secret, trust_from_secret};
