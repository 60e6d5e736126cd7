//! What copies would send, without sending it.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::CONCURRENT_GRAPHS;
use super::graph::{Cache, Graph};
use crate::registry::{Descriptor, Digest};
use crate::sync::origin::Origin;

/// What a copy would send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferSize {
    /// Blobs that ECR lacks.
    pub blobs: usize,
    /// Their size together.
    pub bytes: u64,
}

/// The blobs of each image, read from the source. An image that cannot be read is left out: its
/// copy will say why.
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
                    tracing::warn!(%digest, %failure, "cannot tell what would be sent");
                    None
                }
            }
        })
        .buffer_unordered(CONCURRENT_GRAPHS)
        .filter_map(async |found| found)
        .collect()
        .await
}
