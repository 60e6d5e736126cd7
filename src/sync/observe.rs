//! spec -> [`Observed`]: reads ECR.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::earlier::Earlier;
use super::expired;
use super::incomplete_index::Inspection;
use super::observed::{Configuration, Observed, ObservedRepository};
use super::ownership::Claimant;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::api::v1alpha1::Policy;
use crate::class::Class;
use crate::ecr::OWNER_TAG;
use crate::ecr::policy::{Kind, Wanted};
use crate::failure::Failure;

impl Pass<'_> {
    /// Reads the repository and its managed configuration. Unmanaged policies are not read.
    /// Throttled calls are retried. Returns `None` if there is no repository.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn configuration(
        &self,
        desired: &Desired,
    ) -> Result<Option<Configuration>, Failure> {
        let registry = &self.target.registry;
        let repository = retry_throttled(|| self.target.repository()).await?;
        let Some(repository) = repository.cloned() else { return Ok(None) };

        let reads_tags = self.needs_resource_tags(desired);
        let resource_tags = || async {
            if !reads_tags {
                return Ok(BTreeMap::new());
            }
            registry.resource_tags(&repository).await
        };
        let lifecycle =
            self.policy(Kind::Lifecycle, &desired.lifecycle, &desired.defaults.lifecycle);
        let permission =
            self.policy(Kind::Permission, &desired.permission, &desired.defaults.permission);
        let (resource_tags, lifecycle, permission) =
            tokio::try_join!(retry_throttled(resource_tags), lifecycle, permission)?;

        Ok(Some(Configuration { repository, resource_tags, lifecycle, permission }))
    }

    /// Reads a policy, if it is managed or has a default.
    async fn policy(
        &self,
        kind: Kind,
        wanted: &Wanted,
        default: &Option<Policy>,
    ) -> Result<Option<String>, Failure> {
        if *wanted == Wanted::Unmanaged && default.is_none() {
            return Ok(None);
        }
        retry_throttled(|| self.target.registry.policy(kind, self.target.name())).await
    }

    /// Reads the rest, above all the wanted tags. Throttled calls are retried.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn observe(
        &self,
        desired: &Desired,
        configuration: Option<Configuration>,
    ) -> Result<Observed, Failure> {
        let Pass { job, target, .. } = self;
        let Some(Configuration { repository, resource_tags, lifecycle, permission }) =
            configuration
        else {
            return Ok(Observed::default());
        };

        let wanted: BTreeSet<_> =
            desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys().cloned()).collect();
        let tags = retry_throttled(|| target.tags(&wanted)).await?;
        let is_ours = job.claimant.created(&repository.arn, &resource_tags);
        let warnings = self.pull_through_advice(is_ours).await.into_iter().collect();
        let owner_is_gone = self.owner_is_gone(resource_tags.get(OWNER_TAG)).await;

        let mut images = tags.images;
        let Inspection { incomplete, children } = if job.earlier.inspects || self.prunes() {
            self.inspect_indexes(desired, &mut images).await?
        } else {
            Inspection::default()
        };

        let repository = ObservedRepository {
            repository,
            is_ours,
            configuration_read: true,
            resource_tags,
            lifecycle,
            permission,
            images,
            archived: tags.archived,
            owner_is_gone,
            incomplete,
            children,
            expired: BTreeMap::new(),
        };
        Ok(Observed { repository: Some(repository), warnings })
    }

    /// Warns if the repository belongs to a pull-through cache rule. ECR creates the repositories
    /// of such a rule, so they are not ours. A run from the command line ends before the advice
    /// matters.
    async fn pull_through_advice(&self, is_ours: bool) -> Option<String> {
        if is_ours || !matches!(self.job.claimant, Claimant::Resource(_)) {
            return None;
        }
        let name = self.target.name();
        let prefix = self.target.registry.pull_through_rule(name).await?;
        Some(format!(
            "repository {name} is in the pull-through cache rule {prefix}: ECR also writes images \
             there, so a tag that both write will keep flipping; choose a repositoryName outside \
             of {prefix}/, or delete the rule"
        ))
    }

    /// Adds the expired tags, if a lifecycle policy may be the cause. Without one, a person deleted
    /// the tags, and may do so any number of times.
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

    /// Adds the wanted tags that were in ECR when an earlier pass ended and are missing now.
    pub(super) fn count_expired(&self, desired: &Desired, mut observed: Observed) -> Observed {
        if let Some(repository) = &mut observed.repository {
            let Earlier { held, expired, .. } = &self.job.earlier;
            let is_in_ecr = |tag: &_| repository.has_tag(tag);
            repository.expired = expired::count(held, expired, desired, is_in_ecr);
        }
        observed
    }

    /// Whether the repository has a lifecycle policy, ours or not.
    async fn has_lifecycle_policy(&self, desired: &Desired) -> Result<bool, Failure> {
        match &desired.lifecycle {
            Wanted::Document(_) => Ok(true),
            Wanted::None => Ok(false),
            Wanted::Unmanaged => {
                match self.target.registry.policy(Kind::Lifecycle, self.target.name()).await {
                    Ok(policy) => Ok(policy.is_some()),
                    // The policy is unmanaged, so the permission to read it may be missing.
                    Err(error) if error.class() == Class::AccessDenied => Ok(true),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Whether the owner tag names a resource of this cluster that no longer exists.
    pub(super) async fn owner_is_gone(&self, tag: Option<&String>) -> bool {
        let (Claimant::Resource(claim), Some(owners)) = (&self.job.claimant, &self.engine.owners)
        else {
            return false;
        };
        match tag.and_then(|mark| claim.other_of_this_cluster(mark)) {
            Some(owner) => owners.is_gone(&owner, self.target.name()).await,
            None => false,
        }
    }
}
