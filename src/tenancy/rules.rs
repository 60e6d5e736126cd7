//! The file of `--tenants`: a list of rules.

use serde::Deserialize;

use super::Request;
use crate::nesting;
use crate::wildcard::matches_any;

/// The parsed file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenants {
    tenants: Vec<Rule>,
}

/// The rule for namespaces that no tenant lists (`--tenants-default`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Unlisted {
    /// Such namespaces may use everything.
    #[default]
    Allow,
    /// Such namespaces may use nothing.
    Deny,
}

/// The things that some namespaces may use. Texts are patterns: `*` matches any number of
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    namespaces: Vec<String>,
    repositories: Vec<String>,
    /// Hosts of sources.
    pub(super) sources: Vec<String>,
    /// Default: the operator's own, and those of `roles`.
    accounts: Option<Vec<String>>,
    /// Default: the operator's own.
    regions: Option<Vec<String>>,
    #[serde(default)]
    roles: Vec<String>,
    /// `host/repository` in ECR that may be read with the operator's identity.
    #[serde(default)]
    pub(super) ecr_sources: Vec<String>,
    #[serde(default)]
    pub(super) registry_config: bool,
}

impl Tenants {
    /// Parses YAML: `tenants:` and a list.
    ///
    /// # Errors
    /// Text for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tenants: Self = nesting::yaml(text)?;
        for (index, rule) in tenants.tenants.iter().enumerate() {
            if rule.namespaces.is_empty() {
                return Err(format!(
                    "tenants[{index}].namespaces is empty: list at least one namespace"
                ));
            }
            let lists = [
                Some(&rule.namespaces),
                Some(&rule.repositories),
                Some(&rule.sources),
                Some(&rule.roles),
            ];
            let more = [rule.accounts.as_ref(), rule.regions.as_ref(), Some(&rule.ecr_sources)];
            if lists.into_iter().chain(more).flatten().flatten().any(String::is_empty) {
                return Err(format!(
                    "tenants[{index}] has an empty pattern: write * for everything"
                ));
            }
        }

        Ok(tenants)
    }

    /// Returns the rules for a namespace, with their positions in the file. Rules with its exact
    /// name win over patterns.
    pub(super) fn of(&self, namespace: &str) -> Vec<(String, &Rule)> {
        let all = || {
            self.tenants.iter().enumerate().map(|(index, rule)| (format!("tenants[{index}]"), rule))
        };
        let exact: Vec<_> = all()
            .filter(|(_, rule)| rule.namespaces.iter().any(|name| name == namespace))
            .collect();
        if !exact.is_empty() {
            return exact;
        }
        all().filter(|(_, rule)| matches_any(&rule.namespaces, namespace)).collect()
    }
}

impl Rule {
    pub(super) fn has_repository(&self, name: &str) -> bool {
        matches_any(&self.repositories, name)
    }

    /// # Errors
    /// The field that does not allow the request, and the forbidden thing.
    pub(super) fn admit(&self, request: &Request<'_>) -> Result<(), (&'static str, String)> {
        if !self.has_repository(request.repository) {
            return Err(("repositories", format!("repository {}", request.repository)));
        }

        for role in &request.roles {
            if !matches_any(&self.roles, role.as_str()) {
                return Err(("roles", format!("role {role}")));
            }
        }

        let is_of_role =
            |account: &str| request.roles.last().is_some_and(|role| role.account() == account);
        let account = request.account.as_deref().unwrap_or("unknown");
        let is_allowed = match &self.accounts {
            Some(patterns) => matches_any(patterns, account),
            None => {
                is_of_role(account)
                    || request.account.is_some() && request.account == request.own_account
            }
        };
        if !is_allowed {
            return Err(("accounts", format!("account {account}")));
        }

        let region = request.region.as_deref().unwrap_or("unknown");
        let is_allowed = match &self.regions {
            Some(patterns) => matches_any(patterns, region),
            None => request.region == request.own_region,
        };
        if !is_allowed {
            return Err(("regions", format!("region {region}")));
        }

        let lower: Vec<_> =
            self.sources.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        for source in &request.sources {
            if !matches_any(&lower, &source.to_ascii_lowercase()) {
                return Err(("sources", format!("source {source}")));
            }
        }

        Ok(())
    }
}
