//! What a namespace may use: repositories, accounts, regions, roles and sources.
//!
//! The operator's rights in AWS are those of all tenants together, so what a namespace may do with
//! them is checked here, before anybody is asked anything on its behalf. Pure but for the file.

mod rules;

use std::path::Path;
use std::sync::Arc;

use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::class::Class;
use crate::credentials::chart_reference;
use crate::ecr::{self, Identity, RoleArn};
use crate::failure::Failure;
use crate::registry::{AllowedHosts, Reference};
use crate::reload::{self, Reloaded};

use rules::Rule;
pub use rules::{Tenants, Unlisted};

/// What each namespace may use.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    file: Option<Reloaded<Tenants>>,
    unlisted: Unlisted,
}

impl Tenancy {
    /// From the file; without one, `unlisted` says what every namespace may do.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(file: Option<&Path>, unlisted: Unlisted) -> Result<Self, reload::Error> {
        Ok(Self {
            file: file.map(|path| Reloaded::load(path, Tenants::parse)).transpose()?,
            unlisted,
        })
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> Option<&Reloaded<Tenants>> {
        self.file.as_ref()
    }

    /// Whether anything is asked at all of what `namespace` wants.
    #[must_use]
    pub fn restricts(&self, namespace: &str) -> bool {
        self.unlisted == Unlisted::Deny
            || self.file.as_ref().is_some_and(|file| !file.get().of(namespace).is_empty())
    }

    /// Whether `namespace` may use a repository of this name at all. One that may not cannot keep
    /// it from others either.
    #[must_use]
    pub fn admits(&self, namespace: &str, repository: &str) -> bool {
        let tenants = self.file.as_ref().map(Reloaded::get);
        let rules = tenants.as_ref().map(|tenants| tenants.of(namespace)).unwrap_or_default();
        match &rules[..] {
            [] => self.unlisted == Unlisted::Allow,
            rules => rules.iter().any(|(_, rule)| rule.has_repository(repository)),
        }
    }

    /// What a resource of `namespace` may use while it does what `wish` says.
    ///
    /// # Errors
    /// `AccessDenied`, with what is not allowed and where to allow it.
    pub fn permit(&self, namespace: &str, wish: &Wish<'_>) -> Result<Permit, Failure> {
        let denied = |message| Failure::new(Class::AccessDenied, message);
        let Some(file) = &self.file else {
            return match self.unlisted {
                Unlisted::Allow => Ok(Permit::everything()),
                Unlisted::Deny => Err(denied(format!(
                    "namespace {namespace} may use nothing: the operator runs with --tenants-default deny and without --tenants"
                ))),
            };
        };
        let (path, tenants) = (file.path().display().to_string(), file.get());
        let rules = tenants.of(namespace);
        let mut refusal = None;
        for (place, rule) in &rules {
            match rule.admit(wish) {
                Ok(()) => return Ok(Permit::of(rule, format!("{path}, {place}.sources"))),
                Err((field, what)) => {
                    refusal.get_or_insert_with(|| {
                        format!("namespace {namespace} may not use {what}: allow it in {path}, {place}.{field}")
                    });
                }
            }
        }
        match (refusal, self.unlisted) {
            (Some(refusal), _) => Err(denied(refusal)),
            (None, Unlisted::Allow) => Ok(Permit::everything()),
            (None, Unlisted::Deny) => Err(denied(format!(
                "namespace {namespace} may use nothing: {path} has no tenant with it among namespaces"
            ))),
        }
    }
}

/// What a resource wants to use.
#[derive(Clone, Debug, Default)]
pub struct Wish<'a> {
    /// Name of the repository.
    pub repository: &'a str,
    /// Account of the repository.
    pub account: Option<String>,
    /// The operator's own account.
    pub own_account: Option<String>,
    /// Region of the repository.
    pub region: Option<String>,
    /// The operator's own region.
    pub own_region: Option<String>,
    /// Roles that are taken on.
    pub roles: Vec<&'a RoleArn>,
    /// Hosts that are read from.
    pub sources: Vec<String>,
}

impl<'a> Wish<'a> {
    /// What a spec says; places are the caller's to fill in.
    ///
    /// # Errors
    /// `InvalidSpec` for a source without a host: what cannot be judged is not read.
    pub fn of(
        name: &'a str,
        spec: &'a EcrRepositorySyncSpec,
        identity: &'a Identity,
    ) -> Result<Self, Failure> {
        let mut sources = Vec::new();
        if let Some(image) = &spec.image {
            sources.push(image.pull_url.parse::<Reference>()?.host);
        }
        if let Some(chart) = &spec.chart {
            sources.push(chart_host(&chart.pull_url)?);
        }
        let own = identity.service_account.as_ref().map(|account| &account.role);
        Ok(Self {
            repository: spec.repository(name),
            roles: own.into_iter().chain(&identity.role).collect(),
            sources,
            ..Self::default()
        })
    }
}

/// The host of a chart's address, as whoever reads it will understand it.
fn chart_host(pull_url: &str) -> Result<String, Failure> {
    if pull_url.starts_with("oci://") {
        return Ok(chart_reference(pull_url)?.host);
    }
    let url = reqwest::Url::parse(pull_url).ok().filter(reqwest::Url::has_host);
    url.as_ref().map(crate::registry::authority).ok_or_else(|| {
        Failure::new(
            Class::InvalidSpec,
            format!("chart.pullUrl: {pull_url:?} is not a URL with a host"),
        )
    })
}

/// What a resource may use on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Hosts that indexes of charts may point to; all where there are no rules.
    pub hosts: Option<Arc<AllowedHosts>>,
    /// Whether the logins of `--registry-config` are for it.
    pub registry_config: bool,
    /// Repositories of ECR registries that are read with the operator's identity; all where there
    /// are no rules.
    ecr_sources: Option<Vec<String>>,
}

impl Permit {
    fn everything() -> Self {
        Self { hosts: None, registry_config: true, ecr_sources: None }
    }

    fn of(rule: &Rule, written_in: String) -> Self {
        let hosts = AllowedHosts { patterns: rule.sources.clone(), written_in };
        Self {
            hosts: Some(Arc::new(hosts)),
            registry_config: rule.registry_config,
            ecr_sources: Some(rule.ecr_sources.clone()),
        }
    }

    /// Whether the operator's identity may read `reference`.
    #[must_use]
    pub fn reads_ecr(&self, reference: &Reference) -> bool {
        let name = format!("{}/{}", reference.host, reference.repository);
        let is_listed = |patterns: &Vec<String>| {
            patterns.iter().any(|pattern| crate::wildcard::matches(pattern, &name))
        };
        let is_ecr = ecr::Host::parse(&reference.host).is_some() || ecr::is_public(&reference.host);
        is_ecr && self.ecr_sources.as_ref().is_none_or(is_listed)
    }
}

#[cfg(test)]
mod tests;
