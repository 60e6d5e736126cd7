//! The image: tags of an OCI registry.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use super::CONCURRENT_TAGS;
use super::mirrored::ImageSource;
use crate::api::v1alpha1::CheckPolicy;
use crate::class::Class;
use crate::failure::Failure;
use crate::registry::{Digest, Reference, Tag};
use crate::selection;
use crate::spec::Image;
use crate::sync::artifact::{
    ArtifactKind, DesiredArtifact, Offered, Source, SourceContent, SourceTag, WantedTag,
};
use crate::sync::origin::{Ask, Origin, Rebuilt};
use crate::sync::pass::Pass;
use crate::sync::target::Seen;

/// Tags with the digests that they are pinned to.
type Pins = BTreeMap<Tag, Option<Digest>>;

impl Pass<'_> {
    /// The image as it is in one place.
    ///
    /// # Errors
    /// When ECR cannot be asked, or more is wanted than is allowed.
    pub(super) async fn image_at(
        &self,
        image: &Image,
        place: &ImageSource<'_>,
    ) -> Result<DesiredArtifact, Failure> {
        let job = self.job;
        let lists = self.prunes();
        let reference = place.reference.clone();
        let mut artifact = DesiredArtifact::new(ArtifactKind::Image, reference.name());
        let client = match place.access {
            // A certificate that cannot be used is found here: it costs the image, not the
            // policies.
            Ok(access) => self.engine.source_client(access, &reference, place.insecure).await,
            Err(failure) => Err(failure.clone()),
        };
        let client = match client {
            Ok(client) => client,
            Err(failure) => {
                let unknown = |(tag, pin)| (tag, WantedTag { pin, source: Err(failure.clone()) });
                artifact.tags = image.tags.clone().into_iter().map(unknown).collect();
                artifact.listing = image.selector.as_ref().map(|_| failure.clone());
                artifact.offered = Some(Err(failure));
                return Ok(artifact);
            }
        };
        job.progress.uses(&client);
        let all = match image.selector.is_some() || lists {
            true => Some(client.tags(&reference.repository).await.map_err(Failure::from)),
            false => None,
        };
        let (pins, selected) = self.wanted_tags(image, all.as_ref())?;
        artifact.listing = selected.as_ref().and_then(|selected| selected.as_ref().err().cloned());
        artifact.selected = selected.and_then(Result::ok);
        artifact.offered = all.filter(|_| lists).map(|all| all.map(|tags| offered(&tags)));
        let origin =
            Origin::new(client, reference.repository.clone()).narrowed(image.platforms.clone());
        let seen = self.tags_in_ecr(pins.keys()).await?;
        let retagged = match &image.retag {
            Some(from) => {
                let whole = pins.keys().any(|tag| self.how_to_ask(&seen, tag) == Ask::Whole);
                let ask = if whole { Ask::Whole } else { Ask::Digest };
                let earlier = pins.keys().next().and_then(|tag| job.earlier.rebuilt.get(tag));
                let asked =
                    pins.keys().any(|tag| settled(image, &seen, tag, pins[tag].as_ref()).is_none());
                if asked {
                    Some(source_tag(&origin, &reference, from, ask, earlier).await)
                } else {
                    None
                }
            }
            None => None,
        };
        let unsettled =
            pins.iter().filter(|(tag, pin)| settled(image, &seen, tag, pin.as_ref()).is_none());
        let checked =
            unsettled.map(|(tag, _)| tag).filter(|tag| self.how_to_ask(&seen, tag) == Ask::Digest);
        let known = match (&retagged, place.access) {
            (None, Ok(access)) => {
                self.engine
                    .digests_in_ecr(access, &reference.repository, checked.cloned().collect())
                    .await
            }
            _ => BTreeMap::new(),
        };
        let (source_of, reference_of, seen, known) = (&origin, &reference, &seen, &known);
        artifact.tags = stream::iter(pins)
            .map(|(tag, pin)| {
                let retagged = retagged.clone();
                async move {
                    let earlier = job.earlier.rebuilt.get(&tag);
                    if let Some(digest) = settled(image, seen, &tag, pin.as_ref()) {
                        earlier
                            .filter(|earlier| earlier.target == digest)
                            .iter()
                            .for_each(|earlier| source_of.remember(earlier));
                        let label = format!("{}:{tag}", reference_of.name());
                        let source =
                            Ok(SourceTag { label, content: SourceContent::Manifest(digest) });
                        return (tag, WantedTag { pin: None, source });
                    }
                    let found = match (retagged, known.get(&tag)) {
                        (Some(found), _) => found,
                        (None, Some(digest)) => {
                            narrowed(source_of, reference_of, &tag, digest.clone(), earlier).await
                        }
                        (None, None) => {
                            let ask = self.how_to_ask(seen, &tag);
                            source_tag(source_of, reference_of, &tag, ask, earlier).await
                        }
                    };
                    let source = found.and_then(|found| check_pin(source_of, found, pin.as_ref()));
                    // A pin is of the source's digest, which what is made of it does not have.
                    let pin = pin.filter(|_| image.platforms.is_none());
                    (tag, WantedTag { pin, source })
                }
            })
            .buffer_unordered(CONCURRENT_TAGS)
            .collect()
            .await;
        artifact.source = Source::Registry(origin);
        Ok(artifact)
    }

    /// The tags of the spec with their pins, and those that its selector finds among `all`; and how
    /// many these are, or why they are not known.
    ///
    /// # Errors
    /// More tags than are allowed: which to leave out is not ours to say.
    fn wanted_tags(
        &self,
        image: &Image,
        all: Option<&Result<Vec<String>, Failure>>,
    ) -> Result<(Pins, Option<Result<usize, Failure>>), Failure> {
        let mut wanted = image.tags.clone();
        let Some(selector) = &image.selector else { return Ok((wanted, None)) };
        let all = match all {
            Some(Ok(all)) => all.as_slice(),
            Some(Err(failure)) => return Ok((wanted, Some(Err(failure.clone())))),
            None => &[],
        };
        // What is no tag by the grammar cannot be asked for either.
        let selected: Vec<Tag> = selector
            .select(all.iter().map(String::as_str))
            .into_iter()
            .filter_map(|tag| tag.parse().ok())
            .collect();
        selection::union(
            wanted.keys().map(Tag::as_str),
            selected.iter().map(Tag::as_str),
            self.engine.bounds.max_tags,
        )
        .map_err(|error| Failure::new(Class::InvalidSpec, format!("image: {error}")))?;
        let count = selected.len();
        for tag in selected {
            wanted.entry(tag).or_insert(None);
        }
        Ok((wanted, Some(Ok(count))))
    }
}

/// What is no tag by the grammar is none that could be copied.
pub(super) fn offered(tags: &[String]) -> Offered {
    tags.iter().filter_map(|tag| Some((tag.parse().ok()?, None))).collect()
}

/// What a tag is in ECR, where the source need not be asked: it has the only digest that it may
/// have, or it is enough that it is there.
fn settled(image: &Image, seen: &Seen, tag: &Tag, pin: Option<&Digest>) -> Option<Digest> {
    let archived = || seen.archived.get(tag).map(|archived| &archived.digest);
    let current = seen.images.tags.get(tag).or_else(archived)?;
    let is_enough = match pin {
        Some(pin) => pin == current && image.platforms.is_none(),
        None => image.check_policy == CheckPolicy::IfNotPresent,
    };
    is_enough.then(|| current.clone())
}

fn check_pin(
    origin: &Origin,
    found: SourceTag,
    pin: Option<&Digest>,
) -> Result<SourceTag, Failure> {
    let SourceContent::Manifest(copied) = &found.content else { return Ok(found) };
    let digest = &origin.rebuilt(copied).map_or_else(|| copied.clone(), |rebuilt| rebuilt.source);
    match pin {
        Some(pin) if digest != pin => Err(Failure::new(
            Class::SourceChanged,
            format!(
                "{} is pinned to {pin}, but the source now has {digest}: check what changed, then move the pin",
                found.label
            ),
        )),
        _ => Ok(found),
    }
}

pub(super) async fn source_tag(
    source: &Origin,
    reference: &Reference,
    tag: &Tag,
    ask: Ask,
    earlier: Option<&Rebuilt>,
) -> Result<SourceTag, Failure> {
    let digest = source.resolve(tag, ask).await?;
    narrowed(source, reference, tag, digest, earlier).await
}

/// A tag of which the source's digest is known.
async fn narrowed(
    source: &Origin,
    reference: &Reference,
    tag: &Tag,
    digest: Digest,
    earlier: Option<&Rebuilt>,
) -> Result<SourceTag, Failure> {
    let label = format!("{}:{tag}", reference.name());
    let digest = source.narrow(&label, digest, earlier).await?;
    Ok(SourceTag { label, content: SourceContent::Manifest(digest) })
}
