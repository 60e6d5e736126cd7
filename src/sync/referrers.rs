//! Signatures and other artifacts that refer to the wanted images. They are copied as far as
//! possible and reported separately: a failure is not a failure of the image.

use std::collections::{BTreeSet, HashSet};

use super::action::Plan;
use super::artifact::{ArtifactKind, Source, TagState};
use super::copy::{self, Copier, Order};
use super::desired::Desired;
use super::observed::{Configuration, Observed};
use super::origin::Origin;
use super::outcomes::{Outcomes, ReferrersReport};
use super::pass::Pass;
use crate::class::Class;
use crate::ecr::{OWNER_TAG, Repository};
use crate::failure::Failure;
use crate::place;
use crate::registry::{Client, Digest, Tag};
use crate::writes::Change;

impl Pass<'_> {
    /// Copies the artifacts that refer to the images in ECR.
    pub(super) async fn copy_referrers(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        repository: &Repository,
        outcomes: &mut Outcomes,
    ) {
        let image = desired.artifacts.iter().find(|artifact| artifact.kind == ArtifactKind::Image);
        let image = image.filter(|_| desired.referrers).map(|artifact| &artifact.source);
        let Some(Source::Registry(origin)) = image else { return };

        let images = synced_images(origin, plan, outcomes);
        let referrers = copy::find_referrers(origin, &images).await;
        self.job.progress.advance(1);
        let mut report = ReferrersReport {
            found: referrers.manifests.len() + referrers.tags.len(),
            copied: 0,
            failures: referrers.failures.clone(),
        };

        let copied = match self.missing_referrers(observed, referrers).await {
            Ok(orders) if orders.is_empty() => Ok(Vec::new()),
            Ok(orders) => match self.owned(desired, observed, repository).await {
                Ok(repository) => self.copy_orders(origin, observed, &repository, orders).await,
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        match copied {
            Ok(results) => {
                for (order, result) in results {
                    match result {
                        Ok(()) => {
                            report.copied += 1;
                            outcomes.changes.push(change(&order));
                        }
                        Err(failure) => report.failures.push(failure),
                    }
                }
            }
            Err(failure) => report.failures.push(failure),
        }
        outcomes.referrers = Some(report);
    }

    /// Returns the repository to write to. After a quick look, the repository is read first: it may
    /// belong to somebody else by now, or be another one than an earlier pass recorded.
    async fn owned(
        &self,
        desired: &Desired,
        observed: &Observed,
        repository: &Repository,
    ) -> Result<Repository, Failure> {
        let is_assumed =
            observed.repository.as_ref().is_some_and(|observed| !observed.configuration_read);
        if !is_assumed {
            return Ok(repository.clone());
        }

        let Some(Configuration { repository, resource_tags, .. }) =
            self.configuration(desired).await?
        else {
            let message = format!("somebody deleted repository {} just now", self.target.name());
            return Err(Failure::new(Class::RegistryUnavailable, message));
        };
        let is_gone = self.owner_is_gone(resource_tags.get(OWNER_TAG)).await;
        let claimant = &self.job.claimant;
        claimant.may_keep(self.target.name(), &repository.arn, &resource_tags, is_gone)?;
        Ok(repository)
    }

    async fn copy_orders(
        &self,
        origin: &Origin,
        observed: &Observed,
        repository: &Repository,
        orders: Vec<Order>,
    ) -> Result<Vec<(Order, Result<(), Failure>)>, Failure> {
        place::copying().await;
        let target = self.target.registry.data_plane(repository).await?;
        let copier = self.copier(origin, &target, repository, observed.known_manifests());
        Ok(copier.run(orders).await)
    }

    /// Prepares copies from `origin` into `repository`, which already has the `known` manifests.
    pub(super) fn copier<'c>(
        &'c self,
        origin: &'c Origin,
        target: &'c Client,
        repository: &'c Repository,
        known: HashSet<Digest>,
    ) -> Copier<'c> {
        Copier::new(
            &self.target.registry,
            target,
            repository,
            origin,
            known,
            &self.engine.blobs,
            self.job.progress.clone(),
        )
    }

    /// Returns the referrers that the target lacks.
    async fn missing_referrers(
        &self,
        observed: &Observed,
        referrers: copy::Found,
    ) -> Result<Vec<Order>, Failure> {
        let registry = &self.target.registry;
        let name = self.target.name();
        let known = observed.known_manifests();
        let mut manifests = referrers.manifests;
        manifests.retain(|digest| !known.contains(digest));

        let existing = registry.manifests(name, &manifests).await?.manifests;
        let tags = referrers.tags.keys().cloned().collect();
        let tags = registry.images(name, &tags).await?.unwrap_or_default().tags;

        let by_digest = manifests.into_iter().filter(|digest| !existing.contains(digest));
        let by_tag =
            referrers.tags.into_iter().filter(|(tag, digest)| tags.get(tag) != Some(digest));
        Ok(by_digest
            .map(|digest| order(None, digest))
            .chain(by_tag.map(|(tag, digest)| order(Some(tag), digest)))
            .collect())
    }
}

fn order(tag: Option<Tag>, digest: Digest) -> Order {
    let after = tag.as_ref().map(|tag| format!("{tag}@{digest}")).unwrap_or_default();
    Order { tag, digest, change: Change { field: "referrers", before: String::new(), after } }
}

/// Returns the images that are in ECR after this pass. An index that was built for some platforms
/// has no referrers: they refer to the source's index.
fn synced_images(origin: &Origin, plan: &Plan, outcomes: &Outcomes) -> BTreeSet<Digest> {
    let settled = plan.settled.iter().filter(|(key, _)| !outcomes.tags.contains_key(*key));
    let images = settled.chain(&outcomes.tags).filter_map(|((kind, _), state)| match state {
        TagState::Synced(digest) if *kind == ArtifactKind::Image => Some(digest.clone()),
        _ => None,
    });
    images.filter(|digest| origin.rebuilt(digest).is_none()).collect()
}

fn change(order: &Order) -> String {
    let tag = order.tag.as_ref().map(|tag| format!(" as tag {tag}")).unwrap_or_default();
    format!("copied referrer {}{tag}", order.digest)
}
