//! A repository of an OCI registry that is copied from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Failure;
use crate::registry::{Client, Digest, Manifest, Tag};

/// Bytes of manifests that are kept between resolving and copying. An image's manifest has 1 to 3 KiB, so that this is
/// enough for thousands of tags; what does not fit is read again.
const MOST_KEPT: u64 = 8 * 1024 * 1024;

/// A repository of a source, and the manifests that were read from it on the way to a tag's digest.
#[derive(Debug)]
pub struct Origin {
    /// The registry.
    pub client: Client,
    /// The repository in it.
    pub repository: String,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    manifests: HashMap<Digest, Arc<Manifest>>,
    bytes: u64,
}

/// How to learn what a tag points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// HEAD, which is no pull: the tag is most likely in the target already.
    Digest,
    /// GET: the tag is going to be copied, so that its manifest is needed anyway.
    Whole,
}

impl Origin {
    /// A repository of the registry behind `client`.
    #[must_use]
    pub fn new(client: Client, repository: impl Into<String>) -> Self {
        Self { client, repository: repository.into(), kept: Mutex::default() }
    }

    /// What a tag points to.
    ///
    /// # Errors
    /// As the registry answers.
    pub(super) async fn resolve(&self, tag: &Tag, ask: Ask) -> Result<Digest, Failure> {
        if ask == Ask::Digest {
            return Ok(self.client.resolve(&self.repository, tag).await?.digest);
        }
        let manifest = self.client.manifest(&self.repository, tag).await?;
        let digest = manifest.digest.clone();
        self.keep(manifest);
        Ok(digest)
    }

    /// A manifest, whole.
    ///
    /// # Errors
    /// As the registry answers.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Arc<Manifest>, Failure> {
        if let Some(manifest) = self.kept().manifests.get(digest) {
            return Ok(manifest.clone());
        }
        Ok(Arc::new(self.client.manifest(&self.repository, digest).await?))
    }

    fn keep(&self, manifest: Manifest) {
        let mut kept = self.kept();
        let bytes = kept.bytes + manifest.size();
        if bytes <= MOST_KEPT && !kept.manifests.contains_key(&manifest.digest) {
            kept.bytes = bytes;
            kept.manifests.insert(manifest.digest.clone(), Arc::new(manifest));
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
