//! An image that is read from a mirror, and from its own place where that fails and may be asked.

use super::{DesiredArtifact, Looking, Source, WantedTag};
use crate::api::v1alpha1::Image;
use crate::registry::{Platforms, Reference};
use crate::sync::{Access, Engine, Failure, Origin};

/// A place that an image is read from instead of its own.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The image there.
    pub reference: Reference,
    /// Whether it is reached by plain HTTP.
    pub insecure: bool,
    /// How to reach it, or why it cannot be reached.
    pub access: Result<Access, Failure>,
    /// Whether the image's own place is read where this one fails.
    pub fallback: bool,
}

/// Where an image is read.
pub(super) struct Place<'a> {
    pub(super) reference: Reference,
    pub(super) insecure: bool,
    pub(super) access: &'a Result<Access, Failure>,
}

impl Engine {
    /// The image in its mirror, where it has one.
    ///
    /// # Errors
    /// As [`Self::image_at`].
    pub(super) async fn resolve_image(
        &self,
        looking: &Looking<'_>,
        image: &Image,
    ) -> Result<DesiredArtifact, Failure> {
        let job = looking.job;
        let own = Place {
            reference: image.pull_url.parse()?,
            insecure: image.insecure,
            access: &job.access.image,
        };
        let Some(mirrored) = &job.mirrored else {
            return self.image_at(looking, image, &own).await;
        };
        let mirror = Place {
            reference: mirrored.reference.clone(),
            insecure: mirrored.insecure,
            access: &mirrored.access,
        };
        let mut found = self.image_at(looking, image, &mirror).await?;
        found.original = Some(own.reference.name());
        if !mirrored.fallback {
            return Ok(found);
        }
        let Some(failure) = first_failure(&found).cloned() else {
            // What is found may still not be there when it is copied.
            found.own = self.origin_at(looking, image, &own).await;
            return Ok(found);
        };
        let (name, place) = (own.reference.name(), mirror.reference.name());
        let passed_over = format!(
            "{name} is read from its own place, since its mirror {place} failed: {failure}"
        );
        Ok(DesiredArtifact {
            passed_over: Some(passed_over),
            ..self.image_at(looking, image, &own).await?
        })
    }

    /// The repository that the image is a copy of. One that cannot be reached is as good as none.
    async fn origin_at(
        &self,
        looking: &Looking<'_>,
        image: &Image,
        own: &Place<'_>,
    ) -> Option<Origin> {
        let client = match own.access {
            Ok(access) => self.source_client(access, &own.reference, own.insecure).await,
            Err(failure) => Err(failure.clone()),
        };
        match client {
            Ok(client) => {
                looking.job.progress.uses(&client);
                let platforms = Platforms::parse(&image.platforms).ok()?;
                Some(Origin::new(client, own.reference.repository.clone()).narrowed(platforms))
            }
            Err(failure) => {
                tracing::warn!(%failure, "{} cannot be read where its mirror fails", own.reference.name());
                None
            }
        }
    }
}

/// Why a part of the image is not known.
fn first_failure(found: &DesiredArtifact) -> Option<&Failure> {
    let of_tags = found.tags.values().filter_map(|wanted| wanted.source.as_ref().err());
    found.listing.iter().chain(of_tags).next()
}

impl DesiredArtifact {
    /// Whether it is read from its mirror.
    pub(in crate::sync) const fn is_mirrored(&self) -> bool {
        self.original.is_some() && self.passed_over.is_none()
    }

    /// Where to read what could not be copied from the mirror; it is asked for by digest, so that
    /// it is the same there.
    pub(in crate::sync) fn elsewhere(&self) -> Option<&Origin> {
        let (Some(own), Source::Registry(mirror)) = (&self.own, &self.source) else { return None };
        let digests = self.tags.values().filter_map(WantedTag::manifest);
        // What is made of an index is made of the same one there.
        digests
            .filter_map(|digest| mirror.rebuilt(digest))
            .for_each(|rebuilt| own.remember(&rebuilt));
        Some(own)
    }
}
