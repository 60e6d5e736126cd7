//! spec -> [`Observed`]: what ECR has.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::earlier::Earlier;
use super::expired;
use super::incomplete_index::Named;
use super::observed::{Configuration, Observed, ObservedRepository};
use super::ownership::Claimant;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::api::v1alpha1::Policy;
use crate::class::Class;
use crate::ecr::OWNER_TAG;
use crate::ecr::policy::{Kind, Wanted};
use crate::failure::Failure;
use crate::registry::Tag;

impl Pass<'_> {
    /// Reads what of the repository the plan needs to know and no more: an unmanaged policy is not
    /// asked for. A throttle is waited out. `None` if there is no repository. Resource tags are
    /// read `with_tags` only.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn configuration(
        &self,
        desired: &Desired,
    ) -> Result<Option<Configuration>, Failure> {
        let (name, registry) = (&desired.repository, &self.target.registry);
        let Some(repository) = retry_throttled(|| self.target.repository()).await?.cloned() else {
            return Ok(None);
        };
        let is_wanted = |wanted: &Wanted, default: &Option<Policy>| {
            *wanted != Wanted::Unmanaged || default.is_some()
        };
        let resource_tags = || async {
            if self.needs_resource_tags(desired) {
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
            retry_throttled(resource_tags),
            retry_throttled(lifecycle),
            retry_throttled(permission)
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
        desired: &Desired,
        configuration: Option<Configuration>,
    ) -> Result<Observed, Failure> {
        let Pass { job, target, .. } = self;
        let (name, registry) = (&desired.repository, &target.registry);
        let Some(Configuration { repository, resource_tags, lifecycle, permission }) =
            configuration
        else {
            return Ok(Observed::default());
        };
        let wanted: BTreeSet<_> =
            desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys().cloned()).collect();
        let seen = retry_throttled(|| target.seen(&wanted)).await?;
        let is_ours = job.claimant.created(&repository.arn, &resource_tags);
        // What ECR made by such a rule was there before us. A run from the command line is over
        // before the advice matters.
        let mut warnings = Vec::new();
        if !is_ours
            && matches!(job.claimant, Claimant::Resource(_))
            && let Some(prefix) = registry.pull_through_rule(name).await
        {
            warnings.push(format!(
                "repository {name} lies under the pull-through cache rule {prefix}: ECR itself writes images into it, and a tag \
                 that both write changes to and fro; choose a repositoryName outside of {prefix}/, or delete the rule"
            ));
        }
        let owner_is_gone = self.owner_is_gone(name, resource_tags.get(OWNER_TAG)).await;
        let mut images = seen.images;
        let Named { incomplete, children } = match job.earlier.inspects || self.prunes() {
            true => self.named(desired, &mut images).await?,
            false => Named::default(),
        };
        let repository = ObservedRepository {
            repository,
            is_ours,
            configuration_read: true,
            resource_tags,
            lifecycle,
            permission,
            images,
            incomplete,
            children,
            archived: seen.archived,
            owner_is_gone,
            expired: BTreeMap::new(),
        };
        Ok(Observed { repository: Some(repository), warnings })
    }

    /// Adds the wanted tags that vanished, where a lifecycle policy may be why: without one it was
    /// a person, who may do so as often as they like.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn with_expired(
        &self,
        desired: &Desired,
        observed: Observed,
    ) -> Result<Observed, Failure> {
        let mut observed = self.count_expired(desired, observed);
        if let Some(repository) = &mut observed.repository
            && !repository.expired.is_empty()
            && !retry_throttled(|| self.has_lifecycle_policy(desired)).await?
        {
            repository.expired.clear();
        }
        Ok(observed)
    }

    /// Counts the wanted tags that were in ECR when an earlier pass ended, and are missing now.
    pub(super) fn count_expired(&self, desired: &Desired, mut observed: Observed) -> Observed {
        if let Some(repository) = &mut observed.repository {
            let is_there = |tag: &Tag| {
                repository.images.tags.contains_key(tag) || repository.archived.contains_key(tag)
            };
            let Earlier { held, expired, .. } = &self.job.earlier;
            repository.expired = expired::count(held, expired, desired, is_there);
        }
        observed
    }

    /// Whether there is one, ours or not.
    async fn has_lifecycle_policy(&self, desired: &Desired) -> Result<bool, Failure> {
        match &desired.lifecycle {
            Wanted::Document(_) => Ok(true),
            Wanted::None => Ok(false),
            Wanted::Unmanaged => {
                match self.target.registry.policy(Kind::Lifecycle, &desired.repository).await {
                    Ok(policy) => Ok(policy.is_some()),
                    // It is not ours, so that we need not be allowed to read it.
                    Err(error) if error.class() == Class::AccessDenied => Ok(true),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn owner_is_gone(&self, repository: &str, tag: Option<&String>) -> bool {
        let (Claimant::Resource(claim), Some(owners)) = (&self.job.claimant, &self.engine.owners)
        else {
            return false;
        };
        match tag.and_then(|mark| claim.other_of_this_cluster(mark)) {
            Some(owner) => owners.is_gone(&owner, repository).await,
            None => false,
        }
    }
}
