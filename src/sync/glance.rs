//! The short look at ECR between two whole ones: what a pass costs that finds everything in order.
//!
//! Settings, policies and resource tags do not change by themselves. They are read once per
//! `driftInterval`, and whenever something is about to be written; in between one DescribeImages
//! per 100 wanted tags tells that the repository and its tags are as they were.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::Has;
use super::target::Target;
use super::{
    Before, Desired, Engine, Failure, Job, Observed, ObservedRepository, TagState, vanished,
};
#[cfg(test)]
use crate::ecr;
use crate::ecr::{Archived, Images, Repository};
use crate::registry::Tag;

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
        desired: &Desired,
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
        Self {
            repository: repository.clone(),
            is_ours,
            revision: desired.revision.clone(),
            absent,
            archived,
        }
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

impl Engine {
    /// Looks only whether the wanted tags are as they were. `None` where that is not enough: the
    /// repository is gone, or another configuration is wanted.
    ///
    /// A tag that was not there last time is not asked for. If it can be had now, something is to
    /// be written, and then all is read anyway; if not, it counts as missing: so a tag that is
    /// missing for good costs nothing.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn glance(
        &self,
        target: &Target<'_>,
        job: &Job,
        desired: &mut Desired,
    ) -> Result<Option<Observed>, Failure> {
        let Before { look: Some(look), .. } = &job.before else { return Ok(None) };
        if look.revision != desired.revision {
            return Ok(None);
        }
        let asked = look.to_ask(desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys()));
        let images = if asked.is_empty() {
            target.repository().await?.map(|_| Images::default())
        } else {
            target.images(&asked).await?
        };
        let Some(images) = images else { return Ok(None) };
        // Not read now: nothing is compared with them.
        let resource_tags = BTreeMap::new();
        desired.take_defaults(Some(Has {
            is_ours: look.is_ours,
            lifecycle: true,
            permission: true,
            resource_tags: &resource_tags,
        }));
        let is_there = |tag: &Tag| images.tags.contains_key(tag) || look.archived.contains_key(tag);
        let vanished = vanished::count(&job.before, desired, is_there);
        Ok(Some(Observed {
            repository: Some(ObservedRepository {
                repository: look.repository.clone(),
                is_whole: false,
                resource_tags,
                lifecycle: None,
                permission: None,
                images,
                hollow: BTreeSet::new(),
                children: BTreeSet::new(),
                archived: look.archived.clone(),
                owner_is_gone: false,
                vanished,
            }),
        }))
    }
}
