//! How to reach sources: from Kubernetes Secrets, or from the docker config of whoever runs the
//! command line.

mod docker;
mod environment;
mod secret;

use crate::registry::{Error, Reference};

pub use docker::{DockerConfig, Error as DockerConfigError};
pub use environment::{Error as HostLoginError, HostLogins};
pub use secret::{Error as SecretError, from_secret, proxy_from_secret, trust_from_secret};

/// What the address of a chart is to a docker config: its host, and its path as far as it is one of
/// a repository.
///
/// # Errors
/// When there is no host in it.
pub fn chart_reference(pull_url: &str) -> Result<Reference, Error> {
    let path = ["https://", "http://", "oci://"]
        .iter()
        .find_map(|scheme| pull_url.strip_prefix(scheme))
        .unwrap_or(pull_url);
    let path = path.trim_end_matches('/');
    let host = path.split('/').next().unwrap_or_default();
    // Paths of chart repositories may hold what no image name does.
    Ok(path.parse().or_else(|_| format!("{host}/charts").parse())?)
}
