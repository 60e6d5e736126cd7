//! spec -> [`Observed`]: what ECR has.

use std::collections::{BTreeMap, BTreeSet};

use super::hollow::Named;
use super::patience::patiently;
use super::resolve::Has;
use super::target::Target;
use super::{Claimant, Desired, Engine, Failure, Job, Vanished, vanished};
use crate::api::v1alpha1::Policy;
use crate::class::Class;
use crate::ecr::policy::{Kind, Wanted};
use crate::ecr::{self, Archived, Images, OWNER_TAG, Repository};
use crate::registry::{Digest, Tag};

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
    /// Settings, policies and resource tags were read; else they are as they were, and nothing is
    /// known of them.
    pub is_whole: bool,
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
    pub hollow: BTreeSet<Digest>,
    /// What wanted indexes name that are there, as far as that was looked at.
    pub children: BTreeSet<Digest>,
    /// Wanted tags that were there before and vanished, while there is a lifecycle policy that may
    /// be why.
    pub vanished: BTreeMap<Tag, Vanished>,
}

/// A repository and its configuration, as far as they are managed.
#[derive(Debug)]
pub(super) struct Configuration {
    repository: Repository,
    /// Empty where they were not asked for.
    resource_tags: BTreeMap<String, String>,
    lifecycle: Option<String>,
    permission: Option<String>,
}

impl Engine {
    /// Reads what of the repository the plan needs to know and no more: an unmanaged policy is not
    /// asked for. A throttle is waited out. `None` if there is no repository. Resource tags are
    /// read `with_tags` only.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn configuration(
        &self,
        target: &Target<'_>,
        desired: &Desired,
        with_tags: bool,
    ) -> Result<Option<Configuration>, Failure> {
        let (name, registry) = (&desired.repository, target.registry);
        let Some(repository) = patiently(|| target.repository()).await?.cloned() else {
            return Ok(None);
        };
        let is_wanted = |wanted: &Wanted, default: &Option<Policy>| {
            *wanted != Wanted::Unmanaged || default.is_some()
        };
        let resource_tags = || async {
            if with_tags {
                Ok(registry.resource_tags(&repository).await?)
            } else {
                Ok(BTreeMap::new())
            }
        };
        let lifecycle = || async {
            let read = is_wanted(&desired.lifecycle, &desired.defaults.lifecycle);
            if read { Ok(registry.policy(Kind::Lifecycle, name).await?) } else { Ok(None) }
        };
        let permission = || async {
            let read = is_wanted(&desired.permission, &desired.defaults.permission);
            if read { Ok(registry.policy(Kind::Permission, name).await?) } else { Ok(None) }
        };
        let (resource_tags, lifecycle, permission) = tokio::try_join!(
            patiently(resource_tags),
            patiently(lifecycle),
            patiently(permission)
        )?;
        Ok(Some(Configuration { repository, resource_tags, lifecycle, permission }))
    }

    /// Reads the rest, the wanted tags above all. Defaults become part of what is wanted, now that
    /// it is known whose repository it is. A throttle is waited out. What indexes name is asked
    /// where the pass `inspects`.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn observe(
        &self,
        target: &Target<'_>,
        job: &Job,
        desired: &mut Desired,
        configuration: Option<Configuration>,
        inspects: bool,
    ) -> Result<Observed, Failure> {
        let name = &desired.repository.clone();
        let registry = target.registry;
        let Some(Configuration { repository, resource_tags, lifecycle, permission }) =
            configuration
        else {
            desired.take_defaults(None);
            return Ok(Observed::default());
        };
        let wanted: BTreeSet<_> =
            desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys().cloned()).collect();
        let seen = patiently(|| target.seen(&wanted)).await?;
        let is_ours = job.claimant.created(&repository.arn, &resource_tags);
        // What ECR made by such a rule was there before us. A run from the command line is over
        // before the advice matters.
        if !is_ours
            && matches!(job.claimant, Claimant::Resource(_))
            && let Some(prefix) = registry.pull_through_rule(name).await
        {
            desired.warnings.push(format!(
                "repository {name} lies under the pull-through cache rule {prefix}: ECR itself writes images into it, and a tag \
                 that both write changes to and fro; choose a repositoryName outside of {prefix}/, or delete the rule"
            ));
        }
        desired.take_defaults(Some(Has {
            is_ours,
            lifecycle: lifecycle.is_some(),
            permission: permission.is_some(),
            resource_tags: &resource_tags,
        }));
        let owner_is_gone =
            self.owner_is_gone(&job.claimant, name, resource_tags.get(OWNER_TAG)).await;
        let mut vanished = vanished::count(&job.before, desired, |tag| !seen.lacks(tag));
        // Without a lifecycle policy it was a person, who may do so as often as they like.
        if !vanished.is_empty()
            && !patiently(|| self.has_lifecycle_policy(registry, desired)).await?
        {
            vanished.clear();
        }
        let mut images = seen.images;
        let Named { hollow, children } = match inspects {
            true => self.named(target, job, desired, &mut images).await?,
            false => Named::default(),
        };
        let repository = ObservedRepository {
            repository,
            is_whole: true,
            resource_tags,
            lifecycle,
            permission,
            images,
            hollow,
            children,
            archived: seen.archived,
            owner_is_gone,
            vanished,
        };
        Ok(Observed { repository: Some(repository) })
    }

    /// Whether there is one, ours or not.
    async fn has_lifecycle_policy(
        &self,
        registry: &ecr::Registry,
        desired: &Desired,
    ) -> Result<bool, Failure> {
        match &desired.lifecycle {
            Wanted::Document(_) => Ok(true),
            Wanted::None => Ok(false),
            Wanted::Unmanaged => {
                match registry.policy(Kind::Lifecycle, &desired.repository).await {
                    Ok(policy) => Ok(policy.is_some()),
                    // It is not ours, so that we need not be allowed to read it.
                    Err(error) if error.class() == Class::AccessDenied => Ok(true),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn owner_is_gone(
        &self,
        claimant: &Claimant,
        repository: &str,
        tag: Option<&String>,
    ) -> bool {
        let (Claimant::Resource(claim), Some(owners)) = (claimant, &self.owners) else {
            return false;
        };
        match tag.and_then(|mark| claim.other_of_this_cluster(mark)) {
            Some(owner) => owners.is_gone(&owner, repository).await,
            None => false,
        }
    }
}
