//! spec -> [`Desired`]: what is wanted now, with the digests that the source has now.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::{Engine, Failure, Job};
use crate::api::v1alpha1::{Image, TagStrategy, validation};
use crate::ecr::policy::{Kind, Wanted};
use crate::registry::{Client, Digest, Endpoint, Options, Reference, StaticAuthenticator, Tag};

/// Tags of one source that are asked for at the same time.
const CONCURRENT_TAGS: usize = 8;

/// What a spec wants, checked and with digests.
#[derive(Debug)]
pub struct Desired {
    /// Name of the repository.
    pub repository: String,
    /// The lifecycle policy.
    pub lifecycle: Wanted,
    /// The permission policy.
    pub permission: Wanted,
    /// Resource tags to hold; others are not ours.
    pub resource_tags: BTreeMap<String, String>,
    /// The image, if any.
    pub image: Option<DesiredImage>,
}

/// An image in its source.
#[derive(Debug)]
pub struct DesiredImage {
    /// The source registry.
    pub source: Client,
    /// Host and repository, without tag.
    pub reference: Reference,
    /// Target tag -> the source's tag and its digest, or why it is not known.
    pub tags: BTreeMap<Tag, Result<SourceTag, Failure>>,
}

/// A tag of the source and what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTag {
    /// The tag in the source.
    pub tag: Tag,
    /// Its digest.
    pub digest: Digest,
}

impl Engine {
    /// Checks the spec and asks the source for the digest of each wanted tag.
    ///
    /// # Errors
    /// A spec that cannot be carried out. A tag that cannot be read is not an error here: it is in the result.
    pub(super) async fn resolve(&self, job: &Job) -> Result<Desired, Failure> {
        let spec = &job.spec;
        let mut violations = validation::validate(&job.name, spec);
        let mut read = |kind, policy| match Wanted::read(kind, policy) {
            Ok(wanted) => wanted,
            Err(more) => {
                violations.extend(more);
                Wanted::Unmanaged
            }
        };
        let lifecycle = read(Kind::Lifecycle, spec.lifecycle_policy.as_ref());
        let permission = read(Kind::Permission, spec.permission_policy.as_ref());
        if !violations.is_empty() {
            return Err(Failure::invalid(&violations));
        }
        let image = match &spec.image {
            Some(image) => Some(self.resolve_image(job, image).await?),
            None => None,
        };
        Ok(Desired {
            repository: job.repository_name().to_owned(),
            lifecycle,
            permission,
            resource_tags: spec.resource_tags.clone().unwrap_or_default(),
            image,
        })
    }

    async fn resolve_image(&self, job: &Job, image: &Image) -> Result<DesiredImage, Failure> {
        let reference: Reference = image.pull_url.parse()?;
        let unreachable = job.access.as_ref().err().cloned();
        let access = job.access.clone().unwrap_or_default();
        let source = Client::new(
            self.transport(&access.transport)?,
            Endpoint::of(&reference, image.insecure),
            Arc::new(StaticAuthenticator(access.credential)),
            Options::default(),
        )?;
        let mut tags = BTreeMap::new();
        let wanted = wanted_tags(image, &reference)?;
        if let Some(failure) = unreachable {
            let tags = wanted.into_iter().map(|tag| (tag, Err(failure.clone()))).collect();
            return Ok(DesiredImage { source, reference, tags });
        }
        match image.tag_strategy {
            TagStrategy::Mirror => {
                let mut digests = stream::iter(wanted)
                    .map(|tag| async {
                        let found = source_tag(&source, &reference, &tag).await;
                        (tag, found)
                    })
                    .buffer_unordered(CONCURRENT_TAGS);
                while let Some((tag, found)) = digests.next().await {
                    tags.insert(tag, found);
                }
            }
            TagStrategy::Retag => {
                // `validate` has seen to it that there is one.
                if let Some(from) = &reference.tag {
                    let found = source_tag(&source, &reference, from).await;
                    tags.extend(wanted.into_iter().map(|tag| (tag, found.clone())));
                }
            }
        }
        Ok(DesiredImage { source, reference, tags })
    }
}

/// The tags of the spec; without any, the one in pullUrl.
fn wanted_tags(image: &Image, reference: &Reference) -> Result<Vec<Tag>, Failure> {
    if image.tags.is_empty() {
        return Ok(reference.tag.iter().cloned().collect());
    }
    Ok(image.tags.iter().map(|tag| tag.parse()).collect::<Result<_, crate::registry::ParseError>>()?)
}

async fn source_tag(source: &Client, reference: &Reference, tag: &Tag) -> Result<SourceTag, Failure> {
    let found = source.resolve(&reference.repository, tag).await?;
    Ok(SourceTag { tag: tag.clone(), digest: found.digest })
}
