//! Results of earlier passes that the next pass uses. Losing them costs requests, never
//! correctness.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Attempts, Pruning};
use super::artifact::TagState;
use super::expired::{Expired, Held};
use super::observed::Observed;
use super::origin::Rebuilt;
use crate::api::v1alpha1::{Ownership, RepositoryStatus};
use crate::ecr::{Archived, Encryption, Mutability, Repository};
use crate::registry::Tag;

/// Results of earlier passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Tags in ECR when the last pass over the same generation of the spec ended.
    pub held: Held,
    /// Tags that expired, as far as they were reported.
    pub expired: BTreeMap<Tag, Expired>,
    /// Indexes that were built for the wanted platforms only.
    pub rebuilt: BTreeMap<Tag, Rebuilt>,
    /// Keys of resource tags that we set. They are removed when they are no longer wanted.
    pub managed_tag_keys: BTreeSet<String>,
    /// Revision of the last configuration that was in place. A difference from it is drift.
    pub configuration: Option<String>,
    /// Result of the last full survey; `None` asks for another one.
    pub look: Option<Look>,
    /// Whether the children of wanted indexes are checked, and tags to remove are looked for.
    pub inspects: bool,
    /// Tags to remove, as found by the last check.
    pub pruning: Option<Pruning>,
    /// Writes after which ECR returned another value.
    pub attempts: Attempts,
}

/// The part of a full survey on which the next pass relies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The repository, with its current settings.
    pub(super) repository: Repository,
    /// Whether we created it.
    pub(super) is_ours: bool,
    /// Revision of the configuration with which it was compared.
    pub(super) revision: String,
    /// Wanted tags that are missing and that the pass could not copy.
    pub(super) absent: BTreeSet<Tag>,
    /// Wanted tags in the archive.
    pub(super) archived: BTreeMap<Tag, Archived>,
}

impl Look {
    /// Makes the look from the end of a pass.
    pub(super) fn after(
        observed: &Observed,
        repository: &Repository,
        revision: String,
        is_ours: bool,
        states: impl Iterator<Item = (Tag, TagState)>,
    ) -> Self {
        let observed = observed.repository.as_ref();
        let in_ecr = |tag: &Tag| observed.is_some_and(|observed| observed.has_tag(tag));
        let absent = states
            .filter(|(tag, state)| matches!(state, TagState::Failed(_)) && !in_ecr(tag))
            .map(|(tag, _)| tag)
            .collect();
        let archived = observed.map(|observed| observed.archived.clone()).unwrap_or_default();
        Self { repository: repository.clone(), is_ours, revision, absent, archived }
    }

    /// Makes the look from the record of an earlier process. `revision` is the configuration that was
    /// in place. The settings are not recorded: a pass that needs them reads everything first.
    pub(crate) fn recorded(recorded: &RepositoryStatus, revision: String) -> Self {
        let repository = Repository {
            name: recorded.name.clone(),
            arn: recorded.arn.clone(),
            uri: recorded.uri.clone(),
            registry_id: recorded.registry_id.clone(),
            mutability: Mutability::default(),
            scan_on_push: false,
            encryption: Encryption { kind: "AES256".to_owned(), key: None },
        };
        Self {
            repository,
            is_ours: recorded.ownership == Ownership::Created,
            revision,
            absent: BTreeSet::new(),
            archived: BTreeMap::new(),
        }
    }

    /// Makes the next pass ask ECR for all wanted tags, also for those that were missing or archived.
    #[must_use]
    pub(crate) fn without_assumptions(self) -> Self {
        Self { absent: BTreeSet::new(), archived: BTreeMap::new(), ..self }
    }

    /// Returns those of `tags` that ECR is asked for again. The others are assumed to be unchanged.
    pub(super) fn to_ask<'a>(&self, tags: impl Iterator<Item = &'a Tag>) -> BTreeSet<Tag> {
        let is_known = |tag: &&Tag| self.absent.contains(*tag) || self.archived.contains_key(*tag);
        tags.filter(|tag| !is_known(tag)).cloned().collect()
    }
}

#[cfg(test)]
impl Look {
    /// A look for tests.
    pub(crate) fn of_test() -> Self {
        let repository = RepositoryStatus {
            name: "app".to_owned(),
            arn: "arn".to_owned(),
            uri: "host/app".to_owned(),
            registry_id: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            ownership: Ownership::Created,
        };
        Self::recorded(&repository, String::new())
    }
}
