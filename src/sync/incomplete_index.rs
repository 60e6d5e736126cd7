//! Indexes that are in ECR under the right digest and lack something that they name. ECR does not
//! delete what an index names, but such indexes exist: those of a pull-through cache rule, which
//! has only what somebody pulled, and those that something broke that knows more of ECR than we do.
//!
//! ECR tells what is an index, but only a pull tells what is in it, and ECR is not pulled from. So
//! the source is asked, once per `driftInterval` and on demand ([`super::Earlier::inspects`]), and
//! by each run of the command line: one GET per index, and one DescribeImages per hundred of what
//! they name. Sources that count pulls are not, and neither are ECR registries, whose lifecycle
//! rules may go by them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::artifact::{ArtifactKind, DesiredArtifact, Source, SourceContent};
use super::desired::Desired;
use super::job::EcrSource;
use super::origin::Origin;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::api::v1alpha1::CheckPolicy;
use crate::ecr::{Host, Images};
use crate::failure::Failure;
use crate::registry::{Content, DOCKER_LIST, Digest, OCI_INDEX};

/// Indexes that are read at the same time.
const CONCURRENT: usize = 8;
/// Indexes that are read for one tag: itself and those in it. More are unheard of.
const MOST_READ: usize = 8;
/// As with copies: larger ones are none that we brought here.
const MOST_CHILDREN: usize = 2_000;

/// What is in the wanted indexes that are in ECR.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The indexes that lack something.
    pub(super) incomplete: BTreeSet<Digest>,
    /// All that they name, as far as the sources tell.
    pub(super) children: BTreeSet<Digest>,
}

impl Pass<'_> {
    /// What the wanted indexes in ECR name, and which of them lack some of it. What is found to be
    /// there is added to `images`.
    ///
    /// # Errors
    /// As AWS answers. What the source does not tell is no failure: the tag is in sync.
    pub(super) async fn named(
        &self,
        desired: &Desired,
        images: &mut Images,
    ) -> Result<Named, Failure> {
        let target = &self.target;
        let mut in_sync = self.in_sync(desired, images);
        // A listing has digests and no more.
        let unknown: BTreeSet<_> =
            in_sync.keys().filter(|top| !images.indexes.contains_key(*top)).cloned().collect();
        if !unknown.is_empty() {
            images.extend(
                retry_throttled(|| async {
                    Ok(target.registry.manifests(target.name(), &unknown).await?)
                })
                .await?,
            );
        }
        in_sync.retain(|top, _| images.indexes.get(top) == Some(&true));
        let reads: Vec<_> = in_sync.into_iter().map(|(top, origin)| named(origin, top)).collect();
        let named: Vec<_> = stream::iter(reads).buffer_unordered(CONCURRENT).collect().await;
        let named: Vec<(Digest, BTreeSet<Digest>)> = named.into_iter().flatten().collect();
        let asked = named.iter().flat_map(|(_, named)| named);
        let asked: BTreeSet<_> =
            asked.filter(|digest| !images.manifests.contains(*digest)).cloned().collect();
        if !asked.is_empty() {
            images.extend(
                retry_throttled(|| async {
                    Ok(target.registry.manifests(target.name(), &asked).await?)
                })
                .await?,
            );
        }
        let lacks = |named: &BTreeSet<Digest>| {
            named.iter().any(|digest| !images.manifests.contains(digest))
        };
        let incomplete =
            named.iter().filter(|(_, named)| lacks(named)).map(|(top, _)| top.clone()).collect();
        Ok(Named { incomplete, children: named.into_iter().flat_map(|(_, named)| named).collect() })
    }

    /// The manifests that are wanted and there, with where they come from.
    fn in_sync<'d>(&self, desired: &'d Desired, images: &Images) -> BTreeMap<Digest, &'d Origin> {
        let is_enough = |kind| {
            let policy = self.job.spec.image.as_ref().map(|image| image.check_policy);
            kind == ArtifactKind::Image && policy == Some(CheckPolicy::IfNotPresent)
        };
        let mut found = BTreeMap::new();
        for artifact in desired.artifacts.iter().filter(|artifact| !is_enough(artifact.kind)) {
            let Source::Registry(origin) = &artifact.source else { continue };
            if origin.client.counts_pulls() || self.is_ecr(artifact, origin) {
                continue;
            }
            for (tag, wanted) in &artifact.tags {
                let Ok(SourceContent::Manifest(digest)) =
                    wanted.source.as_ref().map(|source| &source.content)
                else {
                    continue;
                };
                if images.tags.get(tag) == Some(digest) {
                    found.insert(digest.clone(), origin);
                }
            }
        }
        found
    }

    /// Whether the source is a private ECR registry, where a GET is a pull that moves
    /// `lastRecordedPullTime`.
    pub(super) fn is_ecr(&self, artifact: &DesiredArtifact, origin: &Origin) -> bool {
        let login =
            self.job.access_of(artifact).as_ref().ok().and_then(|access| access.ecr.as_ref());
        login.is_some_and(|login| matches!(login.registry, EcrSource::Private(_)))
            || Host::parse(origin.client.host()).is_some()
    }
}

/// What an index names, and what the indexes in it name. `None` where the source does not tell, or
/// counts what it is asked.
async fn named(origin: &Origin, top: Digest) -> Option<(Digest, BTreeSet<Digest>)> {
    let mut named = BTreeSet::new();
    let mut indexes = vec![top.clone()];
    for _ in 0..MOST_READ {
        let Some(index) = indexes.pop() else { break };
        if origin.client.counts_pulls() {
            return None;
        }
        let content = match origin.manifest(&index).await {
            Ok(manifest) => manifest.kind(),
            Err(failure) => {
                tracing::debug!(%failure, "cannot tell whether the index is whole in ECR");
                return None;
            }
        };
        let Ok(Content::Index { children }) = content else { continue };
        for child in children {
            let is_index = matches!(child.media_type.as_str(), OCI_INDEX | DOCKER_LIST);
            if named.insert(child.digest.clone()) && is_index {
                indexes.push(child.digest);
            }
        }
        if named.len() > MOST_CHILDREN {
            return None;
        }
    }
    Some((top, named))
}
