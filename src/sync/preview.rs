//! The preview of a pass: its actions, the values that they replace, and the bytes to send.
//!
//! Reads the manifests of images that would be copied from their source. Sends no request to ECR
//! that counts as a pull.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::artifact::{ArtifactKind, Source};
use super::copy::transfer_size;
use super::engine::Engine;
use super::job::{Job, Mode};
use super::pass::{Pass, Survey, bounded};
use super::report::Report;
use crate::ecr::policy::{self, Kind};
use crate::registry::{Digest, Tag};

pub(crate) use super::copy::transfer_size::TransferSize;

/// The actions of a pass, in order, and what they would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The actions.
    pub actions: Vec<Action>,
    /// The changes of the existing policies, in words.
    pub policies: BTreeMap<Kind, Vec<String>>,
    /// The existing resource tags.
    pub resource_tags: BTreeMap<String, String>,
    /// The transfer of each tag. A blob counts for the first tag that needs it.
    pub transfer_sizes: BTreeMap<(ArtifactKind, Tag), TransferSize>,
}

impl Engine {
    /// Runs a dry run, and finds out how much it would send.
    pub async fn preview(&self, job: &Job, stop: &CancellationToken) -> (Report, Preview) {
        let work = async {
            let pass = Pass::new(self, job, Mode::DryRun).await?;
            let survey = pass.look().await?;
            let transfer_sizes = pass.transfer_sizes(&survey).await;

            let Survey { desired, observed, plan } = &survey;
            let repository = observed.repository.as_ref();
            let preview = Preview {
                actions: plan.actions.clone(),
                policies: policy_changes(&survey),
                resource_tags: repository
                    .map(|repository| repository.resource_tags.clone())
                    .unwrap_or_default(),
                transfer_sizes,
            };
            Ok((Report::new(desired, observed, plan, None, &job.earlier), preview))
        };
        bounded(&self.bounds, job, stop, work)
            .await
            .unwrap_or_else(|failure| (Report::failed(failure), Preview::default()))
    }
}

/// Describes the changes of policies that exist and are replaced.
fn policy_changes(survey: &Survey) -> BTreeMap<Kind, Vec<String>> {
    let Survey { desired, observed, .. } = survey;
    let Some(repository) = &observed.repository else { return BTreeMap::new() };
    let changes = desired.policies().filter_map(|(kind, wanted)| {
        let live = match kind {
            Kind::Lifecycle => &repository.lifecycle,
            Kind::Permission => &repository.permission,
        };
        Some((kind, policy::changes(kind, wanted, live.as_ref()?)))
    });
    changes.collect()
}

impl Pass<'_> {
    /// Returns the transfer of each image that would be copied. An image that cannot be read is
    /// left out; its copy would report the reason.
    async fn transfer_sizes(&self, survey: &Survey) -> BTreeMap<(ArtifactKind, Tag), TransferSize> {
        let mut sizes = BTreeMap::new();
        let mut counted: BTreeSet<Digest> = BTreeSet::new();
        for artifact in &survey.desired.artifacts {
            let Source::Registry(origin) = &artifact.source else { continue };
            let copies = survey.plan.copies(artifact.kind);
            let copies = copies.filter_map(|(tag, digest, _)| Some((tag.clone(), digest?.clone())));
            let copies: Vec<(Tag, Digest)> = copies.collect();
            let digests: BTreeSet<_> = copies.iter().map(|(_, digest)| digest.clone()).collect();
            let blobs = transfer_size::blobs(origin, digests).await;
            self.job.progress.advance(1);

            let mut missing = blobs.values().flatten().map(|blob| blob.digest.clone()).collect();
            if survey.observed.repository.is_some() {
                let repository = self.target.name();
                match self.target.registry.missing_blobs(repository, &missing).await {
                    Ok(digests) => missing = digests,
                    Err(error) => {
                        tracing::warn!(repository, %error, "cannot tell how much would be sent");
                        continue;
                    }
                }
            }

            for (tag, digest) in copies {
                let Some(blobs) = blobs.get(&digest) else { continue };
                let mut size = TransferSize::default();
                for blob in blobs.iter().filter(|blob| missing.contains(&blob.digest)) {
                    if counted.insert(blob.digest.clone()) {
                        size.blobs += 1;
                        size.bytes += blob.size;
                    }
                }
                sizes.insert((artifact.kind, tag), size);
            }
        }
        sizes
    }
}
