//! How to reach the sources: logins of the environment, and of the docker or podman config.

use std::collections::BTreeMap;

use crate::causes::with_causes;
use crate::class::Class;
use crate::credentials::{DockerConfig, HostLogins, chart_reference};
use crate::ecr;
use crate::inventory::Entry;
use crate::mirrors::{Login, Mirror, Mirrors};
use crate::registry::{Credential, Reference};
use crate::spec::validation;
use crate::sync::{Access, Accesses, Before, Claimant, EcrLogin, Failure, Job, Mirrored, Progress};

/// Logins of whoever runs the command.
#[derive(Debug)]
pub(super) struct Sources {
    environment: HostLogins,
    docker: DockerConfig,
    mirrors: Mirrors,
    /// Whether the AWS identity logs in to public.ecr.aws too.
    public_ecr_login: bool,
}

impl Sources {
    /// Reads environment and config.
    ///
    /// # Errors
    /// What cannot be used, in words.
    pub(super) fn load(mirrors: Mirrors, public_ecr_login: bool) -> Result<Self, String> {
        let environment = HostLogins::load().map_err(|error| error.to_string())?;
        let docker = DockerConfig::load().map_err(|error| with_causes(&error))?;
        Ok(Self { environment, docker, mirrors, public_ecr_login })
    }

    /// The job that brings an entry about.
    pub(super) async fn job(&self, entry: &Entry, take_over: bool, progress: Progress) -> Job {
        let spec = entry.spec.clone();
        let image = spec
            .image
            .as_ref()
            .map(|image| image.pull_url.parse::<Reference>().map_err(Failure::from));
        let chart = spec
            .chart
            .as_ref()
            .map(|chart| chart_reference(&chart.pull_url).map_err(Failure::from));
        let mirrored =
            match image.as_ref().and_then(|image| self.mirrors.find(image.as_ref().ok()?)) {
                Some((mirror, place)) => Some(self.mirrored(mirror, place).await),
                None => None,
            };
        // No helper is run for a place that is not read.
        let image = image.filter(|_| mirrored.as_ref().is_none_or(|mirrored| mirrored.fallback));
        Job {
            name: entry.name.clone(),
            claimant: Claimant::CommandLine { take_over },
            identity: identity(entry),
            access: Accesses { image: self.access(image).await, chart: self.access(chart).await },
            mirrored,
            chart_source: None,
            derived: BTreeMap::new(),
            before: Before { inspects: true, ..Before::default() },
            timeout: validation::timeout(&spec).unwrap_or(validation::MAX_INTERVAL),
            progress,
            spec,
        }
    }

    async fn mirrored(&self, mirror: &Mirror, place: Reference) -> Mirrored {
        let access = match self.login(mirror, &place).await {
            Ok(Some(credential)) => Ok(self.with(credential, &place)),
            Ok(None) => self.access(Some(Ok(place.clone()))).await,
            Err(failure) => Err(failure),
        };
        Mirrored { reference: place, insecure: mirror.insecure, access, fallback: mirror.fallback }
    }

    /// The mirror's own login.
    async fn login(
        &self,
        mirror: &Mirror,
        place: &Reference,
    ) -> Result<Option<Credential>, Failure> {
        Ok(match &mirror.login {
            Some(Login::Known(credential)) => Some(credential.clone()),
            Some(Login::File(path)) => {
                let config = DockerConfig::read(path).map_err(|error| {
                    Failure::new(Class::AuthenticationFailed, error.to_string())
                })?;
                Some(config.credential(place).await?)
            }
            // Refused when the table was read.
            Some(Login::Secret(_)) | None => None,
        })
    }

    async fn access(
        &self,
        reference: Option<Result<Reference, Failure>>,
    ) -> Result<Access, Failure> {
        let Some(reference) = reference else { return Ok(Access::default()) };
        let reference = reference?;
        let credential = match self.environment.credential(&reference) {
            Some(credential) => credential,
            None => self.docker.credential(&reference).await?,
        };
        Ok(self.with(credential, &reference))
    }

    /// Without a login, the AWS identity of the environment reads private ECR, and public ECR where
    /// it shall.
    fn with(&self, credential: Credential, reference: &Reference) -> Access {
        let own = ecr::Identity::default;
        let ecr = match credential {
            Credential::Anonymous => EcrLogin::of(reference, own())
                .or_else(|| EcrLogin::public(reference, own()).filter(|_| self.public_ecr_login)),
            _ => None,
        };
        Access { credential, ecr, ..Access::default() }
    }
}

/// The role of the entry; ServiceAccounts are of a cluster.
fn identity(entry: &Entry) -> Result<ecr::Identity, Failure> {
    let registry = entry.spec.registry.clone().unwrap_or_default();
    if registry.service_account_name.is_some() {
        return Err(Failure::new(
            Class::InvalidSpec,
            "registry.serviceAccountName needs a cluster: leave it out for the command line, and \
             use registry.roleArn or the identity of the environment",
        ));
    }
    let role = registry.role_arn.as_deref().map(str::parse).transpose();
    let role = role
        .map_err(|error| Failure::new(Class::InvalidSpec, format!("registry.roleArn: {error}")))?;
    Ok(ecr::Identity { service_account: None, role })
}
