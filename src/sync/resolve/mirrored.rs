//! An image that is read from a mirror. If the mirror fails, the original registry is read, where
//! that is allowed.

use crate::failure::Failure;
use crate::registry::Reference;
use crate::spec::Image;
use crate::sync::artifact::DesiredArtifact;
use crate::sync::job::Access;
use crate::sync::origin::Origin;
use crate::sync::pass::Pass;

/// A registry that an image is read from.
pub(super) struct ImageSource<'a> {
    pub(super) reference: &'a Reference,
    pub(super) access: &'a Result<Access, Failure>,
}

impl Pass<'_> {
    /// Resolves the image in its mirror, if it has one.
    ///
    /// # Errors
    /// Those of [`Self::image_at`].
    pub(super) async fn resolve_image(&self, image: &Image) -> Result<DesiredArtifact, Failure> {
        let original = ImageSource { reference: &image.reference, access: &self.job.access.image };
        let Some(mirrored) = &self.job.mirrored else {
            return self.image_at(image, &original).await;
        };

        let mirror = ImageSource { reference: &mirrored.reference, access: &mirrored.access };
        let mut artifact = self.image_at(image, &mirror).await?;
        artifact.original = Some(original.reference.name());
        if !mirrored.fallback {
            return Ok(artifact);
        }

        let Some(failure) = first_failure(&artifact).cloned() else {
            // Content may still be missing in the mirror when it is copied.
            artifact.original_origin = self.origin_at(image, &original).await;
            return Ok(artifact);
        };
        let passed_over = format!(
            "{} was read from its original registry, since its mirror {} failed: {failure}",
            original.reference.name(),
            mirror.reference.name()
        );
        Ok(DesiredArtifact {
            passed_over: Some(passed_over),
            ..self.image_at(image, &original).await?
        })
    }

    /// Opens the repository that an image is read from.
    pub(super) async fn image_origin(
        &self,
        image: &Image,
        source: &ImageSource<'_>,
    ) -> Result<Origin, Failure> {
        let access = source.access.as_ref().map_err(Clone::clone)?;
        let origin = self.engine.origin(access, source.reference).await?;
        self.job.progress.uses(&origin.client);
        Ok(origin.narrowed(image.platforms.clone()))
    }

    /// Opens the original repository. If that fails, the copy works without it.
    async fn origin_at(&self, image: &Image, original: &ImageSource<'_>) -> Option<Origin> {
        match self.image_origin(image, original).await {
            Ok(origin) => Some(origin),
            Err(failure) => {
                let name = original.reference.name();
                tracing::warn!(%failure, "cannot use {name} as a fallback of its mirror");
                None
            }
        }
    }
}

/// Returns why a part of the image is not known.
fn first_failure(artifact: &DesiredArtifact) -> Option<&Failure> {
    let of_tags = artifact.tags.values().filter_map(|wanted| wanted.source.as_ref().err());
    artifact.listing.iter().chain(of_tags).next()
}
