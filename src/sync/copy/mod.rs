//! Copies images: manifests byte for byte, children by digest before their index, the tag last.
//!
//! ```text
//! orders (tag, digest) -> graphs (manifests from the source) -> missing blobs (asked of ECR in batches)
//!   -> each missing blob moved once, whatever number of tags and platforms want it
//!   -> per tag: when its blobs are there, its manifests, then the tag
//! ```
//! Stopping at any point leaves at worst blobs and untagged manifests, which the next run finds and
//! uses.

mod blobs;
mod graph;
mod inflight;
mod referrers;
pub(super) mod transfer_size;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use self::blobs::{Route, Transfers};
use self::graph::{Graph, Node};
use self::inflight::BlobKey;
pub(super) use self::inflight::Blobs;
pub(super) use self::referrers::{Found, find as find_referrers};
use super::origin::Origin;
use super::progress::Progress;
use crate::class::Class;
use crate::ecr::{self, Repository};
use crate::failure::Failure;
use crate::registry::{Client, Descriptor, Digest, Manifest, Policy, Tag, TagOrDigest};

/// Images whose manifests are read at the same time.
const CONCURRENT_GRAPHS: usize = 32;
/// Bytes of manifests that a wave of images may have: one manifest may have 4 MiB, most have 1 to 3
/// KiB. The larger a wave, the fuller are the batches in which ECR is asked for blobs.
const WAVE: u64 = 8 * 1024 * 1024;

/// Backoff for a manifest that the target throttles, on top of the retries of one request: 0.5, 1,
/// 2, 4, 5 and 5 s, or half of each. In that time, ECR's quota of 10 per second lets about a
/// hundred other manifests pass.
const THROTTLED: Policy =
    Policy { retries: 6, base: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// One image to bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The tag in the target; without one it is found by its digest.
    pub(super) tag: Option<Tag>,
    /// The image, by the digest that the source gave.
    pub(super) digest: Digest,
}

/// A source repository and a target repository.
pub(super) struct Copier<'a> {
    registry: &'a ecr::Registry,
    origin: &'a Origin,
    target: &'a Client,
    target_repository: &'a str,
    /// Manifests that the target is known to have, and those that an image of this run is writing.
    known: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// The repository was created a moment ago and nothing was sent to it: no need to ask what it
    /// lacks.
    is_empty: AtomicBool,
    /// Of all passes.
    moving: &'a Arc<Blobs>,
    progress: Progress,
}

impl<'a> Copier<'a> {
    /// Prepares a copy from `origin` into `repository`; `known` manifests are there already.
    pub(super) fn new(
        registry: &'a ecr::Registry,
        target: &'a Client,
        repository: &'a Repository,
        origin: &'a Origin,
        known: HashSet<Digest>,
        moving: &'a Arc<Blobs>,
        progress: Progress,
    ) -> Self {
        let known = known
            .into_iter()
            .map(|digest| (digest, Arc::new(OnceCell::new_with(Some(())))))
            .collect();
        let known = Mutex::new(known);
        Self {
            registry,
            origin,
            target,
            target_repository: &repository.name,
            known,
            is_empty: AtomicBool::new(false),
            moving,
            progress,
        }
    }

    /// The target is known to have no blobs.
    pub(super) fn into_empty(self) -> Self {
        Self { is_empty: AtomicBool::new(true), ..self }
    }

    /// Carries out all orders; one that fails does not stop the others.
    pub(super) async fn run(&self, orders: Vec<Order>) -> Vec<(Order, Result<(), Failure>)> {
        // Tags on one digest share graph and blobs.
        let mut by_digest: BTreeMap<Digest, Vec<Order>> = BTreeMap::new();
        for order in orders {
            by_digest.entry(order.digest.clone()).or_default().push(order);
        }
        let mut results = Vec::new();
        let cache = graph::Cache::default();
        let mut loading = stream::iter(by_digest)
            .map(|(digest, orders)| {
                let cache = &cache;
                async move {
                    let graph = Graph::load(self.origin, &digest, cache).await;
                    (orders, graph)
                }
            })
            .buffer_unordered(CONCURRENT_GRAPHS);
        let (mut wave, mut bytes) = (Vec::new(), 0);
        while let Some((orders, graph)) = loading.next().await {
            match graph {
                Ok(graph) => {
                    self.progress.expects_manifests(
                        graph.below.iter().map(Vec::len).sum::<usize>() + orders.len(),
                    );
                    bytes += graph.bytes();
                    wave.push((orders, graph));
                }
                Err(failure) => {
                    results.extend(orders.into_iter().map(|order| (order, Err(failure.clone()))))
                }
            }
            if bytes >= WAVE {
                results.extend(self.wave(std::mem::take(&mut wave)).await);
                cache.clear();
                bytes = 0;
            }
        }
        results.extend(self.wave(wave).await);
        results
    }

    async fn wave(&self, graphs: Vec<(Vec<Order>, Graph)>) -> Vec<(Order, Result<(), Failure>)> {
        let mut results = Vec::new();
        // Image by image: the first ones are done, and their manifests on the way, while blobs of
        // the others move.
        let transfers =
            match self.start_transfers(graphs.iter().flat_map(|(_, graph)| graph.blobs())).await {
                Ok(transfers) => transfers,
                Err(failure) => {
                    let orders = graphs.into_iter().flat_map(|(orders, _)| orders);
                    results.extend(orders.map(|order| (order, Err(failure.clone()))));
                    return results;
                }
            };
        let mut finishing: stream::FuturesUnordered<_> =
            graphs.iter().map(|(orders, graph)| self.finish(orders, graph, &transfers)).collect();
        while let Some(finished) = finishing.next().await {
            results.extend(finished);
        }
        results
    }

    /// Asks which of the blobs are missing and starts to move those, in this order.
    async fn start_transfers(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
    ) -> Result<Transfers, Failure> {
        let mut digests = BTreeSet::new();
        let blobs: Vec<_> = blobs.filter(|blob| digests.insert(blob.digest.clone())).collect();
        let missing = if self.is_empty.swap(false, Ordering::Relaxed) {
            digests
        } else {
            self.registry.missing_blobs(self.target_repository, &digests).await?
        };
        let target = (self.target, self.target_repository);
        let is_held = |digest| {
            self.moving.holder(&BlobKey::new(self.target, self.target_repository, digest)).is_some()
        };
        // Asked only where it would help.
        let mounts = missing.iter().any(is_held) && self.registry.mounts_blobs().await;
        let route = Route::new(
            self.origin,
            target,
            mounts,
            self.moving,
            &self.progress,
            &self.registry.meter,
        );
        let missing = blobs.into_iter().filter(|blob| missing.contains(&blob.digest)).cloned();
        Ok(Transfers::start(&route, missing))
    }

    /// Writes the manifests of one image, each as soon as what it names is there, then its tags.
    async fn finish(
        &self,
        orders: &[Order],
        graph: &Graph,
        transfers: &Transfers,
    ) -> Vec<(Order, Result<(), Failure>)> {
        let mut result = match self.put_below(graph, transfers, Trust::Known).await {
            Ok(()) => transfers.wait_for(&graph.top.blobs).await,
            Err(Put::ContentMissing(failure)) => {
                tracing::debug!(%failure, "a child lacks content: checked again");
                self.repair(graph).await
            }
            Err(Put::Failed(failure)) => Err(failure),
        };
        let mut results = Vec::new();
        for order in orders {
            let mut tagged = match &result {
                Ok(()) => self.put_top(graph, order.tag.as_ref()).await,
                Err(failure) => Err(Put::Failed(failure.clone())),
            };
            if matches!(tagged, Err(Put::ContentMissing(_))) {
                // ECR removes unreferenced layers at any time, and a listing may be older than a
                // deletion: what was taken to be there is not. Bring everything once more, trusting
                // nothing.
                result = self.repair(graph).await;
                tagged = match &result {
                    Ok(()) => self.put_top(graph, order.tag.as_ref()).await,
                    Err(failure) => Err(Put::Failed(failure.clone())),
                };
            }
            if tagged.is_ok() {
                self.progress.ended_manifest();
            }
            results.push((order.clone(), tagged.map_err(Put::into_failure)));
        }
        if results.iter().any(|(_, result)| result.is_ok()) {
            self.moving.are_held(
                self.target,
                self.target_repository,
                graph.blobs().map(|blob| &blob.digest),
            );
        }
        results
    }

    /// Brings everything but the top manifest once more.
    async fn repair(&self, graph: &Graph) -> Result<(), Failure> {
        let transfers = self.start_transfers(graph.blobs()).await?;
        self.put_below(graph, &transfers, Trust::Nothing).await.map_err(Put::into_failure)?;
        transfers.wait_for(&graph.top.blobs).await
    }

    /// Writes all manifests but the top one, by digest: those of a level together, after those that
    /// they name.
    async fn put_below(
        &self,
        graph: &Graph,
        transfers: &Transfers,
        trust: Trust,
    ) -> Result<(), Put> {
        for level in &graph.below {
            try_join_all(level.iter().map(|node| self.put_child(node, transfers, trust))).await?;
        }
        Ok(())
    }

    async fn put_child(&self, node: &Node, transfers: &Transfers, trust: Trust) -> Result<(), Put> {
        let digest = &node.manifest.digest;
        transfers.wait_for(&node.blobs).await.map_err(Put::Failed)?;
        let written = self.written(digest);
        let put = || self.put(digest.into(), &node.manifest);
        match trust {
            // Images that share a child write it once: PutImage is the scarce thing. If one fails,
            // the next one tries.
            Trust::Known => {
                written.get_or_try_init(put).await?;
                self.progress.ended_manifest();
                Ok(())
            }
            Trust::Nothing => {
                put().await?;
                // It may have been set before, by what turned out to be wrong.
                let _ = written.set(());
                Ok(())
            }
        }
    }

    fn written(&self, digest: &Digest) -> Arc<OnceCell<()>> {
        let mut known = self.known.lock();
        known.entry(digest.clone()).or_default().clone()
    }

    async fn put_top(&self, graph: &Graph, tag: Option<&Tag>) -> Result<(), Put> {
        let top = &graph.top.manifest;
        let Some(tag) = tag else { return self.put((&top.digest).into(), top).await };
        match self.put(tag.into(), top).await {
            // ECR refuses to write an immutable tag even when nothing changes
            // (aws/containers-roadmap#2179): somebody wrote the same image since we looked, or our
            // own PUT was answered too late.
            Err(Put::Failed(failure)) if failure.class == Class::TagImmutable => {
                let now = self
                    .registry
                    .images(self.target_repository, &BTreeSet::from([tag.clone()]))
                    .await;
                match now {
                    Ok(Some(now)) if now.tags.get(tag) == Some(&top.digest) => Ok(()),
                    _ => Err(Put::Failed(failure)),
                }
            }
            other => other,
        }
    }

    /// Writes a manifest. A throttle is no failure yet: the quota is the account's, others use it
    /// too, and a tag whose blobs are there is nearly done.
    async fn put(&self, name: TagOrDigest, manifest: &Manifest) -> Result<(), Put> {
        let mut throttled = 0;
        loop {
            self.progress.advance(1);
            let Err(error) =
                self.target.put_manifest(self.target_repository, name.clone(), manifest).await
            else {
                return Ok(());
            };
            throttled += 1;
            let wait = (error.class() == Class::RateLimited)
                .then(|| THROTTLED.wait(throttled, error.retry_after()));
            let Some(wait) = wait.flatten() else {
                if error.refuses_manifest() {
                    let message = format!(
                        "{error}: the target takes no such image; take the tag out of the spec"
                    );
                    return Err(Put::Failed(Failure::new(Class::SourceInvalid, message)));
                }
                let missing = error.is_missing_content();
                let failure = Failure::from(error).at_target();
                return Err(if missing {
                    Put::ContentMissing(failure)
                } else {
                    Put::Failed(failure)
                });
            };
            tracing::debug!(%error, ?wait, throttled, "manifest was throttled, waiting");
            tokio::time::sleep(wait).await;
        }
    }
}

/// What is taken to be in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The manifests that it is known to have.
    Known,
    /// None: something was not as it seemed.
    Nothing,
}

/// Why a manifest was not accepted.
enum Put {
    /// The target lacks a blob or a child manifest.
    ContentMissing(Failure),
    /// Anything else.
    Failed(Failure),
}

impl Put {
    fn into_failure(self) -> Failure {
        match self {
            Self::ContentMissing(failure) | Self::Failed(failure) => failure,
        }
    }
}
