//! The quick look at ECR between two full surveys: the cost of a pass that finds everything in
//! sync.
//!
//! Settings, policies and resource tags rarely change. They are read once per `driftInterval`, and
//! before anything is written. In between, one DescribeImages per 100 wanted tags shows whether the
//! repository and its tags are unchanged.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::observed::{Observed, ObservedRepository};
use super::pass::Pass;
use crate::ecr::Images;
use crate::failure::Failure;

impl Pass<'_> {
    /// Reads only the wanted tags. Returns `None` if that is not enough: the repository no longer
    /// exists, or the desired configuration has changed.
    ///
    /// A tag that was missing last time is not asked for. If its source can be read now, it will be
    /// copied, and everything is read before that. If not, the tag is still missing. So a tag that
    /// stays missing costs no request.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn quick_look(&self, desired: &Desired) -> Result<Option<Observed>, Failure> {
        let Some(look) = &self.job.earlier.look else { return Ok(None) };
        if look.revision != desired.revision {
            return Ok(None);
        }

        let tags = desired.artifacts.iter().flat_map(|artifact| artifact.tags.keys());
        let unknown = look.to_ask(tags);
        let images = if unknown.is_empty() {
            self.target.repository().await?.map(|_| Images::default())
        } else {
            self.target.images(&unknown).await?
        };

        Ok(images.map(|images| Observed {
            repository: Some(ObservedRepository {
                repository: look.repository.clone(),
                is_ours: look.is_ours,
                configuration_read: false,
                resource_tags: BTreeMap::new(),
                lifecycle: None,
                permission: None,
                images,
                archived: look.archived.clone(),
                owner_is_gone: false,
                incomplete: BTreeSet::new(),
                children: BTreeSet::new(),
                expired: BTreeMap::new(),
            }),
            warnings: Vec::new(),
        }))
    }
}
