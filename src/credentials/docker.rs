//! The docker config: `$DOCKER_CONFIG/config.json`, podman's auth.json, and credential helpers
//! (`docker-credential-…`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::class::Class;
use crate::failure::Failure;
use crate::registry::{Credential, Reference, docker_config};

/// A credential helper calls a keychain or a cloud; one that hangs must not block the sync.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// Docker Hub's name in docker configs.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A docker config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("cannot read the docker config {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a docker config.
    #[error("the docker config {path} is malformed: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Helpers {
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FromHelper {
    username: String,
    secret: String,
}

/// A docker config file.
#[derive(Debug, Default)]
pub(crate) struct DockerConfig {
    bytes: Vec<u8>,
    helpers: Helpers,
}

impl DockerConfig {
    /// Loads the user's docker config. Without one, all sources are read anonymously.
    ///
    /// # Errors
    /// When a file exists but cannot be used.
    pub(crate) fn load() -> Result<Self, Error> {
        for path in candidates() {
            match std::fs::read(&path) {
                Ok(bytes) => return Self::parse(&path, bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(Self::default())
    }

    /// Loads a docker config.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(path, bytes)
    }

    /// As [`Self::credential`], but runs no credential helper.
    ///
    /// # Errors
    /// When an entry is malformed.
    pub(crate) fn credential_without_helpers(
        &self,
        reference: &Reference,
    ) -> Result<Credential, Failure> {
        if self.bytes.is_empty() {
            return Ok(Credential::Anonymous);
        }
        Ok(docker_config::credential(&self.bytes, reference)?.unwrap_or_default())
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let helpers = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Malformed { path: path.to_owned(), source })?;
        Ok(Self { bytes, helpers })
    }

    /// Returns the credential for `reference`; anonymous if the config has none.
    ///
    /// # Errors
    /// When a credential helper fails, or an entry is malformed.
    pub(crate) async fn credential(&self, reference: &Reference) -> Result<Credential, Failure> {
        let host = if reference.host == "docker.io" { DOCKER_HUB } else { &reference.host };
        let helpers = &self.helpers.cred_helpers;
        let helper = helpers.get(&reference.host).or_else(|| helpers.get(host));

        if let Some(helper) = helper {
            return Ok(run_helper(helper, host).await?.unwrap_or(Credential::Anonymous));
        }
        if self.bytes.is_empty() {
            return Ok(Credential::Anonymous);
        }

        if let Some(credential) = docker_config::credential(&self.bytes, reference)? {
            return Ok(credential);
        }

        match &self.helpers.creds_store {
            Some(store) => Ok(run_helper(store, host).await?.unwrap_or(Credential::Anonymous)),
            None => Ok(Credential::Anonymous),
        }
    }
}

/// Returns the paths of Docker's and podman's configs, those set by variables first.
fn candidates() -> Vec<PathBuf> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut paths = Vec::new();
    paths.extend(variable("REGISTRY_AUTH_FILE"));
    paths.extend(variable("DOCKER_CONFIG").map(|folder| folder.join("config.json")));
    paths.extend(variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
    if let Some(home) = variable("HOME") {
        paths.push(home.join(".docker/config.json"));
        paths.push(home.join(".config/containers/auth.json"));
    }
    paths
}

/// Runs `docker-credential-<helper> get`. Returns `None` if the helper has no login for this host.
async fn run_helper(helper: &str, host: &str) -> Result<Option<Credential>, Failure> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| {
        Failure::new(Class::AuthenticationFailed, format!("{program} for {host}: {why}"))
    };
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;

    if let Some(mut input) = child.stdin.take() {
        // A helper that ends without reading its input says why in its output.
        let _closed_early = input.write_all(host.as_bytes()).await;
    }

    let output = tokio::time::timeout(HELPER_TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_| failed(format!("no answer in {} s", HELPER_TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;

    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        // The protocol has no code for "not found" but this text.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(text.trim().to_owned()));
    }

    let answer: FromHelper = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("the answer is not the JSON of a credential helper".to_owned()))?;
    Ok(Some(if answer.username == "<token>" {
        Credential::IdentityToken(answer.secret)
    } else {
        Credential::Basic { username: answer.username, password: answer.secret }
    }))
}
