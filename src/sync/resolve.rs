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
use crate::api::v1alpha1::{ArchivedImages, EcrRepositorySyncSpec, ImageTagMutability, Referrers};
use crate::ecr::policy::{Kind, Wanted};
use crate::ecr::{Encryption, Mutability, Settings};
use crate::failure::Failure;
use crate::registry::Tag;
use crate::selection::{Pin, tag_of};

/// Tags of one source that are asked for at the same time; its host has its own limit for all
/// passes together.
const CONCURRENT_TAGS: usize = 32;

impl Pass<'_> {
    /// What a spec wants of the repository itself: no artifacts yet.
    pub(super) fn desired(&self) -> Desired {
        let spec = &self.job.spec;
        // A document that is wrong costs itself only: what is in ECR in its place stays, and all
        // else is done.
        let mut refused = Vec::new();
        let mut read = |kind, policy| match Wanted::read(kind, policy) {
            Ok(wanted) => wanted,
            Err(violations) => {
                refused.push(Failure::invalid(&violations));
                Wanted::Unmanaged
            }
        };
        let lifecycle = read(Kind::Lifecycle, spec.lifecycle_policy.as_ref());
        let permission = read(Kind::Permission, spec.permission_policy.as_ref());
        let (settings, defaults) = (settings(spec), self.engine.defaults.current().for_spec(spec));
        let resource_tags = spec.resource_tags.clone().unwrap_or_default();
        let own = Own { lifecycle, permission, resource_tags };
        let revision = revision(&settings, &own, &defaults);
        Desired {
            repository: self.job.repository_name().to_owned(),
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
            referrers: spec.image.as_ref().is_some_and(|image| image.referrers == Referrers::All),
            prunes: spec.pruning().is_some(),
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
    async fn tags_in_ecr(&self, tags: impl Iterator<Item = &Tag>) -> Result<Seen, Failure> {
        let spec = &self.job.spec;
        let image = spec
            .image
            .iter()
            .flat_map(|image| &image.tags)
            .map(|tag| Pin::parse(tag).tag.to_owned());
        let chart = spec
            .chart
            .iter()
            .flat_map(|chart| &chart.tags)
            .map(|version| tag_of(version).to_string());
        let listed = image.chain(chart).filter_map(|tag| tag.parse().ok());
        self.target.foreseen(&tags.cloned().chain(listed).collect()).await
    }

    /// How to ask the source for a tag.
    fn how_to_ask(&self, seen: &Seen, tag: &Tag) -> Ask {
        // A dry run copies nothing, and neither is a tag copied that was given up: some sources
        // count a GET as a pull.
        let given_up = || {
            self.job
                .before
                .vanished
                .get(tag)
                .is_some_and(|vanished| vanished.verdict(tag).is_some())
        };
        if self.mode == Mode::Apply && seen.lacks(tag) && !given_up() {
            Ask::Whole
        } else {
            Ask::Digest
        }
    }
}

fn settings(spec: &EcrRepositorySyncSpec) -> Settings {
    let filters = || spec.image_tag_mutability_exclusion_filters.clone();
    Settings {
        mutability: spec.image_tag_mutability.map(|mutability| match mutability {
            ImageTagMutability::Mutable => Mutability::Mutable,
            ImageTagMutability::Immutable => Mutability::Immutable,
            ImageTagMutability::MutableWithExclusion => Mutability::MutableExcept(filters()),
            ImageTagMutability::ImmutableWithExclusion => Mutability::ImmutableExcept(filters()),
        }),
        scan_on_push: spec.scan_on_push,
        encryption: spec.encryption.as_ref().map(|wanted| Encryption {
            kind: wanted.type_.as_str().to_owned(),
            key: wanted.kms_key.clone(),
        }),
    }
}
