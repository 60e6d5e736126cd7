//! The file: a list of tenants.

use serde::Deserialize;

use super::Wish;
use crate::wildcard::matches;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenants {
    tenants: Vec<Rule>,
}

/// What may be done by namespaces that no tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Unlisted {
    /// Everything.
    #[default]
    Allow,
    /// Nothing.
    Deny,
}

/// What some namespaces may use. Texts are patterns: `*` stands for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    namespaces: Vec<String>,
    repositories: Vec<String>,
    /// Hosts of sources.
    pub(super) sources: Vec<String>,
    /// The operator's own, and those of `roles`, where it is left out.
    accounts: Option<Vec<String>>,
    /// The operator's own where it is left out.
    regions: Option<Vec<String>>,
    #[serde(default)]
    roles: Vec<String>,
    /// `host/repository` of ECR registries that are read with the operator's identity.
    #[serde(default)]
    pub(super) ecr_sources: Vec<String>,
    #[serde(default)]
    pub(super) registry_config: bool,
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

impl Tenants {
    /// Reads YAML: `tenants:` and a list.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tenants: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for (index, rule) in tenants.tenants.iter().enumerate() {
            if rule.namespaces.is_empty() {
                return Err(format!(
                    "tenants[{index}].namespaces is empty, so that it means nobody"
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

    /// The rules for a namespace, with their places in the file. A name that is written out wins
    /// over patterns.
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
        all().filter(|(_, rule)| any(&rule.namespaces, namespace)).collect()
    }
}

impl Rule {
    pub(super) fn has_repository(&self, name: &str) -> bool {
        any(&self.repositories, name)
    }

    /// # Errors
    /// The field that does not allow it, and what it is.
    pub(super) fn admit(&self, wish: &Wish<'_>) -> Result<(), (&'static str, String)> {
        if !self.has_repository(wish.repository) {
            return Err(("repositories", format!("repository {}", wish.repository)));
        }
        for role in &wish.roles {
            if !any(&self.roles, role.as_str()) {
                return Err(("roles", format!("role {role}")));
            }
        }
        let is_of_role =
            |account: &str| wish.roles.last().is_some_and(|role| role.account() == account);
        let account = wish.account.as_deref().unwrap_or("unknown");
        let is_allowed = match &self.accounts {
            Some(patterns) => any(patterns, account),
            None => {
                is_of_role(account) || wish.account.is_some() && wish.account == wish.own_account
            }
        };
        if !is_allowed {
            return Err(("accounts", format!("account {account}")));
        }
        let region = wish.region.as_deref().unwrap_or("unknown");
        let is_allowed = match &self.regions {
            Some(patterns) => any(patterns, region),
            None => wish.region == wish.own_region,
        };
        if !is_allowed {
            return Err(("regions", format!("region {region}")));
        }
        let lower: Vec<_> =
            self.sources.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        for source in &wish.sources {
            if !any(&lower, &source.to_ascii_lowercase()) {
                return Err(("sources", format!("source {source}")));
            }
        }
        Ok(())
    }
}
