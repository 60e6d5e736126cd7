//! What ECR has.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Has;
use super::expired::Expired;
use crate::ecr::{Archived, Images, Repository};
use crate::registry::{Digest, Tag};

/// What ECR has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The repository; `None` if there is none yet.
    pub repository: Option<ObservedRepository>,
    /// What a person should know, although nothing is wrong.
    pub warnings: Vec<String>,
}

/// A repository that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRepository {
    /// As ECR describes it.
    pub repository: Repository,
    /// We created it.
    pub is_ours: bool,
    /// Settings, policies and resource tags were read; else they are as they were, and nothing is
    /// known of them.
    pub configuration_read: bool,
    /// All resource tags but AWS's own.
    pub resource_tags: BTreeMap<String, String>,
    /// Text of the lifecycle policy; not read where it is unmanaged.
    pub lifecycle: Option<String>,
    /// Text of the permission policy; not read where it is unmanaged.
    pub permission: Option<String>,
    /// Wanted tags that are there.
    pub images: Images,
    /// Wanted tags that are in the archive.
    pub archived: BTreeMap<Tag, Archived>,
    /// The owner tag names a resource of this cluster that no longer exists.
    pub owner_is_gone: bool,
    /// Wanted indexes that are there and lack something that they name.
    pub incomplete: BTreeSet<Digest>,
    /// What wanted indexes name that are there, as far as that was looked at.
    pub children: BTreeSet<Digest>,
    /// Wanted tags that were there before and vanished, while there is a lifecycle policy that may
    /// be why.
    pub expired: BTreeMap<Tag, Expired>,
}

/// A repository and its configuration, as far as they are managed.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) repository: Repository,
    /// Empty where they were not asked for.
    pub(super) resource_tags: BTreeMap<String, String>,
    pub(super) lifecycle: Option<String>,
    pub(super) permission: Option<String>,
}

impl Observed {
    /// Which of the parts that have a default the repository already has; `None` if there is no
    /// repository.
    pub(super) fn has(&self) -> Option<Has<'_>> {
        self.repository.as_ref().map(|repository| Has {
            is_ours: repository.is_ours,
            // What was not read is not compared either.
            lifecycle: !repository.configuration_read || repository.lifecycle.is_some(),
            permission: !repository.configuration_read || repository.permission.is_some(),
            resource_tags: &repository.resource_tags,
        })
    }
}
