//! The end of a resource whose repository goes with it.

use super::engine::Engine;
use super::job::Job;
use super::ownership::{Claimant, Holder};
use crate::api::v1alpha1::DeletionPolicy;
use crate::class::Class;
use crate::ecr::OWNER_TAG;
use crate::failure::Failure;

/// What became of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It was deleted.
    Deleted {
        /// Its name.
        repository: String,
    },
    /// There was none any more.
    Gone {
        /// Its name.
        repository: String,
    },
    /// It is somebody else's and stays.
    NotOurs {
        /// Its name.
        repository: String,
        /// Whose, where it says so.
        owner: Option<String>,
    },
}

impl std::fmt::Display for Deletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deleted { repository } => write!(f, "deleted repository {repository}"),
            Self::Gone { repository } => write!(f, "repository {repository} was gone already"),
            Self::NotOurs { repository, owner: Some(owner) } => {
                write!(
                    f,
                    "repository {repository} stays: it belongs to {owner} (its resource tag {OWNER_TAG})"
                )
            }
            Self::NotOurs { repository, owner: None } => {
                write!(
                    f,
                    "repository {repository} stays: nothing says that it is ours (it has no resource tag {OWNER_TAG})"
                )
            }
        }
    }
}

impl Engine {
    /// Deletes the repository of a resource as its deletionPolicy says: only one that is its own,
    /// and with images in it only one that we made, by ForceDelete.
    ///
    /// # Errors
    /// As AWS answers; class `RepositoryNotEmpty` where images are in the way.
    pub async fn delete(&self, job: &Job) -> Result<Deletion, Failure> {
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
        let forced = job.spec.deletion_policy == DeletionPolicy::ForceDelete;
        let created = claim.created(&repository.arn, &tags);
        match registry.delete_repository(&name, forced && created).await {
            Ok(()) => Ok(Deletion::Deleted { repository: name }),
            Err(error) if error.class() == Class::RepositoryNotEmpty => {
                let advice = if forced {
                    "it was adopted, not created by the operator, so that ForceDelete does not empty it: delete its images, or \
                     set deletionPolicy to Retain and the resource goes without it"
                } else {
                    "delete its images, set deletionPolicy to ForceDelete if the operator created it, or set it to Retain and \
                     the resource goes without it"
                };
                Err(Failure::new(
                    Class::RepositoryNotEmpty,
                    format!("repository {name} has images in it: {advice}"),
                ))
            }
            Err(error) => Err(error.into()),
        }
    }
}
