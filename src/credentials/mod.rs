//! Logins, certificates and proxies for sources: from Kubernetes Secrets (`secret`), from the
//! docker config of the command line's user (`docker`), from the environment (`environment`).

mod docker;
mod environment;
mod secret;

pub use docker::{DockerConfig, Error as DockerConfigError};
pub use environment::{Error as HostLoginError, HostLogins};
pub use secret::{Error as SecretError, from_secret, proxy_from_secret, trust_from_secret};
