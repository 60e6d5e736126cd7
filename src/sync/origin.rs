//! A repository of an OCI registry that is copied from.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::{Mutex, MutexGuard};

use crate::class::Class;
use crate::failure::Failure;
use crate::registry::{Client, Content, Digest, Manifest, Narrowed, Platforms, Tag};

/// Bytes of manifests that are kept between resolving and copying. An image's manifest has 1 to 3
/// KiB, so that this is enough for thousands of tags; what does not fit is read again.
const MOST_KEPT: u64 = 8 * 1024 * 1024;

/// A repository of a source, and the manifests that were read from it on the way to a tag's digest.
#[derive(Debug)]
pub struct Origin {
    /// The registry.
    pub(crate) client: Client,
    /// The repository in it.
    pub repository: String,
    /// Platforms that are wanted; all without.
    platforms: Option<Platforms>,
    manifests: Mutex<Manifests>,
}

/// A smaller index that was made of a source's: known, the source's need not be read again to see
/// that nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Digest of the source's index.
    pub source: Digest,
    /// The platforms that were wanted, as [`Platforms`] writes them.
    pub platforms: String,
    /// Digest of the smaller one.
    pub target: Digest,
}

#[derive(Debug, Default)]
struct Manifests {
    manifests: HashMap<Digest, Arc<Manifest>>,
    bytes: u64,
    /// Of the indexes that were made here, what they were made of.
    made_of: HashMap<Digest, Digest>,
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
    pub(crate) fn new(client: Client, repository: impl Into<String>) -> Self {
        Self { client, repository: repository.into(), platforms: None, manifests: Mutex::default() }
    }

    /// Only these platforms.
    #[must_use]
    pub fn narrowed(self, platforms: Option<Platforms>) -> Self {
        Self { platforms, ..self }
    }

    /// The platforms that are wanted, where not all are: then something else than the source's own
    /// may be copied.
    pub(super) fn platforms(&self) -> Option<String> {
        self.platforms.as_ref().map(ToString::to_string)
    }

    /// What an earlier pass made of an index, if it was made for the same platforms.
    pub(super) fn knows<'a>(&self, earlier: Option<&'a Rebuilt>) -> Option<&'a Rebuilt> {
        let platforms = self.platforms.as_ref()?.to_string();
        earlier.filter(|earlier| earlier.platforms == platforms)
    }

    /// Takes over what an earlier pass made.
    pub(super) fn remember(&self, earlier: &Rebuilt) {
        self.kept().made_of.insert(earlier.target.clone(), earlier.source.clone());
    }

    /// What the index `target` was made of, if it was made here.
    pub(super) fn rebuilt(&self, target: &Digest) -> Option<Rebuilt> {
        let platforms = self.platforms.as_ref()?.to_string();
        let source = self.kept().made_of.get(target)?.clone();
        Some(Rebuilt { source, platforms, target: target.clone() })
    }

    /// The digest of what is copied of the manifest `digest`: its own, unless only some platforms
    /// of it are wanted.
    ///
    /// # Errors
    /// As the registry answers; class `SourceNotFound` where none of the platforms is there.
    pub(super) async fn narrow(
        &self,
        label: &str,
        digest: Digest,
        earlier: Option<&Rebuilt>,
    ) -> Result<Digest, Failure> {
        if let Some(earlier) = self.knows(earlier).filter(|earlier| earlier.source == digest) {
            self.remember(earlier);
            return Ok(earlier.target.clone());
        }
        let Some(smaller) = self.smaller(label, &digest).await? else { return Ok(digest) };
        let target = smaller.digest.clone();
        self.kept().made_of.insert(target.clone(), digest);
        self.keep(smaller);
        Ok(target)
    }

    /// What [`Self::narrow`] would come to, of a manifest that is not going to be copied.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn would_narrow(
        &self,
        label: &str,
        digest: Digest,
    ) -> Result<Digest, Failure> {
        Ok(self.smaller(label, &digest).await?.map_or(digest, |smaller| smaller.digest))
    }

    /// The smaller index of only the wanted platforms; `None` where the manifest is copied as it
    /// is.
    async fn smaller(&self, label: &str, digest: &Digest) -> Result<Option<Manifest>, Failure> {
        let Some(platforms) = &self.platforms else { return Ok(None) };
        let manifest = self.manifest(digest).await?;
        match platforms.narrow(&manifest)? {
            Narrowed::Same => Ok(None),
            Narrowed::Rebuilt(smaller) => Ok(Some(smaller)),
            Narrowed::Nothing(there) => {
                let there: Vec<_> = there.iter().map(ToString::to_string).collect();
                Err(Failure::new(
                    Class::SourceNotFound,
                    format!(
                        "{label} is not for {platforms} but for {}: change image.platforms, or take the tag out of the spec",
                        there.join(", ")
                    ),
                ))
            }
        }
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
        let source = {
            let kept = self.kept();
            if let Some(manifest) = kept.manifests.get(digest) {
                return Ok(manifest.clone());
            }
            kept.made_of.get(digest).cloned()
        };
        let (Some(source), Some(platforms)) = (source, &self.platforms) else {
            return Ok(Arc::new(self.client.manifest(&self.repository, digest).await?));
        };
        // Made before and not kept: made once more.
        match platforms.narrow(&self.client.manifest(&self.repository, &source).await?)? {
            Narrowed::Rebuilt(smaller) if smaller.digest == *digest => Ok(Arc::new(smaller)),
            _ => Err(Failure::new(
                Class::Internal,
                format!(
                    "{}@{source} for {platforms} is another index than before: the next pass makes it anew",
                    self.repository
                ),
            )),
        }
    }

    /// Reads the manifests under those of `digests` that are indexes and were read already, as far
    /// as they can be kept. What cannot be read is left to who needs it, who will say why.
    pub(super) async fn read_ahead(&self, digests: impl Iterator<Item = &Digest>) {
        let mut unread = BTreeSet::new();
        {
            let kept = self.kept();
            let mut bytes = kept.bytes;
            for manifest in digests.filter_map(|digest| kept.manifests.get(digest)) {
                let Ok(Content::Index { children }) = manifest.kind() else { continue };
                for child in
                    children.into_iter().filter(|child| !kept.manifests.contains_key(&child.digest))
                {
                    bytes = bytes.saturating_add(child.size);
                    if bytes <= MOST_KEPT {
                        unread.insert(child.digest);
                    }
                }
            }
        }
        let read = unread.iter().map(|digest| async move {
            match self.client.manifest(&self.repository, digest).await {
                Ok(manifest) => self.keep(manifest),
                Err(error) => tracing::debug!(%error, "cannot read a child ahead"),
            }
        });
        join_all(read).await;
    }

    fn keep(&self, manifest: Manifest) {
        let mut kept = self.kept();
        let bytes = kept.bytes + manifest.size();
        if bytes <= MOST_KEPT && !kept.manifests.contains_key(&manifest.digest) {
            kept.bytes = bytes;
            kept.manifests.insert(manifest.digest.clone(), Arc::new(manifest));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Manifests> {
        self.manifests.lock()
    }
}
