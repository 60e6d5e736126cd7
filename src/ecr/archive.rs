//! Images in archive storage: their tags exist, but they cannot be pulled.
//!
//! Without a filter, DescribeImages and ListImages return ACTIVE images only. An archived tag then
//! looks missing, and copying it would restore it in every pass, against the rule that archived it
//! (User Guide, "Archiving an image").

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecr::types::{
    ImageDetail, ImageIdentifier, ImageStatus, ImageStatusFilter, TargetStorageClass,
};

use super::error::Error;
use super::images::{parse_digest, tags_of};
use super::registry::Registry;
use crate::registry::{Digest, Tag};

/// An image in archive storage, or on its way back from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The image's digest.
    pub digest: Digest,
    /// Whether ECR is restoring it (status ACTIVATING).
    pub activating: bool,
}

impl Registry {
    /// Returns those of `tags`, none of which is ACTIVE, that are in the archive.
    ///
    /// Costs one ListImages page if none is, and one DescribeImages more per 100 that are. If the
    /// repository has more than one page, the tags are found by halving the batch: the cost depends
    /// on the number of `tags`, not on the size of the repository.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn archived_images(
        &self,
        name: &str,
        tags: &BTreeSet<Tag>,
    ) -> Result<BTreeMap<Tag, Archived>, Error> {
        if tags.is_empty() {
            return Ok(BTreeMap::new());
        }
        let candidates = self.in_any_status(name, tags).await?;
        let candidates: Vec<&Tag> = candidates.iter().collect();
        let details = self.describe_tags(name, &candidates).await?;
        Ok(details.iter().flat_map(|image| archived(image, &candidates)).collect())
    }

    /// Starts to restore an image from the archive. It is ACTIVATING until ECR is done.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn restore_image(&self, name: &str, digest: &Digest) -> Result<(), Error> {
        self.client
            .update_image_storage_class()
            .registry_id(&self.account)
            .repository_name(name)
            .image_id(ImageIdentifier::builder().image_digest(digest.as_str()).build())
            .target_storage_class(TargetStorageClass::Standard)
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::from_sdk("ecr:UpdateImageStorageClass", name, &error))
    }

    /// Returns those of `tags` that a listing of all images has; all `tags` if the listing has more
    /// than one page.
    async fn in_any_status(
        &self,
        name: &str,
        tags: &BTreeSet<Tag>,
    ) -> Result<BTreeSet<Tag>, Error> {
        let answer = self.list(name, Some(ImageStatusFilter::Any)).await?;
        if answer.next_token().is_some() {
            return Ok(tags.clone());
        }
        let listed: BTreeSet<&str> =
            answer.image_ids().iter().filter_map(|id| id.image_tag()).collect();
        Ok(tags.iter().filter(|tag| listed.contains(tag.as_str())).cloned().collect())
    }
}

/// Returns the image under each of its tags that is in `asked`, if it is archived or ACTIVATING.
fn archived(image: &ImageDetail, asked: &[&Tag]) -> Vec<(Tag, Archived)> {
    let activating = match image.image_status() {
        Some(ImageStatus::Archived) => false,
        Some(ImageStatus::Activating) => true,
        // ACTIVE by now: the next pass sees it.
        _ => return Vec::new(),
    };
    let Some(digest) = parse_digest(image.image_digest()) else { return Vec::new() };
    tags_of(image, asked)
        .map(|tag| (tag, Archived { digest: digest.clone(), activating }))
        .collect()
}
