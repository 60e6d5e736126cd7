//! The short look at ECR between two whole ones: what a pass costs that finds everything in order.
//!
//! Settings, policies and resource tags do not change by themselves. They are read once per
//! `driftInterval`, and whenever something is about to be written; in between one DescribeImages
//! per 100 wanted tags tells that the repository and its tags are as they were.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::observed::{Observed, ObservedRepository};
use super::pass::Pass;
use crate::ecr::Images;
use crate::failure::Failure;

impl Pass<'_> {
    /// Looks only whether the wanted tags are as they were. `None` where that is not enough: the
    /// repository is gone, or another configuration is wanted.
    ///
    /// A tag that was not there last time is not asked for. If it can be had now, something is to
    /// be written, and then all is read anyway; if not, it counts as missing: so a tag that is
    /// missing for good costs nothing.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn quick_look(&self, desired: &Desired) -> Result<Option<Observed>, Failure> {
        let Some(look) = &self.job.earlier.look else { return Ok(None) };
        if look.revision != desired.revision {
            return Ok(None);
        }
        let asked = look.to_ask(desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys()));
        let images = if asked.is_empty() {
            self.target.repository().await?.map(|_| Images::default())
        } else {
            self.target.images(&asked).await?
        };
        let Some(images) = images else { return Ok(None) };
        Ok(Some(Observed {
            repository: Some(ObservedRepository {
                repository: look.repository.clone(),
                is_ours: look.is_ours,
                configuration_read: false,
                resource_tags: BTreeMap::new(),
                lifecycle: None,
                permission: None,
                images,
                incomplete: BTreeSet::new(),
                children: BTreeSet::new(),
                archived: look.archived.clone(),
                owner_is_gone: false,
                expired: BTreeMap::new(),
            }),
            warnings: Vec::new(),
        }))
    }
}
