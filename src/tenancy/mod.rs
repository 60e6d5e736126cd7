//! Tenancy (`--tenants`): the repositories, accounts, regions, roles and sources that a namespace
//! may use.
//!
//! The operator's permissions in AWS are those of all tenants together. So every resource is
//! checked here before any request is sent for it. Pure, except for reading the file.

mod rules;

use std::path::Path;
use std::sync::Arc;

use crate::class::Class;
use crate::ecr::{self, Identity, RoleArn};
use crate::failure::Failure;
use crate::registry::{AllowedHosts, Reference};
use crate::reload::{self, Reloaded};
use crate::spec::Spec;
use crate::wildcard::matches_any;

use rules::Rule;
pub use rules::{Tenants, Unlisted};

/// The rules for all namespaces.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    file: Option<Reloaded<Tenants>>,
    unlisted: Unlisted,
}

impl Tenancy {
    /// Loads the file. Without one, `unlisted` applies to every namespace.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load(file: Option<&Path>, unlisted: Unlisted) -> Result<Self, reload::Error> {
        Ok(Self {
            file: file.map(|path| Reloaded::load(path, Tenants::parse)).transpose()?,
            unlisted,
        })
    }

    /// Returns the file.
    #[must_use]
    pub const fn file(&self) -> Option<&Reloaded<Tenants>> {
        self.file.as_ref()
    }

    /// Whether any rule applies to `namespace`.
    #[must_use]
    pub fn restricts(&self, namespace: &str) -> bool {
        self.unlisted == Unlisted::Deny
            || self.file.as_ref().is_some_and(|file| !file.get().of(namespace).is_empty())
    }

    /// Whether `namespace` may use a repository of this name. A namespace that may not use it
    /// cannot claim it before others either.
    #[must_use]
    pub fn admits(&self, namespace: &str, repository: &str) -> bool {
        let tenants = self.file.as_ref().map(Reloaded::get);
        let rules = tenants.as_ref().map(|tenants| tenants.of(namespace)).unwrap_or_default();
        match &rules[..] {
            [] => self.unlisted == Unlisted::Allow,
            rules => rules.iter().any(|(_, rule)| rule.has_repository(repository)),
        }
    }

    /// Whether a tenant of the file names this repository for `namespace`.
    #[must_use]
    pub fn names(&self, namespace: &str, repository: &str) -> bool {
        self.file.as_ref().is_some_and(|file| {
            file.get().of(namespace).iter().any(|(_, rule)| rule.has_repository(repository))
        })
    }

    /// Returns the permit for a request of a resource in `namespace`.
    ///
    /// # Errors
    /// `AccessDenied`; the message names the forbidden thing and where to allow it.
    pub fn permit(&self, namespace: &str, request: &Request<'_>) -> Result<Permit, Failure> {
        let denied = |message| Failure::new(Class::AccessDenied, message);
        let Some(file) = &self.file else {
            return match self.unlisted {
                Unlisted::Allow => Ok(Permit::everything()),
                Unlisted::Deny => Err(denied(format!(
                    "namespace {namespace} may use nothing: the operator runs with \
                     --tenants-default deny and without --tenants"
                ))),
            };
        };

        let path = file.path().display();
        let tenants = file.get();
        let rules = tenants.of(namespace);
        let mut refusal = None;

        for (position, rule) in &rules {
            match rule.admit(request) {
                Ok(()) => return Ok(Permit::of(rule, format!("{path}, {position}.sources"))),
                Err((field, what)) => {
                    refusal.get_or_insert_with(|| {
                        format!(
                            "namespace {namespace} may not use {what}: allow it in {path}, \
                             {position}.{field}"
                        )
                    });
                }
            }
        }

        match (refusal, self.unlisted) {
            (Some(refusal), _) => Err(denied(refusal)),
            (None, Unlisted::Allow) => Ok(Permit::everything()),
            (None, Unlisted::Deny) => Err(denied(format!(
                "namespace {namespace} may use nothing: no tenant in {path} has it in namespaces"
            ))),
        }
    }
}

/// The things that a resource wants to use.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
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
    /// Roles that are assumed.
    pub roles: Vec<&'a RoleArn>,
    /// Hosts of sources.
    pub sources: Vec<String>,
}

impl<'a> Request<'a> {
    /// A request for the repository, roles and sources of a spec. The caller sets accounts and
    /// regions.
    #[must_use]
    pub fn of(spec: &'a Spec, identity: &'a Identity) -> Self {
        let image = spec.image.iter().map(|image| image.reference.host.as_str());
        let chart = spec.chart.iter().map(|chart| chart.address.host());
        let own = identity.service_account.as_ref().map(|account| &account.role);
        Self {
            repository: &spec.repository,
            roles: own.into_iter().chain(&identity.role).collect(),
            sources: image.chain(chart).map(str::to_owned).collect(),
            ..Self::default()
        }
    }
}

/// The permissions of one resource for its pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Hosts that chart indexes may point to; `None` for all, if no rule applies.
    pub hosts: Option<Arc<AllowedHosts>>,
    /// Whether the logins of `--registry-config` may be used.
    pub registry_config: bool,
    /// Repositories in ECR that may be read with the operator's identity; `None` for all, if no
    /// rule applies.
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
        let is_listed = |patterns: &Vec<String>| matches_any(patterns, &name);
        let is_ecr = ecr::Host::parse(&reference.host).is_some() || ecr::is_public(&reference.host);
        is_ecr && self.ecr_sources.as_ref().is_none_or(is_listed)
    }
}

#[cfg(test)]
mod tests;
