//! What earlier passes left for the next ones. Losing it costs requests, never correctness.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Attempts, Pruning};
use super::artifact::TagState;
use super::expired::{Expired, Held};
use super::observed::Observed;
use super::origin::Rebuilt;
#[cfg(test)]
use crate::ecr;
use crate::ecr::{Archived, Repository};
use crate::registry::Tag;

/// What earlier passes left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// What was in ECR when the last pass over the same generation of the spec ended.
    pub held: Held,
    /// Tags that vanished, as far as they were reported.
    pub expired: BTreeMap<Tag, Expired>,
    /// What was made of indexes of which only some platforms are wanted.
    pub rebuilt: BTreeMap<Tag, Rebuilt>,
    /// Keys of resource tags that we set: ours to remove when they are no longer wanted.
    pub managed_tag_keys: BTreeSet<String>,
    /// The revision of the configuration that was in place last; a difference from it is drift.
    pub configuration: Option<String>,
    /// What the last whole look found; `None` asks for another one.
    pub look: Option<Look>,
    /// The sources are asked, too, what the indexes that are in sync name, and ECR whether it has
    /// that.
    pub inspects: bool,
    /// What there was to remove when it was looked for last.
    pub pruning: Option<Pruning>,
    /// Values that were written and not found again.
    pub attempts: Attempts,
}

/// What the last whole look found, as far as the next pass relies on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The repository, with the settings that it has now.
    pub(super) repository: Repository,
    /// We created it.
    pub(super) is_ours: bool,
    /// The configuration that it was compared with.
    pub(super) revision: String,
    /// Wanted tags that are not there, and that the pass did not bring there.
    pub(super) absent: BTreeSet<Tag>,
    /// Wanted tags in the archive.
    pub(super) archived: BTreeMap<Tag, Archived>,
}

impl Look {
    /// What a pass leaves for the next.
    pub(super) fn after(
        observed: &Observed,
        repository: &Repository,
        revision: String,
        is_ours: bool,
        states: impl Iterator<Item = (Tag, TagState)>,
    ) -> Self {
        let there = observed.repository.as_ref();
        let archived = there.map(|there| there.archived.clone()).unwrap_or_default();
        let is_there = |tag: &Tag| there.is_some_and(|there| there.images.tags.contains_key(tag));
        let absent = states.filter(|(tag, state)| {
            matches!(state, TagState::Failed(_)) && !is_there(tag) && !archived.contains_key(tag)
        });
        let absent = absent.map(|(tag, _)| tag).collect();
        Self { repository: repository.clone(), is_ours, revision, absent, archived }
    }

    /// Those of `tags` that are asked for again: the others are taken to be as they were.
    pub(super) fn to_ask<'a>(&self, tags: impl Iterator<Item = &'a Tag>) -> BTreeSet<Tag> {
        let is_known = |tag: &&Tag| self.absent.contains(*tag) || self.archived.contains_key(*tag);
        tags.filter(|tag| !is_known(tag)).cloned().collect()
    }
}

#[cfg(test)]
impl Look {
    /// Some look, for tests of what remembers it.
    pub(crate) fn of_test() -> Self {
        Self {
            repository: Repository {
                name: "app".to_owned(),
                arn: "arn".to_owned(),
                uri: "host/app".to_owned(),
                registry_id: "123456789012".to_owned(),
                mutability: ecr::Mutability::Mutable,
                scan_on_push: false,
                encryption: ecr::Encryption { kind: "AES256".to_owned(), key: None },
            },
            is_ours: true,
            revision: String::new(),
            absent: BTreeSet::new(),
            archived: BTreeMap::new(),
        }
    }
}
