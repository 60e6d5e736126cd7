//! Referrers of images, such as signatures: found in the source, level by level.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};

use crate::class::Class;
use crate::failure::Failure;
use crate::registry::{Content, Digest, Tag};
use crate::sync::origin::Origin;

/// Requests at the same time.
const CONCURRENT: usize = 8;
/// Levels of referrers. A signature of an attestation of an image has two; more are unheard of.
const MOST_LEVELS: usize = 8;
/// Referrers in one pass. An image with one per build and scan has hundreds.
const MOST_FOUND: usize = 5_000;
/// Suffixes that cosign adds to the digest of an image.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// The referrers of some images.
#[derive(Debug, Default)]
pub(in crate::sync) struct Found {
    /// Referrers with a subject, by digest.
    pub(in crate::sync) manifests: BTreeSet<Digest>,
    /// Referrers with a tag, as cosign makes them.
    pub(in crate::sync) tags: BTreeMap<Tag, Digest>,
    /// Failed requests.
    pub(in crate::sync) failures: Vec<Failure>,
}

/// Finds the referrers of `images`, and those of the referrers. Each is found once, even in a
/// circle.
pub(in crate::sync) async fn find(origin: &Origin, images: &BTreeSet<Digest>) -> Found {
    let mut referrers = Found::default();
    if images.is_empty() {
        return referrers;
    }

    // One list is enough to know which of the tags exist; each image may have three.
    let listed = match origin.client.tags(&origin.repository).await {
        Ok(list) => list
            .tags
            .into_iter()
            .filter(|tag| ["sha256-", "sha512-"].iter().any(|kind| tag.as_str().starts_with(kind)))
            .collect(),
        Err(error) => {
            referrers.failures.push(error.into());
            HashSet::new()
        }
    };

    let lookup = Lookup { origin, listed: &listed, has_api: AtomicBool::new(true) };
    let mut known: BTreeSet<Digest> = images.clone();
    let mut level: Vec<Digest> = images.iter().cloned().collect();
    for _ in 0..MOST_LEVELS {
        if level.is_empty() {
            break;
        }
        let requests =
            stream::iter(std::mem::take(&mut level)).map(|digest| lookup.referrers(digest));
        let answers: Vec<_> = requests.buffer_unordered(CONCURRENT).collect().await;
        for answer in answers {
            match answer {
                Ok(digests) => {
                    level.extend(digests.into_iter().filter(|digest| known.insert(digest.clone())))
                }
                Err(failure) => referrers.failures.push(failure),
            }
        }
        referrers.manifests.extend(level.iter().cloned());
        if referrers.manifests.len() > MOST_FOUND {
            let message = format!(
                "more than {MOST_FOUND} artifacts refer to the images of {}",
                origin.repository
            );
            referrers.failures.push(Failure::new(Class::SourceInvalid, message));
            return referrers;
        }
    }

    let names = images
        .iter()
        .flat_map(|digest| COSIGN.map(|suffix| format!("{}.{suffix}", tag_of(digest))));
    let names: Vec<Tag> =
        names.filter_map(|name| name.parse().ok()).filter(|tag| listed.contains(tag)).collect();
    let resolved = stream::iter(names).map(|tag| lookup.tag(tag));
    for answer in resolved.buffer_unordered(CONCURRENT).collect::<Vec<_>>().await {
        match answer {
            Ok((tag, digest)) => drop(referrers.tags.insert(tag, digest)),
            Err(failure) => referrers.failures.push(failure),
        }
    }
    referrers
}

/// Returns a digest as it is written in a tag: `sha256-abc`.
fn tag_of(digest: &Digest) -> String {
    digest.as_str().replacen(':', "-", 1)
}

struct Lookup<'a> {
    origin: &'a Origin,
    listed: &'a HashSet<Tag>,
    /// Whether the registry has the referrers API, as far as is known.
    has_api: AtomicBool,
}

impl Lookup<'_> {
    /// Returns the referrers of `digest`, from the API or from the fallback tag.
    async fn referrers(&self, digest: Digest) -> Result<Vec<Digest>, Failure> {
        let Origin { client, repository, .. } = self.origin;
        if self.has_api.load(Ordering::Relaxed) {
            if let Some(referrers) = client.referrers(repository, &digest).await? {
                return Ok(referrers);
            }
            self.has_api.store(false, Ordering::Relaxed);
        }

        let tag: Tag = tag_of(&digest).parse()?;
        if !self.listed.contains(&tag) {
            return Ok(Vec::new());
        }
        match client.manifest(repository, &tag).await?.kind()? {
            Content::Index { children } => {
                Ok(children.into_iter().map(|child| child.digest).collect())
            }
            // A tag of another kind with the same name.
            Content::Image { .. } => Ok(Vec::new()),
        }
    }

    async fn tag(&self, tag: Tag) -> Result<(Tag, Digest), Failure> {
        let Origin { client, repository, .. } = self.origin;
        let digest = client.resolve(repository, &tag).await?.digest;
        Ok((tag, digest))
    }
}
