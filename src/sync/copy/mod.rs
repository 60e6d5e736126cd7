//! Copies images: manifests byte for byte, children by digest before their index, the tag last.
//!
//! ```text
//! orders (tag, digest) -> graphs (manifests from the source)
//!   -> missing blobs, asked of ECR in batches
//!   -> each missing blob is sent once, whatever number of tags and platforms need it
//!   -> per tag: its manifests, once their blobs are in ECR, then the tag
//! ```
//!
//! A copy that is stopped leaves only blobs and untagged manifests, which the next run finds and
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
use crate::place;
use crate::registry::{Client, Descriptor, Digest, Manifest, RetryPolicy, Tag, TagOrDigest};
use crate::writes::{self, Change};

/// Images whose manifests are read at the same time.
const CONCURRENT_GRAPHS: usize = 32;
/// The most memory of the manifests and blobs in one wave of images: those of some hundred. A larger
/// wave makes fuller batches of questions about blobs.
const WAVE: usize = 16 * 1024 * 1024;
/// The share of a wave in the memory budget, so that sixteen passes have one at the same time.
const WAVE_SHARE: usize = 32;

/// Backoff for a manifest that the target throttles, on top of the retries of one request: 0.5, 1,
/// 2, 4, 5 and 5 s, or half of each. In that time, ECR's quota of 10 per second lets about a
/// hundred other manifests pass.
const THROTTLED: RetryPolicy =
    RetryPolicy { retries: 6, base: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// An image to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The tag in the target; `None` if only its digest matters.
    pub(super) tag: Option<Tag>,
    /// Digest of the image in the source.
    pub(super) digest: Digest,
    /// The change, for the audit trail.
    pub(super) change: Change,
}

/// Copies images from a source repository to a target repository.
pub(super) struct Copier<'a> {
    registry: &'a ecr::Registry,
    origin: &'a Origin,
    target: &'a Client,
    target_repository: &'a str,
    /// Manifests that the target has, and those that this run is writing.
    known: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// Whether the repository was created a moment ago and has no blobs, so that ECR need not be
    /// asked for them.
    is_empty: AtomicBool,
    /// Transfers of all passes.
    moving: &'a Arc<Blobs>,
    progress: Progress,
}

impl<'a> Copier<'a> {
    /// Prepares copies from `origin` into `repository`, which already has the `known` manifests.
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

    /// Declares that the target has no blobs.
    pub(super) fn into_empty(self) -> Self {
        Self { is_empty: AtomicBool::new(true), ..self }
    }

    /// Carries out all orders. A failure does not stop the others.
    pub(super) async fn run(&self, orders: Vec<Order>) -> Vec<(Order, Result<(), Failure>)> {
        // Tags with the same digest share graph and blobs.
        let mut by_digest: BTreeMap<Digest, Vec<Order>> = BTreeMap::new();
        for order in orders {
            by_digest.entry(order.digest.clone()).or_default().push(order);
        }

        let most = WAVE.min(self.origin.client.budget().total() / WAVE_SHARE);
        let mut results = Vec::new();
        let mut postponed = Vec::new();
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

        let mut wave = Vec::new();
        let mut bytes = 0;
        while let Some((orders, graph)) = loading.next().await {
            match graph {
                Ok(graph) => {
                    self.progress.expects_manifests(graph.manifests() + orders.len() - 1);
                    bytes += graph.bytes();
                    wave.push((orders, graph));
                }
                // The other images of this pass may be what uses the memory.
                Err(failure) if failure.class == Class::MemoryPressure => postponed.push(orders),
                Err(failure) => {
                    results.extend(orders.into_iter().map(|order| (order, Err(failure.clone()))))
                }
            }
            if bytes >= most {
                results.extend(self.wave(std::mem::take(&mut wave)).await);
                cache.clear();
                bytes = 0;
            }
        }
        drop(loading);
        results.extend(self.wave(wave).await);
        cache.clear();

        for orders in postponed {
            let Some(Order { digest, .. }) = orders.first() else { continue };
            match Graph::load(self.origin, digest, &cache).await {
                Ok(graph) => {
                    self.progress.expects_manifests(graph.manifests() + orders.len() - 1);
                    results.extend(self.wave(vec![(orders, graph)]).await);
                }
                Err(failure) => {
                    results.extend(orders.into_iter().map(|order| (order, Err(failure.clone()))));
                }
            }
            cache.clear();
        }
        results
    }

    /// Copies some images. The first ones are finished, and their manifests written, while blobs of
    /// the others are still being sent.
    async fn wave(&self, graphs: Vec<(Vec<Order>, Graph)>) -> Vec<(Order, Result<(), Failure>)> {
        let mut results = Vec::new();
        let missing = match self.missing(graphs.iter().flat_map(|(_, graph)| graph.blobs())).await {
            Ok(missing) => missing,
            Err(failure) => {
                let orders = graphs.into_iter().flat_map(|(orders, _)| orders);
                results.extend(orders.map(|order| (order, Err(failure.clone()))));
                return results;
            }
        };
        let bytes = missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        place::transferring(bytes).await;
        let transfers = self.start_transfers(missing).await;

        let mut finishing: stream::FuturesUnordered<_> =
            graphs.iter().map(|(orders, graph)| self.finish(orders, graph, &transfers)).collect();
        while let Some(finished) = finishing.next().await {
            results.extend(finished);
        }
        results
    }

    /// Asks ECR which blobs are missing. Returns them in this order.
    async fn missing(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
    ) -> Result<Vec<Descriptor>, Failure> {
        let mut digests = BTreeSet::new();
        let blobs: Vec<_> = blobs.filter(|blob| digests.insert(blob.digest.clone())).collect();
        let missing = if self.is_empty.swap(false, Ordering::Relaxed) {
            digests
        } else {
            self.registry.missing_blobs(self.target_repository, &digests).await?
        };
        Ok(blobs.into_iter().filter(|blob| missing.contains(&blob.digest)).cloned().collect())
    }

    /// Starts to send blobs, which ECR lacks, in this order.
    async fn start_transfers(&self, missing: Vec<Descriptor>) -> Transfers {
        let is_held = |blob: &Descriptor| {
            let key = BlobKey::new(self.target, self.target_repository, &blob.digest);
            self.moving.holder(&key, self.origin.reader).is_some()
        };
        // Asked only if a mount is possible.
        let mounts = missing.iter().any(is_held) && self.registry.mounts_blobs().await;
        let route = Route {
            source: self.origin.client.clone(),
            source_repository: self.origin.repository.clone(),
            reader: self.origin.reader,
            target: self.target.clone(),
            target_repository: self.target_repository.to_owned(),
            mounts,
            moving: self.moving.clone(),
            progress: self.progress.clone(),
            meter: self.registry.meter.clone(),
        };

        Transfers::start(&route, missing.into_iter())
    }

    /// Writes the manifests of one image, each once its blobs and children are in ECR, then its
    /// tags.
    async fn finish(
        &self,
        orders: &[Order],
        graph: &Graph,
        transfers: &Transfers,
    ) -> Vec<(Order, Result<(), Failure>)> {
        let mut result = match self.put_below(graph, transfers, Trust::Known).await {
            Ok(()) => transfers.wait_for(&graph.top.blobs).await,
            Err(Put::ContentMissing(failure)) => {
                tracing::debug!(%failure, "a child lacks content, copying it again");
                self.repair(graph).await
            }
            Err(Put::Failed(failure)) => Err(failure),
        };

        let put_top = async |order: &Order, below: &Result<(), Failure>| match below {
            Ok(()) => self.put_top(graph, order).await,
            Err(failure) => Err(Put::Failed(failure.clone())),
        };
        let mut results = Vec::new();
        for order in orders {
            let mut tagged = put_top(order, &result).await;
            if matches!(tagged, Err(Put::ContentMissing(_))) {
                // ECR removes unreferenced layers at any time, and a list may be older than a
                // deletion, so some content is missing. Copy everything again, and trust nothing.
                result = self.repair(graph).await;
                tagged = put_top(order, &result).await;
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
                self.origin.reader,
                graph.blobs().map(|blob| &blob.digest),
            );
        }
        results
    }

    /// Copies everything except the top manifest again.
    async fn repair(&self, graph: &Graph) -> Result<(), Failure> {
        let transfers = self.start_transfers(self.missing(graph.blobs()).await?).await;
        self.put_below(graph, &transfers, Trust::Nothing).await.map_err(Put::into_failure)?;
        transfers.wait_for(&graph.top.blobs).await
    }

    /// Writes all manifests except the top one, by digest: level by level, children first.
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
        let written = self.known.lock().entry(digest.clone()).or_default().clone();
        let put = || self.put(digest.into(), &node.manifest);

        match trust {
            // Images that share a child write it once, since the quota of PutImage is low. If one
            // fails, the next one tries.
            Trust::Known => {
                written.get_or_try_init(put).await?;
                self.progress.ended_manifest();
            }
            Trust::Nothing => {
                put().await?;
                // It may be set already, by a wrong assumption.
                let _ = written.set(());
            }
        }
        Ok(())
    }

    async fn put_top(&self, graph: &Graph, order: &Order) -> Result<(), Put> {
        let top = &graph.top.manifest;
        let Some(tag) = &order.tag else { return self.put((&top.digest).into(), top).await };
        match writes::write(order.change.clone(), self.put(tag.into(), top)).await {
            // ECR refuses to write an immutable tag even if nothing changes
            // (aws/containers-roadmap#2179). Somebody may have written the same image meanwhile,
            // or the answer to our own PUT came too late.
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

    /// Writes a manifest, and retries while it is throttled: others share the account's quota, and
    /// a tag whose blobs are in ECR is nearly done.
    async fn put(&self, name: TagOrDigest, manifest: &Manifest) -> Result<(), Put> {
        let content = format!("{name} {}", manifest.digest);
        let result = self.try_put(name, manifest).await;
        let code = match &result {
            Ok(()) => "OK",
            Err(Put::ContentMissing(failure) | Put::Failed(failure)) => failure.class.reason(),
        };
        writes::sent("PutImage", &content, code);
        result
    }

    async fn try_put(&self, name: TagOrDigest, manifest: &Manifest) -> Result<(), Put> {
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
                        "{error}: ECR does not accept this kind of image; remove the tag from the \
                         spec"
                    );
                    return Err(Put::Failed(Failure::new(Class::SourceInvalid, message)));
                }
                let put =
                    if error.is_missing_content() { Put::ContentMissing } else { Put::Failed };
                return Err(put(Failure::from(error).at_target()));
            };
            tracing::debug!(%error, ?wait, throttled, "ECR throttled the manifest, waiting");
            tokio::time::sleep(wait).await;
        }
    }
}

/// The content that is assumed to be in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The known manifests.
    Known,
    /// None, since an assumption was wrong.
    Nothing,
}

/// The failure of a manifest write.
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
