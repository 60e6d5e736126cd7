//! All that a repository holds, and the removal of tags. What pruning needs, and nothing else: it
//! costs by what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::primitives::DateTime;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageFailure, ImageFailureCode, ImageIdentifier,
    ImageStatus, ImageStatusFilter,
};

use super::error::Error;
use super::images::{PAGE, by_tag, is_index, parse_digest};
use super::registry::Registry;
use crate::registry::{Digest, Tag};

/// An image in a repository, tagged or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// All its tags.
    pub tags: Vec<Tag>,
    /// When it was last pushed, pulled or brought back from the archive, whatever came last. ECR
    /// notes at least one pull in 24 hours, not each. `None` where ECR does not say.
    pub used: Option<SystemTime>,
    /// It can be pulled: it is not in the archive.
    pub is_active: bool,
    /// Whether it names other images.
    pub is_index: bool,
    /// What it refers to, of a signature and the like.
    pub subject: Option<Digest>,
}

/// A part of what a repository holds.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The images.
    pub images: Vec<Stored>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<String>,
}

/// What became of a tag that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, and its image with it if it was the last tag.
    Removed,
    /// It is the last tag of an image that an index names, which ECR keeps.
    Named,
    /// ECR's reason.
    Failed(String),
}

impl Registry {
    /// Up to 1,000 images of a repository, the archive included, beginning where another page
    /// ended; `None` if there is no such repository. One request.
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
        match page {
            Ok(page) => {
                let images = page.image_details().iter().filter_map(stored).collect();
                Ok(Some(Page { images, next: page.next_token }))
            }
            Err(SdkError::ServiceError(error))
                if error.err().code() == Some("RepositoryNotFoundException") =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::from_sdk("ecr:DescribeImages", name, &error)),
        }
    }

    /// The images that have one of these tags now, the archive included. One request per 100 tags
    /// while none is missing.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn stored(&self, name: &str, tags: &BTreeSet<Tag>) -> Result<Vec<Stored>, Error> {
        let tags: Vec<&Tag> = tags.iter().collect();
        Ok(self.described(name, &tags).await?.iter().filter_map(stored).collect())
    }

    /// Removes tags, at most a hundred. An image goes with its last tag.
    ///
    /// By tag alone: what ECR does where a digest stands beside it is not documented, and an image
    /// that is named by its digest goes with all its tags.
    ///
    /// # Errors
    /// As AWS answers to the call as a whole.
    pub async fn remove_tags(
        &self,
        name: &str,
        tags: &[Tag],
    ) -> Result<BTreeMap<Tag, Removal>, Error> {
        let ids: Vec<ImageIdentifier> = tags.iter().map(by_tag).collect();
        let answer = self
            .client
            .batch_delete_image()
            .registry_id(&self.account)
            .repository_name(name)
            .set_image_ids(Some(ids))
            .send()
            .await
            .map_err(|error| Error::from_sdk("ecr:BatchDeleteImage", name, &error))?;
        let removal = |tag: &Tag| {
            let is_it = |id: Option<&ImageIdentifier>| {
                id.and_then(ImageIdentifier::image_tag) == Some(tag.as_str())
            };
            match answer.failures().iter().find(|failure| is_it(failure.image_id())) {
                Some(failure) => removal_of(failure),
                None if answer.image_ids().iter().any(|id| is_it(Some(id))) => Removal::Removed,
                None => Removal::Failed("ECR does not say what became of it".to_owned()),
            }
        };
        Ok(tags.iter().map(|tag| (tag.clone(), removal(tag))).collect())
    }
}

fn removal_of(failure: &ImageFailure) -> Removal {
    match failure.failure_code() {
        Some(ImageFailureCode::ImageReferencedByManifestList) => Removal::Named,
        // It was there a moment ago: an answer was lost, and the SDK asked again.
        Some(ImageFailureCode::ImageNotFound) => Removal::Removed,
        code => {
            let code = code.map_or("no code", ImageFailureCode::as_str);
            Removal::Failed(format!("{code}: {}", failure.failure_reason().unwrap_or("no reason")))
        }
    }
}

/// `None` where there is no digest that we could want: then it is none of ours.
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
