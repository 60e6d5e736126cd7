//! An image that is read from a mirror, and from its own place where that fails and may be asked.

use crate::failure::Failure;
use crate::registry::Reference;
use crate::spec::Image;
use crate::sync::artifact::DesiredArtifact;
use crate::sync::job::Access;
use crate::sync::origin::Origin;
use crate::sync::pass::Pass;

/// Where an image is read.
pub(super) struct ImageSource<'a> {
    pub(super) reference: Reference,
    pub(super) insecure: bool,
    pub(super) access: &'a Result<Access, Failure>,
}

impl Pass<'_> {
    /// The image in its mirror, where it has one.
    ///
    /// # Errors
    /// As [`Self::image_at`].
    pub(super) async fn resolve_image(&self, image: &Image) -> Result<DesiredArtifact, Failure> {
        let job = self.job;
        let own = ImageSource {
            reference: image.reference.clone(),
            insecure: image.insecure,
            access: &job.access.image,
        };
        let Some(mirrored) = &job.mirrored else {
            return self.image_at(image, &own).await;
        };
        let mirror = ImageSource {
            reference: mirrored.reference.clone(),
            insecure: mirrored.insecure,
            access: &mirrored.access,
        };
        let mut found = self.image_at(image, &mirror).await?;
        found.original = Some(own.reference.name());
        if !mirrored.fallback {
            return Ok(found);
        }
        let Some(failure) = first_failure(&found).cloned() else {
            // What is found may still not be there when it is copied.
            found.own = self.origin_at(image, &own).await;
            return Ok(found);
        };
        let (name, place) = (own.reference.name(), mirror.reference.name());
        let passed_over = format!(
            "{name} is read from its own place, since its mirror {place} failed: {failure}"
        );
        Ok(DesiredArtifact { passed_over: Some(passed_over), ..self.image_at(image, &own).await? })
    }

    /// The repository that the image is a copy of. One that cannot be reached is as good as none.
    async fn origin_at(&self, image: &Image, own: &ImageSource<'_>) -> Option<Origin> {
        let client = match own.access {
            Ok(access) => self.engine.source_client(access, &own.reference, own.insecure).await,
            Err(failure) => Err(failure.clone()),
        };
        match client {
            Ok(client) => {
                self.job.progress.uses(&client);
                let platforms = image.platforms.clone();
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
