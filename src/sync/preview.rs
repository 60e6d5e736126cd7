//! What a dry run tells beyond its report: the actions themselves, what they replace, and what they
//! would send.
//!
//! Reads manifests of images that would be copied, from their source; of ECR it asks nothing that
//! counts as a pull.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::artifact::{ArtifactKind, Source};
use super::copy::transfer_size;
use super::engine::Engine;
use super::job::{Job, Mode};
use super::pass::{Pass, Survey, bounded};
use super::report::Report;
use crate::ecr::policy::{self, Kind, Wanted};
use crate::registry::{Digest, Tag};

pub use super::copy::transfer_size::TransferSize;

/// What would be done, in the order of doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The actions.
    pub actions: Vec<Action>,
    /// How the policies that are there would change, in words.
    pub policies: BTreeMap<Kind, Vec<String>>,
    /// Resource tags that are there.
    pub resource_tags: BTreeMap<String, String>,
    /// What each tag would send. A blob counts for the first tag that needs it.
    pub transfer_sizes: BTreeMap<(ArtifactKind, Tag), TransferSize>,
}

impl Engine {
    /// A dry run that also finds out what would be sent.
    pub async fn preview(&self, job: &Job, stop: &CancellationToken) -> (Report, Preview) {
        let work = async {
            let pass = Pass::new(self, job, Mode::DryRun).await?;
            let survey = pass.look().await?;
            let transfer_sizes = pass.transfer_sizes(&survey).await;
            let Survey { desired, observed, plan } = &survey;
            let there = observed.repository.as_ref();
            let changes = |kind, wanted: &Wanted, live: Option<&String>| match (wanted, live) {
                (Wanted::Document(wanted), Some(live)) => {
                    Some((kind, policy::changes(kind, wanted, live)))
                }
                _ => None,
            };
            let policies = [
                changes(
                    Kind::Lifecycle,
                    &desired.lifecycle,
                    there.and_then(|there| there.lifecycle.as_ref()),
                ),
                changes(
                    Kind::Permission,
                    &desired.permission,
                    there.and_then(|there| there.permission.as_ref()),
                ),
            ];
            let preview = Preview {
                actions: plan.actions.clone(),
                policies: policies.into_iter().flatten().collect(),
                resource_tags: there.map(|there| there.resource_tags.clone()).unwrap_or_default(),
                transfer_sizes,
            };
            Ok((Report::new(desired, observed, plan, None, &job.earlier), preview))
        };
        bounded(job, stop, work)
            .await
            .unwrap_or_else(|failure| (Report::failed(failure), Preview::default()))
    }
}

impl Pass<'_> {
    /// What each copied image would send. What cannot be told is left out: the copy would say why.
    async fn transfer_sizes(&self, survey: &Survey) -> BTreeMap<(ArtifactKind, Tag), TransferSize> {
        let mut transfer_sizes = BTreeMap::new();
        let mut counted: BTreeSet<Digest> = BTreeSet::new();
        for artifact in &survey.desired.artifacts {
            let Source::Registry(origin) = &artifact.source else { continue };
            let copies: Vec<_> = survey
                .plan
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::CopyTag { kind, tag, digest: Some(digest), .. }
                        if *kind == artifact.kind =>
                    {
                        Some((tag.clone(), digest.clone()))
                    }
                    _ => None,
                })
                .collect();
            let digests: BTreeSet<_> = copies.iter().map(|(_, digest)| digest.clone()).collect();
            let blobs = transfer_size::blobs(origin, digests).await;
            self.job.progress.advance(1);
            let all: BTreeSet<_> =
                blobs.values().flatten().map(|blob| blob.digest.clone()).collect();
            // A repository that is yet to be created lacks them all.
            let missing = match &survey.observed.repository {
                Some(there) => {
                    match self.target.registry.missing_blobs(&there.repository.name, &all).await {
                        Ok(missing) => missing,
                        Err(error) => {
                            tracing::warn!(repository = there.repository.name, %error, "cannot tell what would be sent");
                            continue;
                        }
                    }
                }
                None => all,
            };
            for (tag, digest) in copies {
                let Some(blobs) = blobs.get(&digest) else { continue };
                let mut size = TransferSize::default();
                for blob in blobs.iter().filter(|blob| missing.contains(&blob.digest)) {
                    if counted.insert(blob.digest.clone()) {
                        size.blobs += 1;
                        size.bytes += blob.size;
                    }
                }
                transfer_sizes.insert((artifact.kind, tag), size);
            }
        }
        transfer_sizes
    }
}
