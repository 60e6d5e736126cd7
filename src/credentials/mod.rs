//! Logins, certificates and proxies for sources: from Kubernetes Secrets (`secret`), from the docker
//! config of the command line's user (`docker`), from the environment (`environment`).

mod docker;
mod environment;
mod secret;

use crate::registry::{Error, Reference};

pub use docker::{DockerConfig, Error as DockerConfigError};
pub use environment::{Error as HostLoginError, HostLogins};
pub use secret::{Error as SecretError, from_secret, proxy_from_secret, trust_from_secret};

/// Returns the reference under which a docker config has the login for a chart's address: the host,
/// with the path if it is a valid repository name.
///
/// # Errors
/// When the address has no host.
pub fn chart_reference(pull_url: &str) -> Result<Reference, Error> {
    let path = ["https://", "http://", "oci://"]
        .iter()
        .find_map(|scheme| pull_url.strip_prefix(scheme))
        .unwrap_or(pull_url);
    let path = path.trim_end_matches('/');
    let host = path.split('/').next().unwrap_or_default();
    // Paths of chart repositories may have characters that image names may not.
    Ok(path.parse().or_else(|_| format!("{host}/charts").parse())?)
}
