//! The observed state of a repository.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::desired::Desired;
use super::expired::Expired;
use crate::api::v1alpha1::Policy;
use crate::ecr::policy::Wanted;
use crate::ecr::{Archived, Images, Repository};
use crate::registry::{Digest, Tag};

/// The content of ECR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The repository; `None` if there is none yet.
    pub(super) repository: Option<ObservedRepository>,
    /// Advice for a person: nothing is wrong.
    pub(super) warnings: Vec<String>,
}

/// A repository that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedRepository {
    /// Names and settings, as ECR describes them.
    pub(super) repository: Repository,
    /// Whether we created it.
    pub(super) is_ours: bool,
    /// Whether settings, policies and resource tags were read. Otherwise they are assumed to be
    /// unchanged, and the fields below are empty.
    pub(super) configuration_read: bool,
    /// All resource tags but AWS's own.
    pub(super) resource_tags: BTreeMap<String, String>,
    /// Text of the lifecycle policy; not read if it is unmanaged.
    pub(super) lifecycle: Option<String>,
    /// Text of the permission policy; not read if it is unmanaged.
    pub(super) permission: Option<String>,
    /// Wanted tags that exist.
    pub(super) images: Images,
    /// Wanted tags in the archive.
    pub(super) archived: BTreeMap<Tag, Archived>,
    /// Whether the owner tag names a resource of this cluster that no longer exists.
    pub(super) owner_is_gone: bool,
    /// Wanted indexes that lack some of their children.
    pub(super) incomplete: BTreeSet<Digest>,
    /// Children of the wanted indexes, if they were read.
    pub(super) children: BTreeSet<Digest>,
    /// Wanted tags that expired, if a lifecycle policy may be the cause.
    pub(super) expired: BTreeMap<Tag, Expired>,
}

/// A repository and its managed configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) repository: Repository,
    /// Empty if they were not read.
    pub(super) resource_tags: BTreeMap<String, String>,
    pub(super) lifecycle: Option<String>,
    pub(super) permission: Option<String>,
}

impl Observed {
    /// Applies the defaults. A repository that we create or created gets all of them. An adopted one
    /// gets only those for parts that it lacks: somebody wrote the others.
    pub(super) fn with_defaults(&self, desired: Desired) -> Desired {
        let Desired { defaults, own, .. } = &desired;
        let adopted = self.repository.as_ref().filter(|repository| !repository.is_ours);
        // Parts that were not read are not compared, either.
        let lacks = |live: fn(&ObservedRepository) -> &Option<String>| {
            adopted.is_none_or(|adopted| adopted.configuration_read && live(adopted).is_none())
        };
        let policy = |default: &Option<Policy>, own: &Wanted, is_lacking: bool| {
            let default = default.clone().filter(|_| is_lacking);
            default.map_or_else(|| own.clone(), Wanted::Document)
        };
        let lifecycle = policy(&defaults.lifecycle, &own.lifecycle, lacks(|live| &live.lifecycle));
        let permission =
            policy(&defaults.permission, &own.permission, lacks(|live| &live.permission));

        let is_missing =
            |key: &String| adopted.is_none_or(|adopted| !adopted.resource_tags.contains_key(key));
        let missing = defaults.resource_tags.iter().filter(|(key, _)| is_missing(key));
        let mut resource_tags = own.resource_tags.clone();
        resource_tags.extend(missing.map(|(key, value)| (key.clone(), value.clone())));

        Desired { lifecycle, permission, resource_tags, ..desired }
    }

    /// Returns the manifests that the repository is known to have.
    pub(super) fn known_manifests(&self) -> HashSet<Digest> {
        let repository = self.repository.as_ref();
        repository.map(|repository| repository.images.manifests.clone()).unwrap_or_default()
    }
}

impl ObservedRepository {
    /// Whether the tag is in ECR, in the archive included.
    pub(super) fn has_tag(&self, tag: &Tag) -> bool {
        self.images.tags.contains_key(tag) || self.archived.contains_key(tag)
    }
}
