//! spec -> [`Desired`]: reads the sources.

mod chart;
mod image;
mod mirrored;

use futures::FutureExt;
use futures::future::OptionFuture;

use super::artifact::DesiredArtifact;
use super::desired::{Desired, Own, revision};
use super::job::Mode;
use super::origin::Ask;
use super::pass::Pass;
use super::target::TagsInEcr;
use crate::api::v1alpha1::ArchivedImages;
use crate::ecr::policy::Wanted;
use crate::failure::Failure;
use crate::registry::Tag;

/// Tags of one source that are asked for at the same time. The limits of its host apply to all
/// passes together.
const CONCURRENT_TAGS: usize = 32;

impl Pass<'_> {
    /// Returns the desired state of the repository itself, without artifacts.
    pub(super) fn desired(&self) -> Desired {
        let spec = &self.job.spec;
        // A wrong document costs only itself: the document in ECR is kept.
        let own = |policy: &Result<Wanted, _>| policy.clone().unwrap_or(Wanted::Unmanaged);
        let own = Own {
            lifecycle: own(&spec.lifecycle),
            permission: own(&spec.permission),
            resource_tags: spec.resource_tags.clone().unwrap_or_default(),
        };
        let settings = spec.settings.clone();
        let defaults = self.engine.defaults.current().for_spec(spec);
        let refused = spec.refused().map(|violations| Failure::invalid(violations)).collect();

        Desired {
            repository: spec.repository.clone(),
            revision: revision(&settings, &own, &defaults),
            settings,
            refused,
            drift_policy: spec.drift_policy,
            defaults,
            lifecycle: own.lifecycle.clone(),
            permission: own.permission.clone(),
            resource_tags: own.resource_tags.clone(),
            own,
            restore: spec.archived_images == ArchivedImages::Restore,
            referrers: spec.image.as_ref().is_some_and(|image| image.referrers),
            prunes: spec.prune.is_some(),
            artifacts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Asks the sources for each wanted tag: for the manifest if the target lacks the tag and it
    /// will be copied, otherwise only for the digest.
    ///
    /// # Errors
    /// When ECR cannot be read, or more tags are wanted than are allowed. A tag that cannot be read
    /// is not an error: the result has its failure.
    pub(super) async fn artifacts(&self) -> Result<Vec<DesiredArtifact>, Failure> {
        let spec = &self.job.spec;
        let image = spec.image.as_ref().map(|image| self.resolve_image(image));
        let chart = spec.chart.as_ref().map(|chart| self.resolve_chart(chart));
        let (image, chart) = tokio::try_join!(
            OptionFuture::from(image).map(Option::transpose),
            OptionFuture::from(chart).map(Option::transpose),
        )?;
        Ok(image.into_iter().chain(chart).collect())
    }

    /// Returns which of the tags of an artifact ECR has. Asks also for the listed tags of the other
    /// artifact, since the number of batches matters, not the number of tags.
    async fn tags_in_ecr<'a>(
        &'a self,
        tags: impl Iterator<Item = &'a Tag>,
    ) -> Result<TagsInEcr, Failure> {
        let spec = &self.job.spec;
        let image = spec.image.iter().flat_map(|image| image.tags.keys());
        let chart = spec.chart.iter().flat_map(|chart| &chart.versions).map(|(_, tag)| tag);
        let wanted = tags.chain(image).chain(chart).cloned().collect();
        self.target.assumed_tags(&wanted).await
    }

    /// Returns the request that resolves a tag in its source. Some sources count a GET as a pull,
    /// so it is used only for a tag that will be copied.
    fn how_to_ask(&self, in_ecr: &TagsInEcr, tag: &Tag) -> Ask {
        let is_given_up = || {
            self.job.earlier.expired.get(tag).is_some_and(|expired| expired.verdict(tag).is_some())
        };
        if self.mode == Mode::Apply && in_ecr.lacks(tag) && !is_given_up() {
            Ask::Manifest
        } else {
            Ask::Digest
        }
    }
}
