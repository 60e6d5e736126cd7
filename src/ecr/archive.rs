//! Images in archive storage: still named by their tags, but not to be pulled.
//!
//! Without a filter DescribeImages and ListImages know ACTIVE images only, so that an archived tag
//! looks missing, and a copy of it would restore it: against the rule that archived it, at every
//! pass (User Guide, "Archiving an image").

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecr::types::{
    ImageDetail, ImageIdentifier, ImageStatus, ImageStatusFilter, TargetStorageClass,
};

use super::error::Error;
use super::images::{parse_digest, tags_of};
use super::registry::Registry;
use crate::registry::{Digest, Tag};

/// An image that is not ACTIVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its digest.
    pub digest: Digest,
    /// It is on its way back: it was restored a while ago.
    pub activating: bool,
}

impl Registry {
    /// Which of these tags, none of which is ACTIVE, are in the archive.
    ///
    /// Costs one ListImages page where none is; one DescribeImages more for up to 100 that are. If
    /// the repository holds more than a page, tags are found by halving, so that the cost goes by
    /// what is asked and not by what is there.
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
        let candidates = self.listed_at_all(name, tags).await?;
        let candidates: Vec<&Tag> = candidates.iter().collect();
        let details = self.described(name, &candidates).await?;
        Ok(details.iter().flat_map(|image| archived(image, &candidates)).collect())
    }

    /// Brings an image back from the archive. ECR takes its time: it is ACTIVATING until then.
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

    /// Those of `tags` that a listing of all images names; all of them when it has more than a
    /// page.
    async fn listed_at_all(
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

/// This image under each of its tags that was asked for, if it is in the archive or on its way
/// back.
fn archived(image: &ImageDetail, asked: &[&Tag]) -> Vec<(Tag, Archived)> {
    let activating = match image.image_status() {
        Some(ImageStatus::Archived) => false,
        Some(ImageStatus::Activating) => true,
        // Active by now: the next pass sees it.
        _ => return Vec::new(),
    };
    let Some(digest) = parse_digest(image.image_digest()) else { return Vec::new() };
    tags_of(image, asked)
        .map(|tag| (tag, Archived { digest: digest.clone(), activating }))
        .collect()
}
