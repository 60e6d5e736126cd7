//! Indexes in ECR that have the right digest but lack some of their children. ECR does not delete
//! the children of an index, but incomplete indexes exist: a pull-through cache rule stores only
//! what was pulled, and tools that know ECR's internals can break an index.
//!
//! ECR says whether a manifest is an index, but only a pull shows its children, and this program
//! never pulls from ECR. So the source is asked, once per `driftInterval` and when it is forced
//! ([`Earlier::inspects`](super::Earlier::inspects)), and by each run of the command line: one GET
//! per index, and one DescribeImages per hundred children. Sources that count pulls are not asked,
//! nor are ECR registries, whose lifecycle rules may depend on pulls.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::artifact::{ArtifactKind, DesiredArtifact, Source, WantedTag};
use super::desired::Desired;
use super::job::{Access, EcrSource};
use super::origin::Origin;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::api::v1alpha1::CheckPolicy;
use crate::ecr::{Host, Images};
use crate::failure::Failure;
use crate::registry::{Content, DOCKER_LIST, Digest, OCI_INDEX};

/// Indexes that are read at the same time.
const CONCURRENT: usize = 8;
/// Indexes that are read for one tag: the index itself and those in it. More are unheard of.
const MAX_INDEXES: usize = 8;
/// Largest number of children, as for copies: larger indexes were not copied by this program.
const MAX_CHILDREN: usize = 2_000;

/// The result of checking the wanted indexes in ECR.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    /// Indexes that lack some of their children.
    pub(super) incomplete: BTreeSet<Digest>,
    /// All children, as far as the sources could be read.
    pub(super) children: BTreeSet<Digest>,
}

impl Pass<'_> {
    /// Reads the children of the wanted indexes in ECR, and finds the incomplete ones. Adds the
    /// manifests that exist in ECR to `images`.
    ///
    /// # Errors
    /// As AWS answers. A source that cannot be read is not an error: the tag is in sync.
    pub(super) async fn inspect_indexes(
        &self,
        desired: &Desired,
        images: &mut Images,
    ) -> Result<Inspection, Failure> {
        let mut in_sync = self.in_sync(desired, images);

        // A list of tags does not say whether a digest is of an index.
        let has_type = |digest: &&Digest| images.indexes.contains_key(*digest);
        let untyped = in_sync.keys().filter(|digest| !has_type(digest)).cloned().collect();
        images.extend(self.manifests(untyped).await?);
        in_sync.retain(|digest, _| images.indexes.get(digest) == Some(&true));

        let reads: Vec<_> =
            in_sync.into_iter().map(|(index, origin)| children(origin, index)).collect();
        let indexes: Vec<_> = stream::iter(reads).buffer_unordered(CONCURRENT).collect().await;
        let indexes: Vec<(Digest, BTreeSet<Digest>)> = indexes.into_iter().flatten().collect();

        let in_ecr = |child: &&Digest| images.manifests.contains(*child);
        let children = indexes.iter().flat_map(|(_, children)| children);
        let unknown = children.filter(|child| !in_ecr(child)).cloned().collect();
        images.extend(self.manifests(unknown).await?);

        let in_ecr = |child: &Digest| images.manifests.contains(child);
        let incomplete = indexes.iter().filter(|(_, children)| !children.iter().all(in_ecr));
        let incomplete = incomplete.map(|(index, _)| index.clone()).collect();
        let children = indexes.into_iter().flat_map(|(_, children)| children).collect();
        Ok(Inspection { incomplete, children })
    }

    /// Asks ECR which of these manifests exist.
    async fn manifests(&self, digests: BTreeSet<Digest>) -> Result<Images, Failure> {
        if digests.is_empty() {
            return Ok(Images::default());
        }
        retry_throttled(|| self.target.registry.manifests(self.target.name(), &digests)).await
    }

    /// Returns the wanted manifests that are in ECR and whose source may be read, with the source.
    fn in_sync<'d>(&self, desired: &'d Desired, images: &Images) -> BTreeMap<Digest, &'d Origin> {
        // With IfNotPresent, a tag that exists is never compared with its source.
        let is_compared = |kind| {
            let policy = self.job.spec.image.as_ref().map(|image| image.check_policy);
            kind != ArtifactKind::Image || policy != Some(CheckPolicy::IfNotPresent)
        };

        let mut in_sync = BTreeMap::new();
        for artifact in desired.artifacts.iter().filter(|artifact| is_compared(artifact.kind)) {
            let Source::Registry(origin) = &artifact.source else { continue };
            if origin.client.counts_pulls() || self.is_ecr(artifact, origin) {
                continue;
            }
            let same = artifact.tags.iter().filter_map(|(tag, wanted): (_, &WantedTag)| {
                wanted.manifest().filter(|digest| images.tags.get(tag) == Some(*digest))
            });
            in_sync.extend(same.map(|digest| (digest.clone(), origin)));
        }
        in_sync
    }

    /// Whether the source is a private ECR registry, where a GET is a pull that updates
    /// `lastRecordedPullTime`.
    pub(super) fn is_ecr(&self, artifact: &DesiredArtifact, origin: &Origin) -> bool {
        let access = self.job.access_of(artifact).as_ref().ok();
        let login = access.and_then(Access::ecr);
        login.is_some_and(|login| matches!(login.registry, EcrSource::Private(_)))
            || Host::parse(origin.client.host()).is_some()
    }
}

/// Reads the children of an index, and those of the indexes in it. Returns `None` if the source
/// cannot be read, or counts pulls.
async fn children(origin: &Origin, top: Digest) -> Option<(Digest, BTreeSet<Digest>)> {
    let mut children = BTreeSet::new();
    let mut indexes = vec![top.clone()];
    for _ in 0..MAX_INDEXES {
        let Some(index) = indexes.pop() else { break };
        if origin.client.counts_pulls() {
            return None;
        }

        let content = match origin.manifest(&index).await {
            Ok(manifest) => manifest.kind(),
            Err(failure) => {
                tracing::debug!(%failure, "cannot tell whether the index is complete in ECR");
                return None;
            }
        };
        let Ok(Content::Index { children: found }) = content else { continue };

        for child in found {
            let is_index = matches!(child.media_type.as_str(), OCI_INDEX | DOCKER_LIST);
            if children.insert(child.digest.clone()) && is_index {
                indexes.push(child.digest);
            }
        }
        if children.len() > MAX_CHILDREN {
            return None;
        }
    }
    Some((top, children))
}
