//! spec -> [`Desired`]: what is wanted now, with the digests that the source has now.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::{Engine, Failure, Job};
use crate::api::v1alpha1::{Image, TagStrategy, validation};
use crate::class::Class;
use crate::ecr::policy::{Kind, Wanted};
use crate::registry::{Client, Digest, Endpoint, Options, Reference, StaticAuthenticator, Tag};
use crate::selection::{self, Pin};

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
    /// The wanted tags in the target.
    pub tags: BTreeMap<Tag, WantedTag>,
    /// Why the source's tags could not be listed: then the selected ones are not known.
    pub listing: Option<Failure>,
}

/// A tag that the target shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTag {
    /// The only digest that it may have.
    pub pin: Option<Digest>,
    /// What the source has, or why it is not known.
    pub source: Result<SourceTag, Failure>,
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
        let (pins, listing) = self.wanted_tags(image, &reference, &source, unreachable.as_ref()).await?;
        if let Some(failure) = unreachable {
            let unknown = |(tag, pin)| (tag, WantedTag { pin, source: Err(failure.clone()) });
            return Ok(DesiredImage { source, tags: pins.into_iter().map(unknown).collect(), reference, listing });
        }
        // `validate` has seen to it that Retag has a tag in pullUrl.
        let retagged = match (image.tag_strategy, &reference.tag) {
            (TagStrategy::Retag, Some(from)) => Some(source_tag(&source, &reference, from).await),
            _ => None,
        };
        let (source_of, reference_of) = (&source, &reference);
        let tags = stream::iter(pins)
            .map(|(tag, pin)| {
                let retagged = retagged.clone();
                async move {
                    let found = match retagged {
                        Some(found) => found,
                        None => source_tag(source_of, reference_of, &tag).await,
                    };
                    let source = found.and_then(|found| check_pin(found, pin.as_ref(), reference_of));
                    (tag, WantedTag { pin, source })
                }
            })
            .buffer_unordered(CONCURRENT_TAGS)
            .collect()
            .await;
        Ok(DesiredImage { source, reference, tags, listing })
    }

    /// The tags of the spec with their pins, and those that its selector finds; without either, the one in pullUrl.
    ///
    /// # Errors
    /// More tags than are allowed: which to leave out is not ours to say.
    async fn wanted_tags(
        &self,
        image: &Image,
        reference: &Reference,
        source: &Client,
        unreachable: Option<&Failure>,
    ) -> Result<(BTreeMap<Tag, Option<Digest>>, Option<Failure>), Failure> {
        let mut wanted = BTreeMap::new();
        for text in &image.tags {
            let pin = Pin::parse(text);
            wanted.insert(pin.tag.parse()?, pin.digest.map(str::parse).transpose()?);
        }
        let Some(selector) = &image.tag_selector else {
            if wanted.is_empty() {
                wanted.extend(reference.tag.clone().map(|tag| (tag, None)));
            }
            return Ok((wanted, None));
        };
        let selector = validation::compile(selector)
            .map_err(|problem| Failure::new(Class::InvalidSpec, format!("image.tagSelector.{problem}")))?;
        let listed = match unreachable {
            Some(failure) => Err(failure.clone()),
            None => source.tags(&reference.repository).await.map_err(Failure::from),
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => return Ok((wanted, Some(failure))),
        };
        // What is no tag by the grammar cannot be asked for either.
        let selected: Vec<Tag> =
            selector.select(listed.iter().map(String::as_str)).into_iter().filter_map(|tag| tag.parse().ok()).collect();
        selection::union(wanted.keys().map(Tag::as_str), selected.iter().map(Tag::as_str), self.limits.max_tags)
            .map_err(|error| Failure::new(Class::InvalidSpec, format!("image: {error}")))?;
        for tag in selected {
            wanted.entry(tag).or_insert(None);
        }
        Ok((wanted, None))
    }
}

fn check_pin(found: SourceTag, pin: Option<&Digest>, reference: &Reference) -> Result<SourceTag, Failure> {
    match pin {
        Some(pin) if found.digest != *pin => Err(Failure::new(
            Class::SourceChanged,
            format!(
                "{}:{} is pinned to {pin}, but the source now has {}: check what changed, then move the pin",
                reference.name(),
                found.tag,
                found.digest
            ),
        )),
        _ => Ok(found),
    }
}

async fn source_tag(source: &Client, reference: &Reference, tag: &Tag) -> Result<SourceTag, Failure> {
    let found = source.resolve(&reference.repository, tag).await?;
    Ok(SourceTag { tag: tag.clone(), digest: found.digest })
}
