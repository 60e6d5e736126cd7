//! The manifests of one image, read from the source.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::class::Class;
use crate::failure::Failure;
use crate::memory_budget::{Results, Shortage};
use crate::registry::{Content, Descriptor, Digest, MAX_LAYERS, Manifest};
use crate::sync::origin::Origin;

/// Depth of indexes in indexes. Real ones have two or three levels.
const MAX_DEPTH: usize = 8;
/// Manifests under one tag. Docker's largest indexes have some dozens. At ECR's rate this many take
/// three minutes to write.
const MAX_MANIFESTS: usize = 2_000;
/// Bytes of the manifests under one tag, all of which are in memory until the last one is written.
/// This is enough for an index of a thousand images with thirty layers each.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Different blobs under one tag, which are in memory until the image is copied.
const MAX_BLOBS: usize = 50_000;
/// Manifests of one image that are read at the same time. If an index gives wrong sizes of its
/// children, this many are in memory when that is noticed.
const CONCURRENT_READS: usize = 32;

/// Memory of a blob besides its manifest: its descriptor, and its place in the lists of a copy.
pub(super) const BLOB_BYTES: usize = 1024;
/// Memory of a manifest besides its body: its node, and its place in the maps of a graph.
const MANIFEST_BYTES: usize = 1024;

/// Bytes of manifests from which on images are read one after the other. Most have a few KiB.
const LARGE: u64 = 1024 * 1024;

/// The manifests of one run. Those that several images share are read once.
#[derive(Debug)]
pub(super) struct Cache {
    manifests: Mutex<HashMap<Digest, Arc<OnceCell<Arc<Manifest>>>>>,
    /// Permit for images larger than [`LARGE`].
    large: Semaphore,
}

impl Default for Cache {
    fn default() -> Self {
        Self { manifests: Mutex::default(), large: Semaphore::new(1) }
    }
}

impl Cache {
    /// Removes all manifests.
    pub(super) fn clear(&self) {
        self.manifests.lock().clear();
    }

    async fn manifest(&self, origin: &Origin, digest: &Digest) -> Result<Arc<Manifest>, Failure> {
        let cell = {
            let mut manifests = self.manifests.lock();
            manifests.entry(digest.clone()).or_default().clone()
        };
        let manifest = cell.get_or_try_init(|| origin.manifest(digest)).await?;
        Ok(manifest.clone())
    }
}

/// A manifest and its own blobs, each once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Arc<Manifest>,
    pub(super) blobs: Vec<Descriptor>,
}

/// An image: its manifests and their blobs.
#[derive(Debug)]
pub(super) struct Graph {
    /// The manifests below the top one, by height: the children of a level are in earlier levels.
    pub(super) below: Vec<Vec<Node>>,
    /// The manifest that the tag points to.
    pub(super) top: Node,
    /// The memory of all manifests and blobs.
    memory: Results,
}

impl Graph {
    /// Reads the manifest and everything below it.
    ///
    /// # Errors
    /// When a manifest cannot be read or is not an image, when there are more, deeper or larger
    /// manifests than in any real image, or when the memory budget does not allow them.
    pub(super) async fn load(
        origin: &Origin,
        digest: &Digest,
        cache: &Cache,
    ) -> Result<Self, Failure> {
        let too_much = |what: &str| {
            let message = format!(
                "{}@{digest} has more than {what} below it: choose a smaller image, or some of its \
                 platforms (image.platforms)",
                origin.client.name(&origin.repository)
            );
            Failure::new(Class::SourceInvalid, message)
        };
        let no_memory = |shortage: Shortage| {
            let name = origin.client.name(&origin.repository);
            let message = format!("cannot read the manifests of {name}@{digest}: {shortage}");
            Failure::new(shortage.class(), message)
        };
        let mut memory = origin.client.budget().results();
        let mut nodes = HashMap::new();
        let mut digests = HashSet::from([digest.clone()]);
        let mut next = vec![digest.clone()];
        let mut known_blobs = HashSet::new();
        // Bytes that were read, and bytes that the next level has according to its parents.
        let mut bytes = 0_u64;
        let mut announced = 0_u64;
        let mut permit = None;

        for depth in 0.. {
            if next.is_empty() {
                break;
            }
            if depth == MAX_DEPTH {
                return Err(too_much(&format!("{MAX_DEPTH} levels of indexes")));
            }
            if digests.len() > MAX_MANIFESTS {
                return Err(too_much(&format!("{MAX_MANIFESTS} manifests")));
            }
            let too_large = || too_much(&format!("{} MiB of manifests", MAX_BYTES >> 20));
            if announced > MAX_BYTES - bytes {
                return Err(too_large());
            }
            if permit.is_none() && bytes + announced > LARGE {
                // Acquired while nothing is being read: another image may wait for a manifest that
                // this one reads. The semaphore is never closed.
                permit = cache.large.acquire().await.ok();
            }

            let mut level = stream::iter(std::mem::take(&mut next))
                .map(|digest| async move { cache.manifest(origin, &digest).await })
                .buffered(CONCURRENT_READS);
            let mut next_level = Vec::new();
            announced = 0;
            while let Some(manifest) = level.try_next().await? {
                bytes += manifest.size();
                if bytes > MAX_BYTES {
                    return Err(too_large());
                }
                memory.add(manifest.bytes.len() + MANIFEST_BYTES).map_err(no_memory)?;
                let (children, blobs) = parts(&manifest)?;
                memory.add((children.len() + blobs.len()) * BLOB_BYTES).map_err(no_memory)?;
                if blobs.len() > MAX_LAYERS {
                    return Err(too_much(&format!("{MAX_LAYERS} layers (ECR's limit)")));
                }
                known_blobs.extend(blobs.iter().map(|blob| blob.digest.clone()));
                if known_blobs.len() > MAX_BLOBS {
                    return Err(too_much(&format!("{MAX_BLOBS} blobs")));
                }
                for child in children.iter().filter(|child| digests.insert(child.digest.clone())) {
                    announced = announced.saturating_add(child.size);
                    next_level.push(child.digest.clone());
                }
                let children = children.into_iter().map(|child| child.digest).collect();
                nodes.insert(manifest.digest.clone(), (Node { manifest, blobs }, children));
            }
            next = next_level;
        }
        Self::by_height(digest, nodes, memory)
    }

    fn by_height(
        top: &Digest,
        mut nodes: HashMap<Digest, (Node, Vec<Digest>)>,
        memory: Results,
    ) -> Result<Self, Failure> {
        let heights = heights(top, &nodes);
        let no_top = || Failure::new(Class::Internal, "an image without a manifest");
        let (top, _) = nodes.remove(top).ok_or_else(no_top)?;

        let mut below: Vec<Vec<Node>> = Vec::new();
        // Within a level, the order of the index is kept, so its first images are copied first.
        for (digest, height) in heights {
            let Some((node, _)) = nodes.remove(&digest) else { continue };
            below.resize_with(below.len().max(height + 1), Vec::new);
            below[height].push(node);
        }
        Ok(Self { below, top, memory })
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.below.iter().flatten().chain(std::iter::once(&self.top))
    }

    /// Returns the number of manifests.
    pub(super) fn manifests(&self) -> usize {
        self.nodes().count()
    }

    /// Returns all blobs. A blob that several manifests share is repeated.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.nodes().flat_map(|node| &node.blobs)
    }

    /// Returns the memory of all manifests and blobs, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// Returns the children and the blobs of a manifest, each once.
fn parts(manifest: &Manifest) -> Result<(Vec<Descriptor>, Vec<Descriptor>), Failure> {
    let mut digests = HashSet::new();
    Ok(match manifest.kind()? {
        Content::Index { children } => (
            children.into_iter().filter(|child| digests.insert(child.digest.clone())).collect(),
            Vec::new(),
        ),
        Content::Image { config, layers, .. } => {
            // Foreign layers are not copied: the manifest keeps their URLs.
            let own = std::iter::once(config).chain(layers).filter(|blob| !blob.is_foreign());
            (Vec::new(), own.filter(|blob| digests.insert(blob.digest.clone())).collect())
        }
    })
}

/// Returns the height of each manifest above its lowest descendant, children first. Uses a
/// depth-first walk, since an index may contain a manifest that is also in another level.
fn heights(top: &Digest, nodes: &HashMap<Digest, (Node, Vec<Digest>)>) -> Vec<(Digest, usize)> {
    let mut ordered = Vec::new();
    let mut heights: HashMap<&Digest, usize> = HashMap::new();
    // (digest, whether its children are already on the stack)
    let mut stack = vec![(top, false)];
    while let Some((digest, expanded)) = stack.pop() {
        let Some((_, children)) = nodes.get(digest) else { continue };
        if heights.contains_key(digest) {
            continue;
        }

        if expanded {
            let height = children
                .iter()
                .filter_map(|child| heights.get(child))
                .max()
                .map_or(0, |height| height + 1);
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
    use crate::hash::Fingerprint;
    use crate::memory_budget::Budget;
    use crate::registry::tests::{Peer, respond};
    use crate::registry::{OCI_INDEX, OCI_MANIFEST};

    /// Nodes with their children. The digest of a node is that of its name.
    fn nodes(names: &[(&str, &[&str])]) -> HashMap<Digest, (Node, Vec<Digest>)> {
        let digest = |name: &str| Digest::sha256_of(name.as_bytes());
        let node = |name: &str| {
            let manifest = Arc::new(Manifest::new(name.to_owned().into(), "application/json"));
            Node { manifest, blobs: Vec::new() }
        };
        names
            .iter()
            .map(|(name, children)| {
                (digest(name), (node(name), children.iter().map(|child| digest(child)).collect()))
            })
            .collect()
    }

    #[test]
    fn children_are_in_earlier_levels_than_their_parents() {
        let names: &[(&str, &[&str])] = &[
            ("top", &["a", "index", "b"]),
            ("index", &["b", "inner"]),
            ("inner", &["a", "c"]),
            ("a", &[]),
            ("b", &[]),
            ("c", &[]),
        ];
        let graph =
            Graph::by_height(&Digest::sha256_of(b"top"), nodes(names), Budget::default().results())
                .unwrap();
        let level = |level: &Vec<Node>| {
            let text = |node: &Node| String::from_utf8(node.manifest.bytes.to_vec()).unwrap();
            level.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(graph.below.iter().map(level).collect::<Vec<_>>(), ["a b c", "inner", "index"]);
        assert_eq!(graph.top.manifest.bytes, "top");
    }

    /// An index with children of `size` bytes, to which it gives the size `announced`.
    async fn index_of(children: usize, size: usize, announced: usize) -> (Peer, Origin, Digest) {
        let child = move |n: usize| {
            format!("{{\"manifests\":[],\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(size))
        };
        let digests: Vec<_> =
            (0..children).map(|n| Digest::sha256_of(child(n).as_bytes()).to_string()).collect();
        let named: Vec<_> = digests
            .iter()
            .map(|digest| serde_json::json!({"digest": digest, "size": announced}))
            .collect();
        let top =
            serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named})
                .to_string();
        let digest = Digest::sha256_of(top.as_bytes());

        let peer = Peer::new(move |request| {
            let child_index = digests.iter().position(|digest| request.line.ends_with(digest));
            respond(
                200,
                &[("content-type", OCI_INDEX)],
                child_index.map_or_else(|| top.clone(), child),
            )
        })
        .await;
        let origin = Origin::new(peer.client(), Fingerprint::of(()), "a");
        (peer, origin, digest)
    }

    #[tokio::test]
    async fn an_index_with_wrong_sizes_of_its_children_is_noticed_while_reading() {
        let (peer, origin, digest) = index_of(60, 3 << 20, 1).await;
        let failure = Graph::load(&origin, &digest, &Cache::default()).await.unwrap_err();
        assert_eq!(failure.class, Class::SourceInvalid);
        assert!(
            failure.message.contains("has more than 32 MiB of manifests below it"),
            "{failure}"
        );
        assert!(peer.count("GET") <= 1 + 11 + CONCURRENT_READS, "reading stops early");
    }

    #[tokio::test]
    async fn an_index_with_too_many_children_is_not_read() {
        let (peer, origin, digest) = index_of(MAX_MANIFESTS, 0, 1).await;
        let failure = Graph::load(&origin, &digest, &Cache::default()).await.unwrap_err();
        assert!(failure.message.contains("has more than 2000 manifests below it"), "{failure}");
        assert_eq!(peer.count("GET"), 1);
    }

    #[tokio::test]
    async fn an_image_with_more_layers_than_ecr_accepts_is_refused() {
        let blob = |n: usize| {
            let digest = Digest::sha256_of(&n.to_be_bytes());
            serde_json::json!({"mediaType": "application/x", "digest": digest, "size": 1})
        };
        for (layers, is_accepted) in [(MAX_LAYERS - 1, true), (MAX_LAYERS + 1, false)] {
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": blob(0),
                "layers": (1..=layers).map(blob).collect::<Vec<_>>(),
            });
            let manifest = manifest.to_string();
            let digest = Digest::sha256_of(manifest.as_bytes());
            let peer = Peer::new(move |_| {
                respond(200, &[("content-type", OCI_MANIFEST)], manifest.clone())
            })
            .await;
            let origin = Origin::new(peer.client(), Fingerprint::of(()), "a");

            match Graph::load(&origin, &digest, &Cache::default()).await {
                Ok(graph) => assert!(is_accepted && graph.blobs().count() == layers + 1),
                Err(failure) => {
                    assert!(!is_accepted, "{failure}");
                    assert_eq!(failure.class, Class::SourceInvalid);
                    let part = "it has more than 4200 layers (ECR's limit)";
                    assert!(failure.message.contains(part), "{failure}");
                }
            }
        }
    }

    #[tokio::test]
    async fn large_images_are_read_one_after_the_other_and_small_ones_at_the_same_time() {
        for (size, at_once) in [(500, true), (1 << 20, false)] {
            let (first, second) = (index_of(3, size, size).await, index_of(4, size, size).await);
            let cache = Cache::default();
            let load = |index: &(Peer, Origin, Digest)| {
                let (origin, digest) =
                    (Origin::new(index.0.client(), Fingerprint::of(()), "a"), index.2.clone());
                let cache = &cache;
                async move { Graph::load(&origin, &digest, cache).await }
            };
            let (one, other) = (load(&first), load(&second));

            // While the permit is taken, an image stops before its large level.
            let permit = cache.large.acquire().await.unwrap();
            let waiting = futures::future::join(one, other);
            tokio::pin!(waiting);
            let early =
                tokio::time::timeout(std::time::Duration::from_millis(500), &mut waiting).await;
            assert_eq!(early.is_ok(), at_once);

            if !at_once {
                assert_eq!(
                    (first.0.count("GET"), second.0.count("GET")),
                    (1, 1),
                    "the index, but none of its children"
                );
                drop(permit);
                let (one, other) = waiting.await;
                assert_eq!((one.unwrap().below[0].len(), other.unwrap().below[0].len()), (3, 4));
            }
        }
    }
}
