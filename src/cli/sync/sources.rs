//! How to reach the sources: logins of the environment, and of the docker or podman config.

use std::collections::BTreeMap;

use super::mirrors::{Login, Mirrors};
use crate::api::v1alpha1::validation;
use crate::class::Class;
use crate::credentials::{DockerConfig, HostLogins, chart_reference};
use crate::ecr;
use crate::inventory::Entry;
use crate::registry::{Credential, Reference};
use crate::sync::{Access, Accesses, Before, Claimant, EcrLogin, Failure, Job, Progress};

/// Logins of whoever runs the command.
#[derive(Debug)]
pub(super) struct Sources {
    environment: HostLogins,
    docker: DockerConfig,
    mirrors: Mirrors,
    /// Whether the AWS identity logs in to public.ecr.aws too.
    public_ecr_login: bool,
}

/// How an image is read from a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Via {
    /// The image's own place.
    pub(super) original: String,
    /// Whether that is read where the mirror fails.
    pub(super) fallback: bool,
}

impl Sources {
    /// Reads environment and config.
    ///
    /// # Errors
    /// What cannot be used, in words.
    pub(super) fn load(mirrors: Mirrors, public_ecr_login: bool) -> Result<Self, String> {
        let environment = HostLogins::load().map_err(|error| error.to_string())?;
        let docker = DockerConfig::load().map_err(|error| crate::cli::with_causes(&error))?;
        Ok(Self { environment, docker, mirrors, public_ecr_login })
    }

    /// The job that brings an entry about, and how its image is read from a mirror; without `mirrored` it is not.
    pub(super) async fn job(
        &self,
        entry: &Entry,
        take_over: bool,
        progress: Progress,
        mirrored: bool,
    ) -> (Job, Option<Via>) {
        let mut spec = entry.spec.clone();
        let (mut via, mut login) = (None, None);
        if let Some(image) = spec.image.as_mut().filter(|_| mirrored)
            && let Ok(reference) = image.pull_url.parse::<Reference>()
            && let Some((mirror, place)) = self.mirrors.find(&reference)
        {
            via = Some(Via { original: reference.name(), fallback: mirror.fallback });
            login = mirror.credential.as_ref();
            image.pull_url = place;
            image.insecure = mirror.insecure;
        }
        let image = spec.image.as_ref().map(|image| image.pull_url.parse::<Reference>().map_err(Failure::from));
        let chart = spec.chart.as_ref().map(|chart| chart_reference(&chart.pull_url).map_err(Failure::from));
        let job = Job {
            name: entry.name.clone(),
            claimant: Claimant::CommandLine { take_over },
            identity: identity(entry),
            access: Accesses { image: self.access(image, login).await, chart: self.access(chart, None).await },
            chart_source: None,
            derived: BTreeMap::new(),
            before: Before { inspects: true, ..Before::default() },
            timeout: validation::timeout(&spec).unwrap_or(validation::MAX_INTERVAL),
            progress,
            spec,
        };
        (job, via)
    }

    async fn access(
        &self,
        reference: Option<Result<Reference, Failure>>,
        login: Option<&Login>,
    ) -> Result<Access, Failure> {
        let Some(reference) = reference else { return Ok(Access::default()) };
        let reference = reference?;
        let credential = match (login, self.environment.credential(&reference)) {
            (Some(Login::Known(credential)), _) => credential.clone(),
            (Some(Login::File(config)), _) => config.credential(&reference).await?,
            (None, Some(credential)) => credential,
            (None, None) => self.docker.credential(&reference).await?,
        };
        // Without a login, the AWS identity of the environment reads private ECR, and public ECR where it shall.
        let own = ecr::Identity::default;
        let ecr = match credential {
            Credential::Anonymous => EcrLogin::of(&reference, own())
                .or_else(|| EcrLogin::public(&reference, own()).filter(|_| self.public_ecr_login)),
            _ => None,
        };
        Ok(Access { credential, ecr, ..Access::default() })
    }
}

/// The role of the entry; ServiceAccounts are of a cluster.
fn identity(entry: &Entry) -> Result<ecr::Identity, Failure> {
    let registry = entry.spec.registry.clone().unwrap_or_default();
    if registry.service_account_name.is_some() {
        return Err(Failure::new(
            Class::InvalidSpec,
            "registry.serviceAccountName needs a cluster: leave it out for the command line, and use registry.roleArn or the \
             identity of the environment",
        ));
    }
    let role = registry.role_arn.as_deref().map(str::parse).transpose();
    let role = role.map_err(|error| Failure::new(Class::InvalidSpec, format!("registry.roleArn: {error}")))?;
    Ok(ecr::Identity { service_account: None, role })
}
