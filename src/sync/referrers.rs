//! Signatures and other artifacts that refer to the wanted images. Best effort: reported apart, and
//! no failure of an image.

use std::collections::BTreeSet;

use super::action::Plan;
use super::artifact::{ArtifactKind, Source, TagState};
use super::copy::{self, Copier};
use super::desired::Desired;
use super::observed::Observed;
use super::outcomes::{Outcomes, ReferrersReport};
use super::pass::Pass;
use crate::ecr::Repository;
use crate::failure::Failure;
use crate::registry::Digest;

impl Pass<'_> {
    /// Copies what refers to the images that are in ECR now.
    pub(super) async fn copy_referrers(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        repository: &Repository,
        outcomes: &mut Outcomes,
    ) {
        let registry = &*self.target.registry;
        let progress = &self.job.progress;
        let image = desired.artifacts.iter().find(|artifact| artifact.kind == ArtifactKind::Image);
        let Some(Source::Registry(origin)) =
            image.filter(|_| desired.referrers).map(|artifact| &artifact.source)
        else {
            return;
        };
        let states = plan
            .settled
            .iter()
            .filter(|(key, _)| !outcomes.tags.contains_key(*key))
            .chain(&outcomes.tags);
        // What was made of an index has no signatures: they are of the index.
        let images: BTreeSet<Digest> = states
            .filter_map(|((kind, _), state)| match state {
                TagState::Synced(digest) if *kind == ArtifactKind::Image => Some(digest.clone()),
                _ => None,
            })
            .filter(|digest| origin.rebuilt(digest).is_none())
            .collect();
        let found = copy::find_referrers(origin, &images).await;
        progress.advance(1);
        let mut report = ReferrersReport {
            found: found.manifests.len() + found.tags.len(),
            copied: 0,
            failures: found.failures.clone(),
        };
        match self.missing_referrers(observed, repository, found).await {
            Ok(orders) if orders.is_empty() => {}
            Ok(orders) => match registry.data_plane(repository).await {
                Ok(target) => {
                    let known =
                        observed.repository.as_ref().map(|there| there.images.manifests.clone());
                    let known = known.unwrap_or_default();
                    let copy = Copier::new(
                        registry,
                        &target,
                        repository,
                        origin,
                        known,
                        &self.engine.blobs,
                        progress.clone(),
                    );
                    for (order, result) in copy.run(orders).await {
                        match result {
                            Ok(()) => {
                                report.copied += 1;
                                let tag = order
                                    .tag
                                    .map(|tag| format!(" as tag {tag}"))
                                    .unwrap_or_default();
                                outcomes
                                    .changes
                                    .push(format!("copied referrer {}{tag}", order.digest));
                            }
                            Err(failure) => report.failures.push(failure),
                        }
                    }
                }
                Err(error) => report.failures.push(error.into()),
            },
            Err(failure) => report.failures.push(failure),
        }
        outcomes.referrers = Some(report);
    }

    /// What of `found` is not in the target.
    async fn missing_referrers(
        &self,
        observed: &Observed,
        repository: &Repository,
        found: copy::Found,
    ) -> Result<Vec<copy::Order>, Failure> {
        let registry = &self.target.registry;
        let mut manifests = found.manifests;
        if let Some(there) = &observed.repository {
            manifests.retain(|digest| !there.images.manifests.contains(digest));
        }
        let there = registry.manifests(&repository.name, &manifests).await?.manifests;
        let tags = registry
            .images(&repository.name, &found.tags.keys().cloned().collect())
            .await?
            .unwrap_or_default()
            .tags;
        let by_digest = manifests.into_iter().filter(|digest| !there.contains(digest));
        let by_tag = found.tags.into_iter().filter(|(tag, digest)| tags.get(tag) != Some(digest));
        Ok(by_digest
            .map(|digest| copy::Order { tag: None, digest })
            .chain(by_tag.map(|(tag, digest)| copy::Order { tag: Some(tag), digest }))
            .collect())
    }
}
