//! spec -> [`Desired`]: what is wanted now, with what the sources have now.

mod chart;
mod image;
mod mirrored;

use super::artifact::DesiredArtifact;
use super::desired::{Desired, Own, revision};
use super::job::Mode;
use super::origin::Ask;
use super::pass::Pass;
use super::target::Seen;
use crate::api::v1alpha1::ArchivedImages;
use crate::ecr::policy::Wanted;
use crate::failure::Failure;
use crate::registry::Tag;

/// Tags of one source that are asked for at the same time; its host has its own limit for all
/// passes together.
const CONCURRENT_TAGS: usize = 32;

impl Pass<'_> {
    /// What a spec wants of the repository itself: no artifacts yet.
    pub(super) fn desired(&self) -> Desired {
        let spec = &self.job.spec;
        // A wrong document costs itself only: what ECR has in its place is kept.
        let own = |policy: &Result<Wanted, _>| policy.clone().unwrap_or(Wanted::Unmanaged);
        let lifecycle = own(&spec.lifecycle);
        let permission = own(&spec.permission);
        let refused = spec.refused().map(|violations| Failure::invalid(violations)).collect();

        let settings = spec.settings.clone();
        let defaults = self.engine.defaults.current().for_spec(spec);
        let resource_tags = spec.resource_tags.clone().unwrap_or_default();
        let own = Own { lifecycle, permission, resource_tags };
        let revision = revision(&settings, &own, &defaults);
        Desired {
            repository: spec.repository.clone(),
            settings,
            refused,
            revision,
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

    /// Asks the sources for each wanted tag: for the manifest where `target` lacks the tag and it
    /// will be copied, for the digest alone elsewhere.
    ///
    /// # Errors
    /// When ECR cannot be asked, or more is wanted than is allowed. A tag that cannot be read is
    /// not an error here: it is in the result.
    pub(super) async fn artifacts(&self) -> Result<Vec<DesiredArtifact>, Failure> {
        let spec = &self.job.spec;
        let image = async {
            match &spec.image {
                Some(image) => self.resolve_image(image).await.map(Some),
                None => Ok(None),
            }
        };
        let chart = async {
            match &spec.chart {
                Some(chart) => self.resolve_chart(chart).await.map(Some),
                None => Ok(None),
            }
        };
        let (image, chart) = tokio::try_join!(image, chart)?;
        Ok(image.into_iter().chain(chart).collect())
    }
}

impl Pass<'_> {
    /// What ECR has of the tags of an artifact. Those that the spec lists for the other one are
    /// asked for along with them, since batches are paid for, not tags.
    async fn tags_in_ecr<'a>(
        &'a self,
        tags: impl Iterator<Item = &'a Tag>,
    ) -> Result<Seen, Failure> {
        let spec = &self.job.spec;
        let image = spec.image.iter().flat_map(|image| image.tags.keys());
        let chart = spec.chart.iter().flat_map(|chart| &chart.versions).map(|(_, tag)| tag);
        let listed = image.chain(chart);
        self.target.foreseen(&tags.chain(listed).cloned().collect()).await
    }

    /// How to ask the source for a tag.
    fn how_to_ask(&self, seen: &Seen, tag: &Tag) -> Ask {
        // A dry run copies nothing, and neither is a tag copied that was given up: some sources
        // count a GET as a pull.
        let given_up = || {
            self.job.earlier.expired.get(tag).is_some_and(|expired| expired.verdict(tag).is_some())
        };
        if self.mode == Mode::Apply && seen.lacks(tag) && !given_up() {
            Ask::Whole
        } else {
            Ask::Digest
        }
    }
}
