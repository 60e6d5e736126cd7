//! All images of a repository, and the removal of tags: for pruning. The cost depends on the size
//! of the repository, so nothing else uses this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use aws_sdk_ecr::primitives::DateTime;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageFailure, ImageFailureCode, ImageIdentifier,
    ImageStatus, ImageStatusFilter,
};

use super::error::{Error, none_if};
use super::images::{PAGE, is_index, parse_digest};
use super::registry::Registry;
use crate::registry::{Digest, Tag};

/// An image in a repository, tagged or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The image's digest.
    pub digest: Digest,
    /// All tags of the image.
    pub tags: Vec<Tag>,
    /// Time of the last push, pull or restore, whichever was latest. ECR records at least one pull
    /// in 24 hours, not each. `None` if ECR gives no time.
    pub used: Option<SystemTime>,
    /// Whether the image can be pulled; an archived one cannot.
    pub is_active: bool,
    /// Whether the image is an index of other images.
    pub is_index: bool,
    /// Digest of the image that a referrer, such as a signature, belongs to.
    pub subject: Option<Digest>,
}

/// One page of a repository's images.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The images.
    pub images: Vec<Stored>,
    /// Token of the next page; `None` after the last one.
    pub next: Option<String>,
}

/// Result of the removal of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The tag is removed, and its image too if that was the last tag.
    Removed,
    /// Not removed: the last tag of an image that is part of an index, which ECR keeps.
    Named,
    /// Not removed: somebody has moved the tag to another image.
    Moved,
    /// Removed from another image, whose digest this is: somebody had just moved the tag.
    RemovedFrom(Digest),
    /// ECR's reason.
    Failed(String),
}

/// A tag to remove.
#[derive(Clone, Debug)]
pub struct TagToRemove {
    /// The tag.
    pub tag: Tag,
    /// The digest of its image.
    pub digest: Digest,
    /// Whether the image keeps another tag.
    pub is_shared: bool,
}

impl TagToRemove {
    fn id(&self) -> ImageIdentifier {
        let digest = (!self.is_shared).then(|| self.digest.to_string());
        ImageIdentifier::builder().image_tag(self.tag.as_str()).set_image_digest(digest).build()
    }
}

impl Registry {
    /// Returns up to 1,000 images of a repository, archived ones included, from the `next` of an
    /// earlier page on; `None` if there is no such repository. Costs one request.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn contents(&self, name: &str, from: Option<&str>) -> Result<Option<Page>, Error> {
        let page = self
            .client
            .describe_images()
            .registry_id(&self.account)
            .repository_name(name)
            .filter(DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build())
            .max_results(PAGE)
            .set_next_token(from.map(str::to_owned))
            .send()
            .await;

        let page = none_if(page, "RepositoryNotFoundException", "ecr:DescribeImages", name)?;
        Ok(page.map(|page| Page {
            images: page.image_details().iter().filter_map(stored).collect(),
            next: page.next_token,
        }))
    }

    /// Returns the images that have one of these tags now, archived ones included. Costs one
    /// request per 100 tags if none is missing.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn stored(&self, name: &str, tags: &BTreeSet<Tag>) -> Result<Vec<Stored>, Error> {
        let tags: Vec<&Tag> = tags.iter().collect();
        Ok(self.describe_tags(name, &tags).await?.iter().filter_map(stored).collect())
    }

    /// Removes at most 100 tags from these images. ECR deletes an image with its last tag.
    ///
    /// An image that loses all its tags is named by tag and digest: ECR refuses a tag that somebody
    /// has moved. An image that keeps a tag is named by the others alone. The effect of both
    /// together is not documented then: it might be that of the digest, which deletes the image
    /// with all its tags.
    ///
    /// # Errors
    /// As AWS answers to the call as a whole.
    pub async fn remove_tags(
        &self,
        name: &str,
        tags: &[TagToRemove],
    ) -> Result<BTreeMap<Tag, Removal>, Error> {
        let ids: Vec<ImageIdentifier> = tags.iter().map(TagToRemove::id).collect();
        let answer = self
            .client
            .batch_delete_image()
            .registry_id(&self.account)
            .repository_name(name)
            .set_image_ids(Some(ids))
            .send()
            .await
            .map_err(|error| Error::from_sdk("ecr:BatchDeleteImage", name, &error))?;

        let removal = |TagToRemove { tag, digest, .. }: &TagToRemove| {
            let is_of_tag = |id: &&ImageIdentifier| id.image_tag() == Some(tag.as_str());
            let failure = answer
                .failures()
                .iter()
                .find(|failure| failure.image_id().as_ref().is_some_and(is_of_tag));
            if let Some(failure) = failure {
                return removal_of(failure);
            }

            match answer.image_ids().iter().find(is_of_tag) {
                Some(id) => match parse_digest(id.image_digest()) {
                    Some(other) if other != *digest => Removal::RemovedFrom(other),
                    _ => Removal::Removed,
                },
                None => Removal::Failed("ECR gave no result for this tag".to_owned()),
            }
        };

        Ok(tags.iter().map(|tag| (tag.tag.clone(), removal(tag))).collect())
    }
}

fn removal_of(failure: &ImageFailure) -> Removal {
    match failure.failure_code() {
        Some(ImageFailureCode::ImageReferencedByManifestList) => Removal::Named,
        // The tag existed a moment ago: the answer to a first attempt was lost.
        Some(ImageFailureCode::ImageNotFound) => Removal::Removed,
        Some(ImageFailureCode::ImageTagDoesNotMatchDigest) => Removal::Moved,
        code => {
            let code = code.map_or("no code", ImageFailureCode::as_str);
            Removal::Failed(format!("{code}: {}", failure.failure_reason().unwrap_or("no reason")))
        }
    }
}

/// Returns `None` for an image whose digest cannot be read: ours always have one that can.
fn stored(image: &ImageDetail) -> Option<Stored> {
    let time = |at: Option<&DateTime>| at.and_then(|at| SystemTime::try_from(*at).ok());
    let times =
        [image.image_pushed_at(), image.last_recorded_pull_time(), image.last_activated_at()];
    Some(Stored {
        digest: parse_digest(image.image_digest())?,
        tags: image.image_tags().iter().filter_map(|tag| tag.parse().ok()).collect(),
        used: times.into_iter().filter_map(time).max(),
        is_active: image.image_status().is_none_or(|status| *status == ImageStatus::Active),
        is_index: is_index(image),
        subject: parse_digest(image.subject_manifest_digest()),
    })
}
