//! A repository of an OCI registry that is copied from.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;

use crate::class::Class;
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::memory_budget::Results;
use crate::registry::{Client, Content, Digest, Manifest, Narrowed, Platforms, Tag};

/// Bytes of manifests that are kept between resolving and copying. An image's manifest has 1 to 3
/// KiB, so this is enough for thousands of tags. Other manifests are read again.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Memory of a manifest besides its body.
const MANIFEST_BYTES: usize = 512;

/// A source repository, and the manifests that were read while its tags were resolved.
#[derive(Debug)]
pub(super) struct Origin {
    /// The registry.
    pub(crate) client: Client,
    /// The repository in it.
    pub(super) repository: String,
    /// The registry, and the login and connection with which it is read.
    pub(super) reader: Fingerprint,
    /// The wanted platforms; `None` for all.
    platforms: Option<Platforms>,
    manifests: Mutex<Manifests>,
}

/// An index that was built from the source's index for the wanted platforms only. With it, the
/// source's index is not read again if it is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Digest of the source's index.
    pub source: Digest,
    /// The wanted platforms, as [`Platforms`] writes them.
    pub platforms: String,
    /// Digest of the smaller index.
    pub target: Digest,
}

#[derive(Debug, Default)]
struct Manifests {
    by_digest: HashMap<Digest, Arc<Manifest>>,
    bytes: u64,
    /// The memory of the manifests.
    memory: Option<Results>,
    /// Smaller index -> the source's index from which it was built.
    sources: HashMap<Digest, Digest>,
}

/// The request that resolves a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// HEAD, which is not a pull: the target most likely has the tag already.
    Digest,
    /// GET: the tag will be copied, so its manifest is needed anyway.
    Manifest,
}

impl Origin {
    /// A repository of the registry behind `client`.
    #[must_use]
    pub(crate) fn new(client: Client, reader: Fingerprint, repository: impl Into<String>) -> Self {
        let repository = repository.into();
        Self { client, repository, reader, platforms: None, manifests: Mutex::default() }
    }

    /// Limits the repository to these platforms.
    pub(super) fn narrowed(self, platforms: Option<Platforms>) -> Self {
        Self { platforms, ..self }
    }

    /// Returns the wanted platforms; `None` for all. With platforms, the digest that is copied may
    /// differ from the source's.
    pub(super) fn platforms(&self) -> Option<String> {
        self.platforms.as_ref().map(ToString::to_string)
    }

    /// Keeps the result of an earlier pass.
    pub(super) fn remember(&self, rebuilt: &Rebuilt) {
        self.manifests.lock().sources.insert(rebuilt.target.clone(), rebuilt.source.clone());
    }

    /// Returns the source of the index `target`, if it was built here.
    pub(super) fn rebuilt(&self, target: &Digest) -> Option<Rebuilt> {
        let platforms = self.platforms()?;
        let source = self.manifests.lock().sources.get(target)?.clone();
        Some(Rebuilt { source, platforms, target: target.clone() })
    }

    /// Returns the digest to copy for the manifest `digest`: the same, unless only some platforms
    /// are wanted. `earlier` is the result of an earlier pass.
    ///
    /// # Errors
    /// As the registry answers; class `SourceNotFound` if it has none of the platforms.
    pub(super) async fn narrow(
        &self,
        label: &str,
        digest: Digest,
        earlier: Option<&Rebuilt>,
    ) -> Result<Digest, Failure> {
        let platforms = self.platforms();
        let is_same = |earlier: &&Rebuilt| {
            platforms.as_ref() == Some(&earlier.platforms) && earlier.source == digest
        };
        if let Some(earlier) = earlier.filter(is_same) {
            self.remember(earlier);
            return Ok(earlier.target.clone());
        }

        let Some(smaller) = self.smaller(label, &digest).await? else { return Ok(digest) };
        let target = smaller.digest.clone();
        self.manifests.lock().sources.insert(target.clone(), digest);
        self.keep(smaller);
        Ok(target)
    }

    /// Returns the result of [`Self::narrow`] for a manifest that will not be copied.
    ///
    /// # Errors
    /// Those of [`Self::narrow`].
    pub(super) async fn would_narrow(
        &self,
        label: &str,
        digest: Digest,
    ) -> Result<Digest, Failure> {
        Ok(self.smaller(label, &digest).await?.map_or(digest, |smaller| smaller.digest))
    }

    /// Builds the index for the wanted platforms; `None` if the manifest is copied as it is.
    async fn smaller(&self, label: &str, digest: &Digest) -> Result<Option<Manifest>, Failure> {
        let Some(platforms) = &self.platforms else { return Ok(None) };
        let manifest = self.manifest(digest).await?;
        match platforms.narrow(&manifest)? {
            Narrowed::Same => Ok(None),
            Narrowed::Rebuilt(smaller) => Ok(Some(smaller)),
            Narrowed::Nothing(available) => {
                let available: Vec<_> = available.iter().map(ToString::to_string).collect();
                Err(Failure::new(
                    Class::SourceNotFound,
                    format!(
                        "{label} is not available for {platforms}, only for {}: change \
                         image.platforms, or remove the tag from the spec",
                        available.join(", ")
                    ),
                ))
            }
        }
    }

    /// Resolves a tag.
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

    /// Returns a manifest.
    ///
    /// # Errors
    /// As the registry answers.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Arc<Manifest>, Failure> {
        let source = {
            let manifests = self.manifests.lock();
            if let Some(manifest) = manifests.by_digest.get(digest) {
                return Ok(manifest.clone());
            }
            manifests.sources.get(digest).cloned()
        };
        let (Some(source), Some(platforms)) = (source, &self.platforms) else {
            return Ok(Arc::new(self.client.manifest(&self.repository, digest).await?));
        };

        // The smaller index was not kept, so it is built again.
        match platforms.narrow(&self.client.manifest(&self.repository, &source).await?)? {
            Narrowed::Rebuilt(smaller) if smaller.digest == *digest => Ok(Arc::new(smaller)),
            _ => Err(Failure::new(
                Class::Internal,
                format!(
                    "the index for {platforms} built from {}@{source} differs from the earlier \
                     one; the next pass uses the new one",
                    self.repository
                ),
            )),
        }
    }

    /// Reads the children of those of `digests` that are indexes and were read already, as far as
    /// there is room for them. Read errors are ignored here; the copy that needs the manifest
    /// reports them.
    pub(super) async fn read_ahead(&self, digests: impl Iterator<Item = &Digest>) {
        let reads = self.unread_children(digests).into_iter().map(|digest| async move {
            match self.client.manifest(&self.repository, &digest).await {
                Ok(manifest) => self.keep(manifest),
                Err(error) => tracing::debug!(%error, "cannot read a child ahead"),
            }
        });
        join_all(reads).await;
    }

    fn unread_children<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> BTreeSet<Digest> {
        let manifests = self.manifests.lock();
        let mut bytes = manifests.bytes;
        let mut unread = BTreeSet::new();
        for manifest in digests.filter_map(|digest| manifests.by_digest.get(digest)) {
            let Ok(Content::Index { children }) = manifest.kind() else { continue };
            for child in children {
                if manifests.by_digest.contains_key(&child.digest) {
                    continue;
                }
                bytes = bytes.saturating_add(child.size);
                if bytes <= MAX_BYTES {
                    unread.insert(child.digest);
                }
            }
        }
        unread
    }

    fn keep(&self, manifest: Manifest) {
        let mut manifests = self.manifests.lock();
        let bytes = manifests.bytes + manifest.size();
        if bytes > MAX_BYTES || manifests.by_digest.contains_key(&manifest.digest) {
            return;
        }

        // Without memory, it is read again.
        let memory = manifests.memory.get_or_insert_with(|| self.client.budget().results());
        if memory.add(manifest.bytes.len() + MANIFEST_BYTES).is_ok() {
            manifests.bytes = bytes;
            manifests.by_digest.insert(manifest.digest.clone(), Arc::new(manifest));
        }
    }
}
