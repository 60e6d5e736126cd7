//! Logins, certificates and proxies for sources: from Kubernetes Secrets (`secret`), from the
//! docker config of the command line's user (`docker`), from the environment (`environment`).

mod docker;
mod environment;
mod secret;

pub(crate) use docker::{DockerConfig, Error as DockerConfigError};
pub(crate) use environment::HostLogins;
pub(crate) use secret::{Error as SecretError, from_secret, proxy_from_secret, trust_from_secret};
