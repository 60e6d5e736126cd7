//! The manifests of one image, read from the source.

use std::collections::{HashMap, HashSet};
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

/// A manifest, and the blobs that it names itself, each once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Arc<Manifest>,
    pub(super) blobs: Vec<Descriptor>,
}

/// An image: its manifests, and the blobs that they name.
#[derive(Debug)]
pub(super) struct Graph {
    /// What the top one names and what that names, by height: those of a level name only what is in levels before it.
    pub(super) below: Vec<Vec<Node>>,
    /// The manifest that the tag points to.
    pub(super) top: Node,
}

impl Graph {
    /// Reads the manifest and everything below it.
    ///
    /// # Errors
    /// A manifest that cannot be read or is no image; more or deeper ones than anything real has.
    pub(super) async fn load(origin: &Origin, digest: &Digest, cache: &Cache) -> Result<Self, Failure> {
        let mut nodes = HashMap::new();
        let mut seen = HashSet::from([digest.clone()]);
        let mut next = vec![digest.clone()];
        for depth in 0.. {
            if next.is_empty() {
                break;
            }
            if depth == MAX_DEPTH || seen.len() > MAX_MANIFESTS {
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
            for manifest in level {
                let (children, blobs) = parts(&manifest)?;
                next.extend(children.iter().filter(|digest| seen.insert((*digest).clone())).cloned());
                nodes.insert(manifest.digest.clone(), (Node { manifest, blobs }, children));
            }
        }
        Self::by_height(digest, nodes)
    }

    fn by_height(top: &Digest, mut nodes: HashMap<Digest, (Node, Vec<Digest>)>) -> Result<Self, Failure> {
        let heights = heights(top, &nodes);
        let taken = nodes.remove(top).map(|(node, _)| node);
        let top = taken.ok_or_else(|| Failure::new(Class::Internal, "an image without a manifest"))?;
        let mut below: Vec<Vec<Node>> = Vec::new();
        // In the order of the index, as far as it goes by levels: what is first in it is there first.
        for (digest, height) in heights {
            let Some((node, _)) = nodes.remove(&digest) else { continue };
            below.resize_with(below.len().max(height + 1), Vec::new);
            below[height].push(node);
        }
        Ok(Self { below, top })
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.below.iter().flatten().chain(std::iter::once(&self.top))
    }

    /// All blobs; one that several manifests name comes several times.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.nodes().flat_map(|node| &node.blobs)
    }

    /// What its manifests take in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.nodes().map(|node| node.manifest.size()).sum()
    }
}

/// The children and the blobs that a manifest names, each once.
fn parts(manifest: &Manifest) -> Result<(Vec<Digest>, Vec<Descriptor>), Failure> {
    let mut seen = HashSet::new();
    Ok(match manifest.kind()? {
        Content::Index { children } => {
            let children = children.into_iter().map(|child| child.digest);
            (children.filter(|digest| seen.insert(digest.clone())).collect(), Vec::new())
        }
        Content::Image { config, layers, .. } => {
            // Foreign layers stay where their URLs say; the manifest keeps those.
            let own = std::iter::once(config).chain(layers).filter(|blob| !blob.is_foreign());
            (Vec::new(), own.filter(|blob| seen.insert(blob.digest.clone())).collect())
        }
    })
}

/// How far each manifest is above the lowest one that it leads to; children come before what names them. By a walk in
/// depth: an index may name a manifest that another level holds too.
fn heights(top: &Digest, nodes: &HashMap<Digest, (Node, Vec<Digest>)>) -> Vec<(Digest, usize)> {
    let mut ordered = Vec::new();
    let mut heights: HashMap<&Digest, usize> = HashMap::new();
    // (digest, whether its children are already on the stack above it)
    let mut stack = vec![(top, false)];
    while let Some((digest, expanded)) = stack.pop() {
        let Some((_, children)) = nodes.get(digest) else { continue };
        if heights.contains_key(digest) {
            continue;
        }
        if expanded {
            let height = children.iter().filter_map(|child| heights.get(child)).max().map_or(0, |height| height + 1);
            heights.insert(digest, height);
            ordered.push((digest.clone(), height));
            continue;
        }
        stack.push((digest, true));
        stack.extend(children.iter().rev().map(|child| (child, false)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes by what they name; the digest of a name is of its bytes.
    fn nodes(names: &[(&str, &[&str])]) -> HashMap<Digest, (Node, Vec<Digest>)> {
        let digest = |name: &str| Digest::sha256_of(name.as_bytes());
        let node = |name: &str| {
            let manifest = Arc::new(Manifest::new(name.to_owned().into(), "application/json"));
            Node { manifest, blobs: Vec::new() }
        };
        names
            .iter()
            .map(|(name, children)| (digest(name), (node(name), children.iter().map(|child| digest(child)).collect())))
            .collect()
    }

    #[test]
    fn whatever_is_named_stands_in_an_earlier_level_than_what_names_it() {
        let names: &[(&str, &[&str])] = &[
            ("top", &["a", "index", "b"]),
            ("index", &["b", "inner"]),
            ("inner", &["a", "c"]),
            ("a", &[]),
            ("b", &[]),
            ("c", &[]),
        ];
        let graph = Graph::by_height(&Digest::sha256_of(b"top"), nodes(names)).unwrap();
        let level = |level: &Vec<Node>| {
            let text = |node: &Node| String::from_utf8(node.manifest.bytes.to_vec()).unwrap();
            level.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(graph.below.iter().map(level).collect::<Vec<_>>(), ["a b c", "inner", "index"]);
        assert_eq!(graph.top.manifest.bytes, "top");
    }
}
