//! All that a repository holds, and the removal of tags. What pruning needs, and nothing else: it costs by what is there.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageFailure, ImageFailureCode, ImageIdentifier, ImageStatus, ImageStatusFilter,
};

use super::error::Error;
use super::images::{PAGE, is_index, parse_digest};
use super::registry::Registry;
use crate::registry::{Digest, Tag};

/// A million images; ECR's own quota is a tenth of that.
const MOST_PAGES: usize = 1_000;

/// An image in a repository, tagged or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// All its tags.
    pub tags: Vec<Tag>,
    /// When it was last pushed or pulled, whatever came later. ECR notes at least one pull in 24 hours, not each. `None`
    /// where ECR does not say.
    pub used: Option<SystemTime>,
    /// It can be pulled: it is not in the archive.
    pub is_active: bool,
    /// Whether it names other images.
    pub is_index: bool,
    /// What it refers to, of a signature and the like.
    pub subject: Option<Digest>,
}

/// What became of a tag that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, and its image with it if it was the last tag.
    Removed,
    /// Somebody removed or moved it in the meantime.
    Moved,
    /// It is the last tag of an image that an index names, which ECR keeps.
    Named,
    /// ECR's reason.
    Failed(String),
}

impl Registry {
    /// All images of a repository, the archive included; `None` if there is no such repository. One request per 1,000 of
    /// them.
    ///
    /// # Errors
    /// As AWS answers; also where the list does not come to its end.
    pub async fn stock(&self, name: &str) -> Result<Option<Vec<Stored>>, Error> {
        const OPERATION: &str = "ecr:DescribeImages";
        let filter = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let (mut stock, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = self
                .client
                .describe_images()
                .registry_id(&self.account)
                .repository_name(name)
                .filter(filter.clone())
                .max_results(PAGE)
                .set_next_token(token.take())
                .send()
                .await;
            let page = match page {
                Ok(page) => page,
                Err(SdkError::ServiceError(error)) if error.err().code() == Some("RepositoryNotFoundException") => {
                    return Ok(None);
                }
                Err(error) => return Err(Error::from_sdk(OPERATION, name, &error)),
            };
            stock.extend(page.image_details().iter().filter_map(stored));
            token = page.next_token;
            if token.is_none() {
                return Ok(Some(stock));
            }
        }
        Err(Error::Incomplete { operation: OPERATION, thing: name.to_owned(), field: "end after 1,000 pages" })
    }

    /// Removes tags, at most a hundred, each only while it points to its digest. An image goes with its last tag.
    ///
    /// # Errors
    /// As AWS answers to the call as a whole.
    pub async fn remove_tags(&self, name: &str, tags: &[(Tag, Digest)]) -> Result<BTreeMap<Tag, Removal>, Error> {
        let id = |(tag, digest): &(Tag, Digest)| {
            ImageIdentifier::builder().image_tag(tag.as_str()).image_digest(digest.as_str()).build()
        };
        let answer = self
            .client
            .batch_delete_image()
            .registry_id(&self.account)
            .repository_name(name)
            .set_image_ids(Some(tags.iter().map(id).collect()))
            .send()
            .await
            .map_err(|error| Error::from_sdk("ecr:BatchDeleteImage", name, &error))?;
        let failed = |tag: &Tag| {
            let of_tag =
                |failure: &&ImageFailure| failure.image_id().and_then(|id| id.image_tag()) == Some(tag.as_str());
            answer.failures().iter().find(of_tag)
        };
        let removal = |tag: &Tag| match failed(tag) {
            Some(failure) => removal_of(failure),
            None if answer.image_ids().iter().any(|id| id.image_tag() == Some(tag.as_str())) => Removal::Removed,
            None => Removal::Failed("ECR does not say what became of it".to_owned()),
        };
        Ok(tags.iter().map(|(tag, _)| (tag.clone(), removal(tag))).collect())
    }
}

fn removal_of(failure: &ImageFailure) -> Removal {
    match failure.failure_code() {
        Some(ImageFailureCode::ImageReferencedByManifestList) => Removal::Named,
        Some(ImageFailureCode::ImageNotFound | ImageFailureCode::ImageTagDoesNotMatchDigest) => Removal::Moved,
        code => {
            let code = code.map_or("no code", ImageFailureCode::as_str);
            Removal::Failed(format!("{code}: {}", failure.failure_reason().unwrap_or("no reason")))
        }
    }
}

/// `None` where there is no digest that we could want: then it is none of ours.
fn stored(image: &ImageDetail) -> Option<Stored> {
    let time = |at: Option<&aws_sdk_ecr::primitives::DateTime>| at.and_then(|at| SystemTime::try_from(*at).ok());
    Some(Stored {
        digest: parse_digest(image.image_digest())?,
        tags: image.image_tags().iter().filter_map(|tag| tag.parse().ok()).collect(),
        used: time(image.image_pushed_at()).max(time(image.last_recorded_pull_time())),
        is_active: image.image_status().is_none_or(|status| *status == ImageStatus::Active),
        is_index: is_index(image),
        subject: parse_digest(image.subject_manifest_digest()),
    })
}
