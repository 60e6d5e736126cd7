//! Tag -> digest (DescribeImages, ListImages) and which layers are missing
//! (BatchCheckLayerAvailability). Never by pulling.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::operation::list_images::ListImagesOutput;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatusFilter, LayerAvailability,
    ListImagesFilter,
};

use super::error::Error;
use super::registry::Registry;
use crate::registry::{DOCKER_LIST, Digest, OCI_INDEX, Tag};

/// Most image IDs or layer digests that ECR takes in one call.
const BATCH: usize = 100;
/// Largest page of ListImages.
pub(super) const PAGE: i32 = 1000;

/// The wanted tags that a repository has, with their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Wanted tags that exist.
    pub tags: BTreeMap<Tag, Digest>,
    /// Manifests that exist, tagged or not. Complete only if the listing fitted on one page.
    pub manifests: HashSet<Digest>,
    /// Whether a manifest is an index, for those that DescribeImages returned.
    pub indexes: HashMap<Digest, bool>,
}

impl Images {
    /// Adds the images of another answer.
    pub fn extend(&mut self, other: Self) {
        self.tags.extend(other.tags);
        self.manifests.extend(other.manifests);
        self.indexes.extend(other.indexes);
    }
}

/// The answer to one DescribeImages call.
pub(super) enum Answer {
    Images(Vec<ImageDetail>),
    /// DescribeImages has no list of failures: one missing ID fails the whole call.
    OneMissing,
    NoRepository,
}

/// IDs in batches. A batch that ECR answers with "not found" is halved.
pub(super) struct Batches<'a, T>(Vec<&'a [T]>);

impl<'a, T> Batches<'a, T> {
    pub(super) fn of(all: &'a [T]) -> Self {
        Self(all.chunks(BATCH).rev().collect())
    }

    pub(super) fn next(&mut self) -> Option<&'a [T]> {
        self.0.pop()
    }

    /// Puts both halves of a batch back; a batch of one, which is missing, is dropped.
    pub(super) fn halve(&mut self, batch: &'a [T]) {
        if batch.len() > 1 {
            let (left, right) = batch.split_at(batch.len() / 2);
            self.0.extend([right, left]);
        }
    }
}

pub(super) fn parse_digest(text: Option<&str>) -> Option<Digest> {
    // With an unreadable digest the tag counts as missing: a wanted digest can always be read.
    text.and_then(|text| text.parse().ok())
}

pub(super) fn by_tag(tag: &Tag) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag.as_str()).build()
}

/// Returns those of `asked` that this image has: an answer carries all tags of an image.
pub(super) fn tags_of(image: &ImageDetail, asked: &[&Tag]) -> impl Iterator<Item = Tag> {
    // `asked` is sorted: it comes from a set.
    let is_asked = |tag: &&String| asked.binary_search_by(|of| of.as_str().cmp(tag)).is_ok();
    image.image_tags().iter().filter(is_asked).filter_map(|tag| tag.parse().ok())
}

pub(super) fn is_index(image: &ImageDetail) -> bool {
    matches!(image.image_manifest_media_type(), Some(OCI_INDEX | DOCKER_LIST))
}

impl Registry {
    /// Returns the digests of these tags; `None` if there is no such repository.
    ///
    /// Costs one DescribeImages per 100 tags if all exist. If one is missing, one ListImages page
    /// gives the rest. Only if the repository has more than one page is the batch halved instead:
    /// the cost depends on the number of wanted tags, not on the size of the repository.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn images(
        &self,
        name: &str,
        wanted: &BTreeSet<Tag>,
    ) -> Result<Option<Images>, Error> {
        let tags: Vec<&Tag> = wanted.iter().collect();
        let ids: Vec<_> = tags.iter().map(|tag| by_tag(tag)).collect();

        self.find(name, &ids, &tags).await
    }

    /// Finds the images with these IDs, and adds each to [`Images::tags`] under those of `tags`
    /// that it has.
    async fn find(
        &self,
        name: &str,
        ids: &[ImageIdentifier],
        tags: &[&Tag],
    ) -> Result<Option<Images>, Error> {
        let mut images = Images::default();
        let mut batches = Batches::of(ids);
        let mut listed = false;

        while let Some(batch) = batches.next() {
            match self.describe(name, batch.iter().cloned(), None).await? {
                Answer::Images(details) => {
                    for image in &details {
                        let Some(digest) = parse_digest(image.image_digest()) else { continue };
                        images.tags.extend(tags_of(image, tags).map(|tag| (tag, digest.clone())));
                        images.indexes.insert(digest.clone(), is_index(image));
                        images.manifests.insert(digest);
                    }
                    continue;
                }
                Answer::NoRepository => return Ok(None),
                Answer::OneMissing => {}
            }

            if !listed {
                listed = true;
                if self.list_first_page(name, tags, &mut images).await? {
                    break;
                }
            }
            batches.halve(batch);
        }

        Ok(Some(images))
    }

    /// Sends one DescribeImages; without a status, it returns ACTIVE images only.
    pub(super) async fn describe(
        &self,
        name: &str,
        ids: impl Iterator<Item = ImageIdentifier>,
        status: Option<ImageStatusFilter>,
    ) -> Result<Answer, Error> {
        let filter =
            status.map(|status| DescribeImagesFilter::builder().image_status(status).build());
        let result = self
            .client
            .describe_images()
            .registry_id(&self.account)
            .repository_name(name)
            .set_filter(filter)
            .set_image_ids(Some(ids.collect()))
            .send()
            .await;

        match result {
            Ok(answer) => Ok(Answer::Images(answer.image_details.unwrap_or_default())),
            Err(error) => match error.code() {
                Some("ImageNotFoundException") => Ok(Answer::OneMissing),
                Some("RepositoryNotFoundException") => Ok(Answer::NoRepository),
                _ => Err(Error::from_sdk("ecr:DescribeImages", name, &error)),
            },
        }
    }

    /// Describes the images of these tags in any status; leaves out tags that do not exist.
    pub(super) async fn describe_tags(
        &self,
        name: &str,
        tags: &[&Tag],
    ) -> Result<Vec<ImageDetail>, Error> {
        let mut batches = Batches::of(tags);
        let mut images = Vec::new();
        while let Some(batch) = batches.next() {
            let ids = batch.iter().map(|tag| by_tag(tag));
            match self.describe(name, ids, Some(ImageStatusFilter::Any)).await? {
                Answer::Images(details) => images.extend(details),
                Answer::OneMissing => batches.halve(batch),
                // Deleted just now.
                Answer::NoRepository => break,
            }
        }

        Ok(images)
    }

    /// Returns one page of ListImages; without a status, of ACTIVE images only.
    pub(super) async fn list(
        &self,
        name: &str,
        status: Option<ImageStatusFilter>,
    ) -> Result<ListImagesOutput, Error> {
        self.client
            .list_images()
            .registry_id(&self.account)
            .repository_name(name)
            .set_filter(
                status.map(|status| ListImagesFilter::builder().image_status(status).build()),
            )
            .max_results(PAGE)
            .send()
            .await
            .map_err(|error| Error::from_sdk("ecr:ListImages", name, &error))
    }

    /// Adds the first page of the listing to `images`. Returns whether that was the whole listing.
    async fn list_first_page(
        &self,
        name: &str,
        wanted: &[&Tag],
        images: &mut Images,
    ) -> Result<bool, Error> {
        let answer = self.list(name, None).await?;
        let wanted: BTreeSet<&str> = wanted.iter().map(|tag| tag.as_str()).collect();
        for id in answer.image_ids() {
            let Some(digest) = parse_digest(id.image_digest()) else { continue };
            if let Some(tag) = id.image_tag()
                && wanted.contains(tag)
                && let Ok(tag) = tag.parse()
            {
                images.tags.insert(tag, digest.clone());
            }
            images.manifests.insert(digest);
        }

        Ok(answer.next_token().is_none())
    }

    /// Returns those of these manifests that exist, tagged or not. Costs one DescribeImages per 100
    /// if all exist, else as [`Self::images`]. Those that were described are in
    /// [`Images::indexes`].
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn manifests(&self, name: &str, wanted: &BTreeSet<Digest>) -> Result<Images, Error> {
        let by_digest =
            |digest: &Digest| ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let ids: Vec<_> = wanted.iter().map(by_digest).collect();

        Ok(self.find(name, &ids, &[]).await?.unwrap_or_default())
    }

    /// Returns the blobs that the repository lacks. A blob exists only if ECR says AVAILABLE.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn missing_blobs(
        &self,
        name: &str,
        digests: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, Error> {
        let mut missing = digests.clone();
        let all: Vec<&Digest> = digests.iter().collect();
        for batch in all.chunks(BATCH) {
            let answer = self
                .client
                .batch_check_layer_availability()
                .registry_id(&self.account)
                .repository_name(name)
                .set_layer_digests(Some(batch.iter().map(ToString::to_string).collect()))
                .send()
                .await
                .map_err(|error| {
                    Error::from_sdk("ecr:BatchCheckLayerAvailability", name, &error)
                })?;
            for layer in answer.layers() {
                if layer.layer_availability() == Some(&LayerAvailability::Available)
                    && let Some(digest) = parse_digest(layer.layer_digest())
                {
                    missing.remove(&digest);
                }
            }
        }

        Ok(missing)
    }
}
