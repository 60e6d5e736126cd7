//! Logins for sources on the command line: of the environment, and of the docker or podman config.

use std::collections::BTreeMap;
use std::error::Error;

use async_trait::async_trait;

use crate::class::Class;
use crate::credentials::{DockerConfig, HostLogins};
use crate::ecr;
use crate::inventory::Entry;
use crate::logins::{self, Logins, Source};
use crate::mirrors::{Login, Mirror, Mirrors};
use crate::registry::{Credential, Reference};
use crate::sync::{Claimant, Earlier, Failure, Job, Progress};

/// Logins of the user, and the mirrors.
#[derive(Debug)]
pub(super) struct Sources {
    environment: HostLogins,
    docker: DockerConfig,
    mirrors: Mirrors,
    /// Whether the AWS identity logs in to public.ecr.aws, too.
    public_ecr_login: bool,
}

impl Sources {
    /// Reads the environment and the config.
    ///
    /// # Errors
    /// The message for the user if one of them cannot be used.
    pub(super) fn load(mirrors: Mirrors, public_ecr_login: bool) -> Result<Self, Box<dyn Error>> {
        let environment = HostLogins::load()?;
        let docker = DockerConfig::load()?;
        Ok(Self { environment, docker, mirrors, public_ecr_login })
    }

    /// Returns the engine's job for an entry.
    pub(super) async fn job(&self, entry: &Entry, take_over: bool, progress: Progress) -> Job {
        let spec = entry.spec.clone();
        let (access, mirrored) = logins::accesses(self, &self.mirrors, &spec).await;

        Job {
            claimant: Claimant::CommandLine { take_over },
            identity: identity(entry),
            access,
            mirrored,
            chart_source: None,
            derived: BTreeMap::new(),
            earlier: Earlier { inspects: true, ..Earlier::default() },
            progress,
            spec,
        }
    }
}

#[async_trait]
impl Logins for Sources {
    /// Returns `None`: Secrets exist in a cluster only.
    async fn named(&self, _: Source<'_>, _: &Reference) -> Result<Option<Credential>, Failure> {
        Ok(None)
    }

    async fn of_mirror(
        &self,
        mirror: &Mirror,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure> {
        Ok(match &mirror.login {
            Some(Login::Known(credential)) => Some(credential.clone()),
            Some(Login::File(path)) => {
                let config = DockerConfig::read(path).map_err(|error| {
                    Failure::new(Class::AuthenticationFailed, error.to_string())
                })?;
                Some(config.credential(reference).await?)
            }
            // A Secret was refused when the table was read.
            Some(Login::Secret(_)) | None => None,
        })
    }

    async fn configured(&self, reference: &Reference) -> Result<Credential, Failure> {
        match self.environment.credential(reference) {
            Some(credential) => Ok(credential),
            None => self.docker.credential(reference).await,
        }
    }

    /// Returns the AWS identity of the environment.
    fn identity(&self, _: &Reference) -> Result<ecr::Identity, Failure> {
        Ok(ecr::Identity::default())
    }

    fn public_ecr_login(&self) -> bool {
        self.public_ecr_login
    }

    /// The user of the command line is the operator, and the files are the user's too.
    fn owns_specs(&self) -> bool {
        true
    }
}

/// Returns the role of the entry. ServiceAccounts exist in a cluster only.
fn identity(entry: &Entry) -> Result<ecr::Identity, Failure> {
    let registry = &entry.spec.registry;
    if registry.service_account.is_some() {
        return Err(Failure::new(
            Class::InvalidSpec,
            "registry.serviceAccountName needs a cluster: remove it for the command line, and use \
             registry.roleArn or the identity of the environment",
        ));
    }
    Ok(ecr::Identity { service_account: None, role: registry.role.clone() })
}
