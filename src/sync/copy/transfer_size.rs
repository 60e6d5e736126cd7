//! The size of copies that are not carried out.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::CONCURRENT_GRAPHS;
use super::graph::{Cache, Graph};
use crate::registry::{Descriptor, Digest};
use crate::sync::origin::Origin;

/// The size of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferSize {
    /// Blobs that ECR lacks.
    pub blobs: usize,
    /// Their total size.
    pub bytes: u64,
}

/// Returns the blobs of each image, read from the source. An image that cannot be read is left out;
/// its copy would report the reason.
pub(in crate::sync) async fn blobs(
    origin: &Origin,
    digests: BTreeSet<Digest>,
) -> BTreeMap<Digest, Vec<Descriptor>> {
    let cache = &Cache::default();
    stream::iter(digests)
        .map(|digest| async move {
            match Graph::load(origin, &digest, cache).await {
                Ok(graph) => Some((digest, graph.blobs().cloned().collect())),
                Err(failure) => {
                    tracing::warn!(%digest, %failure, "cannot tell how much would be sent");
                    None
                }
            }
        })
        .buffer_unordered(CONCURRENT_GRAPHS)
        .filter_map(async |blobs| blobs)
        .collect()
        .await
}
