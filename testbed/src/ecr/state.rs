//! All registries of all accounts and regions.

use std::collections::BTreeMap;

use super::errors::{Error, Result};
use super::store::Repository;

/// The registry of an account in a region.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Prefixes of pull-through cache rules.
    pub(crate) pull_through: Vec<String>,
    /// Account settings that were changed; others have their defaults.
    pub(crate) settings: BTreeMap<String, String>,
}

/// The state of the stand-in, except tokens and traffic.
#[derive(Debug, Default)]
pub(crate) struct State {
    registries: BTreeMap<(String, String), Registry>,
}

impl State {
    pub(crate) fn registry_mut(&mut self, account: &str, region: &str) -> &mut Registry {
        self.registries.entry((account.to_owned(), region.to_owned())).or_default()
    }

    pub(crate) fn registry(&mut self, account: &str, region: &str) -> &Registry {
        self.registry_mut(account, region)
    }

    pub(crate) fn repository(
        &mut self,
        account: &str,
        region: &str,
        name: &str,
    ) -> Option<&mut Repository> {
        self.registry_mut(account, region).repositories.get_mut(name)
    }

    /// Returns the repository, or `RepositoryNotFoundException`.
    pub(crate) fn known(
        &mut self,
        account: &str,
        region: &str,
        name: &str,
    ) -> Result<&mut Repository> {
        self.repository(account, region, name).ok_or_else(|| Error::no_repository(name, account))
    }
}
