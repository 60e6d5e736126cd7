//! spec -> [`Observed`]: what ECR has.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claimant, Desired, Engine, Failure, Job};
use crate::ecr::policy::Wanted;
use crate::ecr::{self, Images, OWNER_TAG, Owner, Repository};

/// What ECR has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The repository; `None` if there is none yet.
    pub repository: Option<ObservedRepository>,
}

/// A repository that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRepository {
    /// As ECR describes it.
    pub repository: Repository,
    /// All resource tags but AWS's own.
    pub resource_tags: BTreeMap<String, String>,
    /// Text of the lifecycle policy; not read where it is unmanaged.
    pub lifecycle: Option<String>,
    /// Text of the permission policy; not read where it is unmanaged.
    pub permission: Option<String>,
    /// Wanted tags that are there.
    pub images: Images,
    /// The owner tag names a resource of this cluster that no longer exists.
    pub owner_is_gone: bool,
}

impl Engine {
    /// Reads what the plan needs to know and no more: an unmanaged policy is not asked for.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn observe(
        &self,
        registry: &ecr::Registry,
        job: &Job,
        desired: &Desired,
    ) -> Result<Observed, Failure> {
        let name = &desired.repository;
        let Some(repository) = registry.repository(name).await? else { return Ok(Observed::default()) };
        let wanted: BTreeSet<_> = desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys().cloned()).collect();
        let lifecycle = async {
            if desired.lifecycle == Wanted::Unmanaged { Ok(None) } else { registry.lifecycle_policy(name).await }
        };
        let permission = async {
            if desired.permission == Wanted::Unmanaged { Ok(None) } else { registry.permission_policy(name).await }
        };
        let (resource_tags, lifecycle, permission, images) = tokio::try_join!(
            registry.resource_tags(&repository),
            lifecycle,
            permission,
            registry.images(name, &wanted)
        )?;
        let owner_is_gone = self.owner_is_gone(&job.claimant, resource_tags.get(OWNER_TAG)).await;
        let repository = ObservedRepository { repository, resource_tags, lifecycle, permission, images, owner_is_gone };
        Ok(Observed { repository: Some(repository) })
    }

    async fn owner_is_gone(&self, claimant: &Claimant, tag: Option<&String>) -> bool {
        let (Claimant::Resource(me), Some(owners)) = (claimant, &self.owners) else { return false };
        match tag.and_then(|value| Owner::from_tag_value(value)) {
            Some(owner) if owner.cluster == me.cluster && owner != *me => owners.is_gone(&owner).await,
            _ => false,
        }
    }
}
