//! The image: tags of an OCI registry.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use super::CONCURRENT_TAGS;
use super::mirrored::ImageSource;
use crate::api::v1alpha1::CheckPolicy;
use crate::class::Class;
use crate::failure::Failure;
use crate::registry::{Digest, Reference, Tag, TagList};
use crate::selection;
use crate::spec::Image;
use crate::sync::artifact::{
    ArtifactKind, DesiredArtifact, Offered, Source, SourceContent, SourceTag, WantedTag,
};
use crate::sync::origin::{Ask, Origin, Rebuilt};
use crate::sync::pass::Pass;
use crate::sync::target::TagsInEcr;

/// Tags with the digests that they are pinned to.
type Pins = BTreeMap<Tag, Option<Digest>>;

/// A resolved tag of the source, or why it is not known.
type Resolved = Result<SourceTag, Failure>;

/// The wanted tags of an image.
struct WantedTags {
    /// The tags of the spec with their pins, and the selected tags.
    pins: Pins,
    /// The number of selected tags, or why they are not known; `None` without a selector.
    selected: Option<Result<usize, Failure>>,
    /// All tags of the source, if they were listed.
    all: Option<Result<Vec<Tag>, Failure>>,
}

/// The registry that the tags of one image are resolved in, and the tags in ECR.
struct Lookup<'a> {
    image: &'a Image,
    origin: &'a Origin,
    reference: &'a Reference,
    in_ecr: &'a TagsInEcr,
}

impl Pass<'_> {
    /// Resolves the image in one registry.
    ///
    /// # Errors
    /// When ECR cannot be read, or more tags are wanted than are allowed.
    pub(super) async fn image_at(
        &self,
        image: &Image,
        source: &ImageSource<'_>,
    ) -> Result<DesiredArtifact, Failure> {
        let reference = source.reference;
        let mut artifact = DesiredArtifact::new(ArtifactKind::Image, reference.name());
        let origin = match self.image_origin(image, source).await {
            Ok(origin) => origin,
            // An unusable certificate costs the image, not the policies.
            Err(failure) => {
                let listed = image.tags.clone().into_iter();
                return Ok(artifact.failed(listed, image.selector.is_some(), &failure));
            }
        };

        let lists = self.prunes();
        let all = match image.selector.is_some() || lists {
            true => Some(list(&origin, &mut artifact).await),
            false => None,
        };
        let WantedTags { pins, selected, all } = self.wanted_tags(image, all).await?;
        artifact.listing = selected.as_ref().and_then(|selected| selected.as_ref().err().cloned());
        artifact.selected = selected.and_then(Result::ok);
        artifact.offered = all.filter(|_| lists).map(|all| all.map(offered));
        artifact.memory.take_if(|_| !lists);

        let in_ecr = &self.tags_in_ecr(pins.keys()).await?;
        let lookup = &Lookup { image, origin: &origin, reference, in_ecr };
        let retagged = &self.retagged(lookup, &pins).await;
        let digests = &match (retagged, source.access) {
            (None, Ok(access)) => {
                let pins = pins.iter();
                let unsettled =
                    pins.filter(|(tag, pin)| lookup.settled(tag, pin.as_ref()).is_none());
                let by_head = unsettled
                    .map(|(tag, _)| tag.clone())
                    .filter(|tag| self.how_to_ask(in_ecr, tag) == Ask::Digest);
                let by_head = by_head.collect();
                self.engine.digests_in_ecr(access, &reference.repository, by_head).await
            }
            _ => BTreeMap::new(),
        };

        artifact.tags = stream::iter(pins)
            .map(|(tag, pin)| async move {
                let digest = digests.get(&tag);
                let wanted = self.wanted_tag(lookup, &tag, pin, retagged.as_ref(), digest).await;
                (tag, wanted)
            })
            .buffer_unordered(CONCURRENT_TAGS)
            .collect()
            .await;
        artifact.source = Source::Registry(origin);
        Ok(artifact)
    }

    /// Resolves the tag that is pushed as every tag, if there is one and it is needed.
    async fn retagged(&self, lookup: &Lookup<'_>, pins: &Pins) -> Option<Resolved> {
        let Lookup { image, origin, reference, in_ecr } = lookup;
        let from = image.retag.as_ref()?;
        if pins.iter().all(|(tag, pin)| lookup.settled(tag, pin.as_ref()).is_some()) {
            return None;
        }
        let is_copied = pins.keys().any(|tag| self.how_to_ask(in_ecr, tag) == Ask::Manifest);
        let ask = if is_copied { Ask::Manifest } else { Ask::Digest };
        let earlier = pins.keys().next().and_then(|tag| self.job.earlier.rebuilt.get(tag));
        Some(source_tag(origin, reference, from, ask, earlier).await)
    }

    /// Resolves one tag. `digest` is its digest in the source, if it is known already.
    async fn wanted_tag(
        &self,
        lookup: &Lookup<'_>,
        tag: &Tag,
        pin: Option<Digest>,
        retagged: Option<&Resolved>,
        digest: Option<&Digest>,
    ) -> WantedTag {
        let Lookup { image, origin, reference, in_ecr } = lookup;
        let earlier = self.job.earlier.rebuilt.get(tag);
        if let Some(digest) = lookup.settled(tag, pin.as_ref()) {
            if let Some(earlier) = earlier.filter(|earlier| earlier.target == digest) {
                origin.remember(earlier);
            }
            let label = format!("{}:{tag}", reference.name());
            let source = Ok(SourceTag { label, content: SourceContent::Manifest(digest) });
            return WantedTag { pin: None, source };
        }

        let resolved = match (retagged, digest) {
            (Some(resolved), _) => resolved.clone(),
            (None, Some(digest)) => narrowed(origin, reference, tag, digest.clone(), earlier).await,
            (None, None) => {
                let ask = self.how_to_ask(in_ecr, tag);
                source_tag(origin, reference, tag, ask, earlier).await
            }
        };
        let source = resolved.and_then(|source| check_pin(origin, source, pin.as_ref()));
        // The pin is the digest of the source, which a smaller index does not have.
        WantedTag { pin: pin.filter(|_| image.platforms.is_none()), source }
    }

    /// Returns the tags of the spec and those of `all` that the selector finds.
    ///
    /// # Errors
    /// When more tags are wanted than are allowed: the spec must say which ones to leave out.
    async fn wanted_tags(
        &self,
        image: &Image,
        all: Option<Result<Vec<Tag>, Failure>>,
    ) -> Result<WantedTags, Failure> {
        let mut pins = image.tags.clone();
        let Some(selector) = image.selector.clone() else {
            return Ok(WantedTags { pins, selected: None, all });
        };
        let all = match all {
            Some(Ok(all)) => all,
            Some(Err(failure)) => {
                let selected = Some(Err(failure.clone()));
                return Ok(WantedTags { pins, selected, all: Some(Err(failure)) });
            }
            None => Vec::new(),
        };

        let select = move || {
            let selected = selector.select(all.iter().map(Tag::as_str));
            let selected: Vec<Tag> = selected.iter().filter_map(|tag| tag.parse().ok()).collect();
            (selected, all)
        };
        let (selected, all) = self.engine.select(select).await?;
        selection::union(
            pins.keys().map(Tag::as_str),
            selected.iter().map(Tag::as_str),
            self.engine.bounds.max_tags,
        )
        .map_err(|error| Failure::new(Class::InvalidSpec, format!("image: {error}")))?;

        let count = selected.len();
        for tag in selected {
            pins.entry(tag).or_insert(None);
        }
        Ok(WantedTags { pins, selected: Some(Ok(count)), all: Some(Ok(all)) })
    }
}

impl Lookup<'_> {
    /// Returns the digest of a tag in ECR if its source need not be asked: the tag has the pinned
    /// digest, or it is enough that it exists.
    fn settled(&self, tag: &Tag, pin: Option<&Digest>) -> Option<Digest> {
        let Self { image, in_ecr, .. } = self;
        let archived = || in_ecr.archived.get(tag).map(|archived| &archived.digest);
        let current = in_ecr.images.tags.get(tag).or_else(archived)?;
        let is_enough = match pin {
            Some(pin) => pin == current && image.platforms.is_none(),
            None => image.check_policy == CheckPolicy::IfNotPresent,
        };
        is_enough.then(|| current.clone())
    }
}

/// Lists the tags of a source. The artifact keeps their memory.
///
/// # Errors
/// As the registry answers.
pub(super) async fn list(
    origin: &Origin,
    artifact: &mut DesiredArtifact,
) -> Result<Vec<Tag>, Failure> {
    let TagList { tags, memory } = origin.client.tags(&origin.repository).await?;
    artifact.memory = Some(memory);
    Ok(tags)
}

/// Returns the tags of a list as an offer.
pub(super) fn offered(tags: Vec<Tag>) -> Offered {
    tags.into_iter().map(|tag| (tag, None)).collect()
}

fn check_pin(origin: &Origin, source: SourceTag, pin: Option<&Digest>) -> Resolved {
    let SourceContent::Manifest(copied) = &source.content else { return Ok(source) };
    let digest = &origin.rebuilt(copied).map_or_else(|| copied.clone(), |rebuilt| rebuilt.source);
    match pin {
        Some(pin) if digest != pin => Err(Failure::new(
            Class::SourceChanged,
            format!(
                "{} is pinned to {pin}, but the source now has {digest}: check the change, then \
                 update the pin",
                source.label
            ),
        )),
        _ => Ok(source),
    }
}

/// Resolves a tag in its source.
pub(super) async fn source_tag(
    origin: &Origin,
    reference: &Reference,
    tag: &Tag,
    ask: Ask,
    earlier: Option<&Rebuilt>,
) -> Resolved {
    let digest = origin.resolve(tag, ask).await?;
    narrowed(origin, reference, tag, digest, earlier).await
}

/// Returns a tag whose digest in the source is known.
async fn narrowed(
    origin: &Origin,
    reference: &Reference,
    tag: &Tag,
    digest: Digest,
    earlier: Option<&Rebuilt>,
) -> Resolved {
    let label = format!("{}:{tag}", reference.name());
    let digest = origin.narrow(&label, digest, earlier).await?;
    Ok(SourceTag { label, content: SourceContent::Manifest(digest) })
}
