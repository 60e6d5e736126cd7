//! Tag -> digest and layer presence, never by pulling.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::list_images::ListImagesOutput;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatusFilter, LayerAvailability,
    ListImagesFilter,
};

use super::error::Error;
use super::registry::Registry;
use crate::registry::{DOCKER_LIST, Digest, OCI_INDEX, Tag};

/// Most image ids or layer digests that ECR takes in one call.
const BATCH: usize = 100;
/// Largest page of ListImages.
pub(super) const PAGE: i32 = 1000;

/// What a repository holds of the tags that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Wanted tags that are there.
    pub tags: BTreeMap<Tag, Digest>,
    /// Manifests known to be there, tagged or not: complete only when the listing fitted on one
    /// page, but never wrong.
    pub manifests: HashSet<Digest>,
    /// Of those that were described, whether they are an index.
    pub indexes: HashMap<Digest, bool>,
}

impl Images {
    /// Takes in what another answer said.
    pub fn extend(&mut self, other: Self) {
        self.tags.extend(other.tags);
        self.manifests.extend(other.manifests);
        self.indexes.extend(other.indexes);
    }
}

/// What one DescribeImages said.
pub(super) enum Answer {
    Images(Vec<ImageDetail>),
    /// DescribeImages has no list of failures: one missing id fails the whole call.
    OneIsMissing,
    NoRepository,
}

/// What is asked for in batches, each of which is halved while one of it is missing.
pub(super) struct Batches<'a, T>(Vec<&'a [T]>);

impl<'a, T> Batches<'a, T> {
    pub(super) fn of(all: &'a [T]) -> Self {
        Self(all.chunks(BATCH).rev().collect())
    }

    pub(super) fn next(&mut self) -> Option<&'a [T]> {
        self.0.pop()
    }

    /// Half by half; a single missing one ends here.
    pub(super) fn halve(&mut self, batch: &'a [T]) {
        if batch.len() > 1 {
            let (left, right) = batch.split_at(batch.len() / 2);
            self.0.extend([right, left]);
        }
    }
}

pub(super) fn parse_digest(text: Option<&str>) -> Option<Digest> {
    // A digest that we cannot read is no digest that we could want: the tag then counts as missing.
    text.and_then(|text| text.parse().ok())
}

pub(super) fn by_tag(tag: &Tag) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag.as_str()).build()
}

/// Those of `asked` that name this image: an answer carries all tags of an image, asked for or not.
pub(super) fn tags_of(image: &ImageDetail, asked: &[&Tag]) -> impl Iterator<Item = Tag> {
    // In order, as they come from a set.
    let is_asked = |tag: &&String| asked.binary_search_by(|of| of.as_str().cmp(tag)).is_ok();
    image.image_tags().iter().filter(is_asked).filter_map(|tag| tag.parse().ok())
}

pub(super) fn is_index(image: &ImageDetail) -> bool {
    matches!(image.image_manifest_media_type(), Some(OCI_INDEX | DOCKER_LIST))
}

impl Registry {
    /// The digests of these tags; `None` if there is no such repository.
    ///
    /// Costs one DescribeImages per 100 tags when all are there. When one is missing, one
    /// ListImages page tells the rest; only if the repository holds more than a page is the batch
    /// halved instead, so that the cost goes by what is wanted and not by what the repository
    /// holds.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn images(
        &self,
        name: &str,
        wanted: &BTreeSet<Tag>,
    ) -> Result<Option<Images>, Error> {
        let mut images = Images::default();
        let wanted: Vec<&Tag> = wanted.iter().collect();
        let mut batches = Batches::of(&wanted);
        let mut listed = false;
        while let Some(batch) = batches.next() {
            match self.describe(name, batch.iter().map(|tag| by_tag(tag)), None).await? {
                Answer::Images(details) => {
                    for image in &details {
                        let Some(digest) = parse_digest(image.image_digest()) else { continue };
                        images.tags.extend(tags_of(image, batch).map(|tag| (tag, digest.clone())));
                        images.indexes.insert(digest.clone(), is_index(image));
                        images.manifests.insert(digest);
                    }
                    continue;
                }
                Answer::NoRepository => return Ok(None),
                Answer::OneIsMissing => {}
            }
            if !listed {
                listed = true;
                if self.list_first_page(name, &wanted, &mut images).await? {
                    return Ok(Some(images));
                }
            }
            batches.halve(batch);
        }
        Ok(Some(images))
    }

    /// One DescribeImages; without a status, of ACTIVE images only.
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
            Err(SdkError::ServiceError(error))
                if error.err().code() == Some("ImageNotFoundException") =>
            {
                Ok(Answer::OneIsMissing)
            }
            Err(SdkError::ServiceError(error))
                if error.err().code() == Some("RepositoryNotFoundException") =>
            {
                Ok(Answer::NoRepository)
            }
            Err(error) => Err(Error::from_sdk("ecr:DescribeImages", name, &error)),
        }
    }

    /// DescribeImages of these tags, in whatever status their images are; those that are missing
    /// are left out.
    pub(super) async fn described(
        &self,
        name: &str,
        tags: &[&Tag],
    ) -> Result<Vec<ImageDetail>, Error> {
        let mut batches = Batches::of(tags);
        let mut images = Vec::new();
        while let Some(batch) = batches.next() {
            match self
                .describe(name, batch.iter().map(|tag| by_tag(tag)), Some(ImageStatusFilter::Any))
                .await?
            {
                Answer::Images(details) => images.extend(details),
                Answer::OneIsMissing => batches.halve(batch),
                // Just now: there is nothing left.
                Answer::NoRepository => break,
            }
        }
        Ok(images)
    }

    /// One page of ListImages; without a status, of ACTIVE images only.
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

    /// Whether the page was the whole listing.
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

    /// Which of these manifests are there, tagged or not: one DescribeImages per 100 when all are,
    /// else as with [`Self::images`]. Those that were described are among [`Images::indexes`] too.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn manifests(&self, name: &str, wanted: &BTreeSet<Digest>) -> Result<Images, Error> {
        let mut images = Images::default();
        let wanted: Vec<&Digest> = wanted.iter().collect();
        let mut batches = Batches::of(&wanted);
        let mut listed = false;
        while let Some(batch) = batches.next() {
            let ids = batch
                .iter()
                .map(|digest| ImageIdentifier::builder().image_digest(digest.as_str()).build());
            match self.describe(name, ids, None).await? {
                Answer::Images(details) => {
                    images.manifests.extend(batch.iter().map(|digest| (*digest).clone()));
                    let described = details
                        .iter()
                        .filter_map(|image| Some((parse_digest(image.image_digest())?, image)));
                    images
                        .indexes
                        .extend(described.map(|(digest, image)| (digest, is_index(image))));
                    continue;
                }
                Answer::NoRepository => return Ok(Images::default()),
                Answer::OneIsMissing => {}
            }
            if !listed {
                listed = true;
                if self.list_first_page(name, &[], &mut images).await? {
                    return Ok(images);
                }
            }
            batches.halve(batch);
        }
        Ok(images)
    }

    /// Which of these blobs the repository does not have. Only AVAILABLE counts as there.
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
