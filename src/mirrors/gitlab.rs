//! GitLab's dependency proxy: a mirror of Docker Hub that the environment of a CI job describes.

use super::{Login, Mirror, file};
use crate::registry::{Credential, DOCKER_HUB};

/// Variables of GitLab CI that describe the proxy; all four or none.
const VARIABLES: [&str; 4] = [
    "CI_DEPENDENCY_PROXY_USER",
    "CI_DEPENDENCY_PROXY_PASSWORD",
    "CI_DEPENDENCY_PROXY_SERVER",
    "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX",
];

/// Returns the proxy, if there is one, or a warning if its variables are incomplete or not valid.
pub(super) fn proxy(variable: impl Fn(&str) -> Option<String>) -> (Option<Mirror>, Option<String>) {
    let unused =
        |why: String| (None, Some(format!("GitLab's dependency proxy is not used: {why}")));
    match VARIABLES.map(variable) {
        [Some(username), Some(password), Some(_), Some(prefix)] => {
            let Some(rewrite) = file::canonical(&prefix) else {
                return unused(format!(
                    "{} is {prefix:?}, which is not a host with a path",
                    VARIABLES[3]
                ));
            };
            let mirror = Mirror {
                matched: DOCKER_HUB.to_owned(),
                rewrite: Some(rewrite),
                login: Some(Login::Known(Credential::Basic { username, password })),
                fallback: false,
                insecure: false,
            };
            (Some(mirror), None)
        }
        [None, None, None, None] => (None, None),
        given => {
            let missing = VARIABLES.iter().zip(given).filter(|(_, value)| value.is_none());
            let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
            unused(format!("{} not set", missing.join(", ")))
        }
    }
}
