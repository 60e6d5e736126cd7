//! Places to read images from instead of their own: a table of the operator's, or of whoever runs
//! the command line.
//!
//! ```text
//! docker.io/library/nginx -> longest match -> mirror.example.com/hub/library/nginx, with the mirror's own login
//! ```
//! What an image is called does not change by it, and what it is neither: the digests are the same
//! wherever they are read.

mod file;
mod gitlab;

use std::path::{Path, PathBuf};

use crate::credentials::{DockerConfig, DockerConfigError};
use crate::registry::{Credential, Reference};

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// A host, or a host and the beginning of a path, or all of it.
    pub matched: String,
    /// What stands in its place; `None` where the image is read from its own place after all.
    rewrite: Option<String>,
    /// Its login, which is sent to the mirror's host only. `None`: as for any other host.
    pub login: Option<Login>,
    /// Whether the image's own place is read where the mirror fails.
    pub fallback: bool,
    /// Whether the mirror speaks plain HTTP.
    pub insecure: bool,
}

/// Where the login of a mirror comes from. It is read when it is used, so that a rotated one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A docker config.
    File(PathBuf),
    /// A Secret; in a cluster only.
    Secret(SecretReference),
    /// A user and a password.
    Known(Credential),
}

/// Where and from which kind only: passwords are not for eyes.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Secret(secret) => write!(f, "Secret({secret})"),
            Self::Known(_) => f.write_str("Known"),
        }
    }
}

/// A Secret of any namespace: the table is the operator's, not a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl std::fmt::Display for SecretReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Mirrors {
    /// Reads the table of a file.
    ///
    /// # Errors
    /// What is wrong, for people. A docker config that it names and that cannot be used is wrong,
    /// too.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mirrors = file::parse(text)?;
        for mirror in &mirrors {
            if let Some(Login::File(path)) = &mirror.login {
                DockerConfig::read(path).map_err(|error| describe(mirror, &error))?;
            }
        }
        Ok(Self(mirrors))
    }

    /// The table of a file for a run without a cluster, and GitLab's proxy where the environment
    /// describes one; with a warning where it describes a part of one. With `fallback` an image's
    /// own place is read wherever a mirror fails.
    ///
    /// # Errors
    /// What cannot be used, in words.
    pub fn load(file: Option<&Path>, fallback: bool) -> Result<(Self, Option<String>), String> {
        let mut mirrors = file.map_or_else(|| Ok(Self::default()), read)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (gitlab, warning) = gitlab::proxy(variable);
        // What the file says of Docker Hub comes first.
        let gitlab = gitlab
            .filter(|gitlab| !mirrors.0.iter().any(|mirror| mirror.matched == gitlab.matched));
        mirrors.0.extend(gitlab);
        mirrors.0.iter_mut().for_each(|mirror| mirror.fallback |= fallback);
        Ok((mirrors, warning))
    }

    /// The mirror for an image, and the image there: that of the longest match.
    #[must_use]
    pub fn find(&self, reference: &Reference) -> Option<(&Mirror, Reference)> {
        let name = reference.name();
        let rest = |mirror: &Mirror| -> Option<String> {
            let rest = name.strip_prefix(&mirror.matched)?;
            // `docker.io/library` is not the beginning of `docker.io/libraryx`.
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let fitting = self.0.iter().filter_map(|mirror| Some((mirror, rest(mirror)?)));
        let (mirror, rest) = fitting.max_by_key(|(mirror, _)| mirror.matched.len())?;
        // Put together, not parsed: `file` has seen to it that it has a host.
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
                "{name}: the mirror of {} has its login in Secret {secret}, which needs a cluster: write credentialsFile, a docker \
                 config",
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
