//! Mirrors: registries to read images from instead of their own (`--mirrors`), and GitLab's
//! dependency proxy.
//!
//! ```text
//! docker.io/library/nginx -> longest match -> mirror.example.com/hub/library/nginx
//! ```
//! A mirror has a login of its own. Names and digests of images stay the same.

mod file;
mod gitlab;

use std::path::{Path, PathBuf};

use crate::credentials::{DockerConfig, DockerConfigError};
use crate::registry::{Credential, Reference};

/// The table of mirrors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirrors(Vec<Mirror>);

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The match: a host, or a host with the first part of a path, or with all of it.
    pub matched: String,
    /// The replacement of the match; `None` for `direct: true`: no mirror.
    rewrite: Option<String>,
    /// The login, which is sent to the mirror's host only. `None`: as for any other host.
    pub login: Option<Login>,
    /// Whether to read from the image's own registry if the mirror fails.
    pub fallback: bool,
    /// Whether the mirror speaks plain HTTP.
    pub insecure: bool,
}

/// The origin of a mirror's login, which is read at each use: it may be rotated.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A docker config.
    File(PathBuf),
    /// A Secret; works in a cluster only.
    Secret(SecretReference),
    /// User name and password.
    Known(Credential),
}

/// Shows the origin only, never a password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Secret(secret) => write!(f, "Secret({secret})"),
            Self::Known(_) => f.write_str("Known"),
        }
    }
}

/// A Secret in any namespace: the table belongs to the operator, not to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretReference {
    /// The Secret's name.
    pub name: String,
    /// The Secret's namespace.
    pub namespace: String,
}

impl std::fmt::Display for SecretReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Mirrors {
    /// Parses the text of a file. Checks that the docker configs that it names can be used.
    ///
    /// # Errors
    /// Text for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mirrors = file::parse(text)?;
        for mirror in &mirrors {
            if let Some(Login::File(path)) = &mirror.login {
                DockerConfig::read(path).map_err(|error| describe(mirror, &error))?;
            }
        }
        Ok(Self(mirrors))
    }

    /// Loads the table for a run without a cluster: that of a file, and GitLab's dependency proxy
    /// if the environment describes one. Returns a warning if the environment describes it only in
    /// part. `fallback` sets [`Mirror::fallback`] of all mirrors.
    ///
    /// # Errors
    /// Text for people.
    pub(crate) fn load(
        file: Option<&Path>,
        fallback: bool,
    ) -> Result<(Self, Option<String>), String> {
        let mut mirrors = file.map_or_else(|| Ok(Self::default()), read)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (gitlab, warning) = gitlab::proxy(variable);

        // A mirror of Docker Hub in the file wins.
        let gitlab = gitlab
            .filter(|gitlab| !mirrors.0.iter().any(|mirror| mirror.matched == gitlab.matched));
        mirrors.0.extend(gitlab);
        mirrors.0.iter_mut().for_each(|mirror| mirror.fallback |= fallback);
        Ok((mirrors, warning))
    }

    /// Returns the mirror for an image, by the longest match, and the reference of the image there.
    #[must_use]
    pub(crate) fn find(&self, reference: &Reference) -> Option<(&Mirror, Reference)> {
        let name = reference.name();
        let rest = |mirror: &Mirror| -> Option<String> {
            let rest = name.strip_prefix(&mirror.matched)?;
            // `docker.io/library` does not match `docker.io/libraryx`.
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let matches = self.0.iter().filter_map(|mirror| Some((mirror, rest(mirror)?)));
        let (mirror, rest) = matches.max_by_key(|(mirror, _)| mirror.matched.len())?;

        // Not parsed again: `file` has checked that there is a host.
        let rewrite = mirror.rewrite.as_ref()?;
        let (host, path) = rewrite.split_once('/').unwrap_or((rewrite, ""));
        let repository = format!("{path}{rest}").trim_start_matches('/').to_owned();

        Some((mirror, Reference { host: host.to_owned(), repository, ..reference.clone() }))
    }
}

fn read(file: &Path) -> Result<Mirrors, String> {
    let name = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let mirrors = Mirrors::parse(&text).map_err(|error| format!("{name}: {error}"))?;

    for mirror in &mirrors.0 {
        if let Some(Login::Secret(secret)) = &mirror.login {
            return Err(format!(
                "{name}: the mirror of {} has its login in Secret {secret}, which needs a cluster: \
                 write credentialsFile, a docker config",
                mirror.matched
            ));
        }
    }

    Ok(mirrors)
}

fn describe(mirror: &Mirror, error: &DockerConfigError) -> String {
    format!("credentialsFile of the mirror of {}: {error}", mirror.matched)
}

#[cfg(test)]
mod tests;
