//! The manifests of one image, read from the source.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures::future::try_join_all;
use tokio::sync::OnceCell;

use crate::class::Class;
use crate::registry::{Content, Descriptor, Digest, Manifest};
use crate::sync::{Failure, Origin};

/// An index may hold indexes; nobody nests deeper than two or three.
const MAX_DEPTH: usize = 8;
/// Manifests under one tag. Docker's largest indexes have some dozens.
const MAX_MANIFESTS: usize = 1_000;

/// Manifests that several images of one run share are read once.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Digest, Arc<OnceCell<Arc<Manifest>>>>>);

impl Cache {
    /// Forgets what was read.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    async fn manifest(&self, origin: &Origin, digest: &Digest) -> Result<Arc<Manifest>, Failure> {
        let cell =
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(digest.clone()).or_default().clone();
        let manifest = cell.get_or_try_init(|| origin.manifest(digest)).await?;
        Ok(manifest.clone())
    }
}

/// An image: its manifests, and the blobs that they name.
#[derive(Debug)]
pub(super) struct Graph {
    /// Children before the manifests that name them; the top one is last. Never empty.
    manifests: Vec<Arc<Manifest>>,
    top: Arc<Manifest>,
    /// Every blob once.
    pub(super) blobs: Vec<Descriptor>,
}

impl Graph {
    /// Reads the manifest and everything below it.
    ///
    /// # Errors
    /// A manifest that cannot be read or is no image; more or deeper ones than anything real has.
    pub(super) async fn load(origin: &Origin, digest: &Digest, cache: &Cache) -> Result<Self, Failure> {
        let mut levels: Vec<Vec<Arc<Manifest>>> = Vec::new();
        let mut seen = HashSet::from([digest.clone()]);
        let mut blobs = BTreeMap::new();
        let mut next = vec![digest.clone()];
        while !next.is_empty() {
            if levels.len() == MAX_DEPTH || seen.len() > MAX_MANIFESTS {
                return Err(Failure::new(
                    Class::SourceInvalid,
                    format!(
                        "{}@{digest} has more than {MAX_MANIFESTS} manifests or {MAX_DEPTH} levels",
                        origin.repository
                    ),
                ));
            }
            let level = try_join_all(next.iter().map(|digest| cache.manifest(origin, digest))).await?;
            next = Vec::new();
            for manifest in &level {
                match manifest.kind()? {
                    Content::Index { children } => {
                        next.extend(
                            children.into_iter().map(|c| c.digest).filter(|digest| seen.insert(digest.clone())),
                        );
                    }
                    Content::Image { config, layers, .. } => {
                        // Foreign layers stay where their URLs say; the manifest keeps those.
                        let own = std::iter::once(config).chain(layers).filter(|blob| !blob.is_foreign());
                        blobs.extend(own.map(|blob| (blob.digest.clone(), blob)));
                    }
                }
            }
            levels.push(level);
        }
        let manifests = order(levels)?;
        let top =
            manifests.last().cloned().ok_or_else(|| Failure::new(Class::Internal, "an image without a manifest"))?;
        Ok(Self { manifests, top, blobs: blobs.into_values().collect() })
    }

    /// All manifests but the top one, children first.
    pub(super) fn children(&self) -> &[Arc<Manifest>] {
        &self.manifests[..self.manifests.len().saturating_sub(1)]
    }

    /// What its manifests take in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.manifests.iter().map(|manifest| manifest.size()).sum()
    }

    /// The manifest that the tag points to.
    pub(super) fn top(&self) -> &Manifest {
        &self.top
    }
}

/// Children before parents, by a walk in depth: an index may name a manifest that another level holds too.
fn order(levels: Vec<Vec<Arc<Manifest>>>) -> Result<Vec<Arc<Manifest>>, Failure> {
    let top = levels.first().and_then(|level| level.first()).map(|manifest| manifest.digest.clone());
    let all: HashMap<Digest, Arc<Manifest>> =
        levels.into_iter().flatten().map(|manifest| (manifest.digest.clone(), manifest)).collect();
    let mut ordered = Vec::new();
    let mut done = HashSet::new();
    // (digest, whether its children are already on the stack above it)
    let mut stack: Vec<(Digest, bool)> = top.into_iter().map(|digest| (digest, false)).collect();
    while let Some((digest, expanded)) = stack.pop() {
        let Some(manifest) = all.get(&digest) else { continue };
        if expanded {
            if done.insert(digest) {
                ordered.push(manifest.clone());
            }
            continue;
        }
        if done.contains(&digest) {
            continue;
        }
        stack.push((digest, true));
        if let Content::Index { children } = manifest.kind()? {
            stack.extend(children.into_iter().map(|child| (child.digest, false)));
        }
    }
    Ok(ordered)
}
