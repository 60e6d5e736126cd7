//! Logins per host from the environment (`ECR_SYNC_USERNAME_…`), for CI systems without a docker
//! config.

use std::collections::BTreeMap;

use crate::registry::{Credential, Reference};

/// Prefix of the variables with user names; the host follows.
const USERNAME: &str = "ECR_SYNC_USERNAME_";
/// Prefix of the variables with passwords.
const PASSWORD: &str = "ECR_SYNC_PASSWORD_";

/// Half of a login: a user name without a password, or a password without a user name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{given} is set, but {missing} is not: a login needs both")]
pub(crate) struct Error {
    given: String,
    missing: String,
}

/// Logins by host, from `ECR_SYNC_USERNAME_<HOST>` and `ECR_SYNC_PASSWORD_<HOST>`. The host is in
/// upper or lower case, with `_` for each character that is neither a letter nor a digit:
/// `ECR_SYNC_USERNAME_REGISTRY_EXAMPLE_COM_5000`.
#[derive(Default)]
pub(crate) struct HostLogins(BTreeMap<String, (String, String)>);

/// Shows hosts only, never passwords.
impl std::fmt::Debug for HostLogins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl HostLogins {
    /// Reads the environment. An empty variable counts as not set.
    ///
    /// # Errors
    /// When a user name has no password, or a password no user name.
    pub(crate) fn load() -> Result<Self, Error> {
        Self::read(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    fn read(variables: impl Iterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut halves: BTreeMap<String, [Option<(String, String)>; 2]> = BTreeMap::new();
        for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
            for (index, prefix) in [USERNAME, PASSWORD].into_iter().enumerate() {
                if let Some(host) = name.strip_prefix(prefix) {
                    halves.entry(key(host)).or_default()[index] =
                        Some((name.clone(), value.clone()));
                }
            }
        }

        let whole = halves.into_iter().map(|(host, halves)| match halves {
            [Some((_, username)), Some((_, password))] => Ok((host, (username, password))),
            [Some((given, _)), _] => {
                Err(Error { missing: given.replacen(USERNAME, PASSWORD, 1), given })
            }
            [None, Some((given, _))] => {
                Err(Error { missing: given.replacen(PASSWORD, USERNAME, 1), given })
            }
            // Never happens: an entry has at least one half.
            [None, None] => Ok((host, Default::default())),
        });

        whole.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the login for the host of `reference`.
    #[must_use]
    pub(crate) fn credential(&self, reference: &Reference) -> Option<Credential> {
        let (username, password) = self.0.get(&key(&reference.host))?;
        Some(Credential::Basic { username: username.clone(), password: password.clone() })
    }
}

/// Returns a host in the form of a variable's name.
fn key(host: &str) -> String {
    host.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HostLogins, Error> {
        HostLogins::read(
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn a_host_is_found_however_its_variable_is_spelled() {
        let logins = read(&[
            ("ECR_SYNC_USERNAME_REGISTRY_EXAMPLE_COM_5000", "reader"),
            ("ECR_SYNC_PASSWORD_registry_example_com_5000", "secret"),
            ("ECR_SYNC_USERNAME_docker_io", "me"),
            ("ECR_SYNC_PASSWORD_docker_io", "token"),
            ("PATH", "/bin"),
        ])
        .expect("whole");
        let credential = |image: &str| logins.credential(&image.parse().expect("a reference"));

        let login = |username: &str, password: &str| {
            Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
        };
        assert_eq!(credential("registry.example.com:5000/app"), login("reader", "secret"));
        assert_eq!(credential("nginx"), login("me", "token"));
        assert_eq!(credential("quay.io/app"), None);
        assert!(!format!("{logins:?}").contains("secret"));
    }

    #[test]
    fn half_a_login_names_the_other_half() {
        let error = read(&[("ECR_SYNC_USERNAME_quay_io", "me"), ("ECR_SYNC_PASSWORD_quay_io", "")])
            .expect_err("half");
        assert_eq!(
            error.to_string(),
            "ECR_SYNC_USERNAME_quay_io is set, but ECR_SYNC_PASSWORD_quay_io is not: a login needs both"
        );
        let error = read(&[("ECR_SYNC_PASSWORD_quay_io", "me")]).expect_err("half");
        assert!(
            error.to_string().ends_with("ECR_SYNC_USERNAME_quay_io is not: a login needs both")
        );
    }
}
