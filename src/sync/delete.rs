//! Deletion of a repository together with its resource.

use super::engine::Engine;
use super::field::Field;
use super::job::Job;
use super::ownership::{Claimant, Holder};
use crate::api::v1alpha1::DeletionPolicy;
use crate::class::Class;
use crate::ecr::OWNER_TAG;
use crate::failure::Failure;
use crate::writes::{self, Change};

/// The result of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The repository was deleted.
    Deleted {
        /// Name of the repository.
        repository: String,
    },
    /// There was no repository.
    Gone {
        /// Name of the repository.
        repository: String,
    },
    /// The repository is kept, since it is not ours.
    NotOurs {
        /// Name of the repository.
        repository: String,
        /// The owner, if the owner tag names one.
        owner: Option<String>,
    },
}

impl std::fmt::Display for Deletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deleted { repository } => write!(f, "deleted repository {repository}"),
            Self::Gone { repository } => write!(f, "repository {repository} did not exist"),
            Self::NotOurs { repository, owner: Some(owner) } => write!(
                f,
                "kept repository {repository}: it belongs to {owner} (resource tag {OWNER_TAG})"
            ),
            Self::NotOurs { repository, owner: None } => write!(
                f,
                "kept repository {repository}: it has no resource tag {OWNER_TAG}, so it may not \
                 be ours"
            ),
        }
    }
}

impl Engine {
    /// Deletes the repository of a resource according to its deletionPolicy, if it is its own. A
    /// repository with images is deleted only by ForceDelete, and only if we created it.
    ///
    /// # Errors
    /// As AWS answers; class `RepositoryNotEmpty` if the repository has images.
    pub async fn delete(&self, job: &Job) -> Result<Deletion, Failure> {
        self.author(job).writes(self.try_delete(job)).await
    }

    async fn try_delete(&self, job: &Job) -> Result<Deletion, Failure> {
        let Claimant::Resource(claim) = &job.claimant else {
            return Err(Failure::new(Class::Internal, "only resources delete repositories"));
        };
        let name = job.spec.repository.clone();
        let registry = self.registry(job).await?;
        job.progress.advance(1);
        let Some(repository) = registry.repository(&name).await? else {
            return Ok(Deletion::Gone { repository: name });
        };

        let tags = registry.resource_tags(&repository).await?;
        job.progress.advance(1);
        match claim.holder_at_the_end(&repository.arn, &tags) {
            Holder::Me => {}
            Holder::Nobody => return Ok(Deletion::NotOurs { repository: name, owner: None }),
            Holder::Other(owner) => {
                return Ok(Deletion::NotOurs { repository: name, owner: Some(owner) });
            }
        }

        let is_forced = job.spec.deletion_policy == DeletionPolicy::ForceDelete;
        let is_created = claim.created(&repository.arn, &tags);
        let change = Change {
            field: Field::Repository.as_str(),
            before: repository.arn.clone(),
            after: String::new(),
        };
        let delete = registry.delete_repository(&name, is_forced && is_created);
        match writes::write(change, delete).await {
            Ok(()) => Ok(Deletion::Deleted { repository: name }),
            Err(error) if error.class() == Class::RepositoryNotEmpty => {
                let advice = if is_forced {
                    "it was adopted, not created by the operator, so ForceDelete does not apply. \
                     Delete its images, or set deletionPolicy: Retain to delete the resource and \
                     keep the repository"
                } else {
                    "delete its images, set deletionPolicy: ForceDelete if the operator created \
                     it, or set deletionPolicy: Retain to delete the resource and keep the \
                     repository"
                };
                let message = format!("repository {name} has images: {advice}");
                Err(Failure::new(Class::RepositoryNotEmpty, message))
            }
            Err(error) => Err(error.into()),
        }
    }
}
