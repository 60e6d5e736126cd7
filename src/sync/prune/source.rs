//! The source of an artifact, asked for the digest that a copy would have now.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::candidates::{Candidate, Contents};
use crate::class::Class;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{Digest, Tag};
use crate::sync::artifact::{ArtifactKind, DesiredArtifact, Source};
use crate::sync::charts::{Archives, Order};
use crate::sync::copy::find_referrers;
use crate::sync::desired::Desired;
use crate::sync::origin::{Ask, Origin};
use crate::sync::pass::Pass;

/// Images of one pass whose signatures are asked for. Other images with signatures are spared.
const MOST_SIGNED: usize = 20;
/// Signatures and other referrers of one image that are asked for. An image with more is spared.
const MOST_REFERRERS: usize = 100;
/// Manifests that one pass reads from a source that counts pulls. Most pulls are left for copies.
pub(super) const MOST_PULLS: usize = 10;

/// The requests that a pass may still send to sources.
#[derive(Debug)]
pub(super) struct Budget {
    signed: AtomicUsize,
    pulls: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { signed: MOST_SIGNED.into(), pulls: MOST_PULLS.into() }
    }
}

fn take(budget: &AtomicUsize) -> bool {
    budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// A source that can be asked.
pub(super) struct AskedSource<'a> {
    pass: &'a Pass<'a>,
    artifact: &'a DesiredArtifact,
    reader: Reader<'a>,
    budget: &'a Budget,
    /// Whether a copy of an image includes its referrers.
    with_referrers: bool,
}

enum Reader<'a> {
    Registry {
        origin: &'a Origin,
        /// The tag that is pushed as every tag, and its digest.
        retagged: Option<(Tag, Digest)>,
        /// Digests of tags that are known already.
        digests: BTreeMap<Tag, Digest>,
    },
    Charts(Archives<'a>),
}

impl Pass<'_> {
    /// Prepares the source of an artifact for questions about `tags`; `None` if it has no source.
    ///
    /// # Errors
    /// As the source answers.
    pub(super) async fn asked_source<'a>(
        &'a self,
        desired: &Desired,
        artifact: &'a DesiredArtifact,
        budget: &'a Budget,
        tags: &[Tag],
    ) -> Result<Option<AskedSource<'a>>, Failure> {
        let archives = Archives::new(artifact, &self.job.progress);
        let reader = match (&artifact.source, archives) {
            (Source::Registry(origin), _) => self.registry_reader(artifact, origin, tags).await?,
            (_, Some(archives)) => Reader::Charts(archives),
            (_, None) => return Ok(None),
        };
        let with_referrers = desired.referrers && artifact.kind == ArtifactKind::Image;
        Ok(Some(AskedSource { pass: self, artifact, reader, budget, with_referrers }))
    }

    async fn registry_reader<'a>(
        &self,
        artifact: &DesiredArtifact,
        origin: &'a Origin,
        tags: &[Tag],
    ) -> Result<Reader<'a>, Failure> {
        let image = self.job.spec.image.as_ref().filter(|_| artifact.kind == ArtifactKind::Image);
        let from = image.and_then(|image| image.retag.as_ref()).filter(|_| !tags.is_empty());
        let retagged = match from {
            Some(from) => Some((from.clone(), origin.resolve(from, Ask::Digest).await?)),
            None => None,
        };

        let digests = match (&retagged, self.job.access_of(artifact)) {
            (None, Ok(access)) => {
                let tags = tags.iter().cloned().collect();
                self.engine.digests_in_ecr(access, &origin.repository, tags).await
            }
            _ => BTreeMap::new(),
        };
        Ok(Reader::Registry { origin, retagged, digests })
    }
}

impl AskedSource<'_> {
    /// Returns the source of a tag, for people: `docker.io/library/nginx:1.27`.
    pub(super) fn label(&self, tag: &Tag) -> String {
        match (&self.reader, self.entry(tag)) {
            (_, Some(entry)) => {
                format!("{} {} of {}", entry.chart, entry.version, self.artifact.name)
            }
            (Reader::Registry { retagged: Some((from, _)), .. }, _) => {
                format!("{}:{from}", self.artifact.name)
            }
            _ => format!("{}:{tag}", self.artifact.name),
        }
    }

    fn entry(&self, tag: &Tag) -> Option<&helm::Entry> {
        self.artifact.offered.as_ref()?.as_ref().ok()?.get(tag)?.as_deref()
    }

    /// Whether a copy would bring back the same digest with all its referrers.
    ///
    /// # Errors
    /// When the source cannot be asked. An artifact that it does not have is not an error.
    pub(super) async fn can_be_copied_again(
        &self,
        candidate: &Candidate,
        contents: &Contents<'_>,
    ) -> Result<bool, Failure> {
        let reason = match self.obstacle(candidate, contents).await {
            Ok(None) => return Ok(true),
            Ok(Some(reason)) => reason,
            Err(failure) if is_lack(&failure) => failure.to_string(),
            Err(failure) => return Err(failure),
        };
        tracing::debug!(tag = %candidate.tag, reason, "not pruned: it could not be copied again");
        Ok(false)
    }

    /// Returns why a copy would not bring back the same content.
    async fn obstacle(
        &self,
        candidate: &Candidate,
        contents: &Contents<'_>,
    ) -> Result<Option<String>, Failure> {
        match self.digest(candidate).await? {
            Some(digest) if digest == candidate.digest => {}
            Some(digest) => return Ok(Some(format!("a copy would have the digest {digest}"))),
            None => return Ok(Some("its digest needs a pull".to_owned())),
        }
        let has_referrers = self.has_referrers(candidate, contents).await?;
        Ok((!has_referrers).then(|| "a copy would lack a signature or other referrer".to_owned()))
    }

    /// Returns the digest that a copy would have now; `None` if that needs a pull that is too
    /// expensive.
    async fn digest(&self, candidate: &Candidate) -> Result<Option<Digest>, Failure> {
        match &self.reader {
            Reader::Registry { origin, retagged, digests } => {
                let retagged = retagged.as_ref().map(|(_, digest)| digest);
                let digest = match retagged.or_else(|| digests.get(&candidate.tag)) {
                    Some(digest) => digest.clone(),
                    None => origin.resolve(&candidate.tag, Ask::Digest).await?,
                };
                self.narrowed(origin, candidate, digest).await
            }
            Reader::Charts(archives) => Ok(Some(self.built(archives, candidate).await?)),
        }
    }

    /// Returns the digest that is copied of the source's `digest` for the wanted platforms.
    async fn narrowed(
        &self,
        origin: &Origin,
        candidate: &Candidate,
        digest: Digest,
    ) -> Result<Option<Digest>, Failure> {
        // A single image is copied as it is, whatever platforms are wanted.
        let is_narrowed = digest != candidate.digest || candidate.is_index;
        let Some(platforms) = origin.platforms().filter(|_| is_narrowed) else {
            return Ok(Some(digest));
        };
        let cache = &self.pass.engine.prune_cache;
        if let Some(known) = cache.narrowed(&digest, &platforms) {
            return Ok(Some(known));
        }

        let is_too_expensive = self.pass.is_ecr(self.artifact, origin)
            || (origin.client.counts_pulls() && !take(&self.budget.pulls));
        if is_too_expensive {
            return Ok(None);
        }
        let target = origin.would_narrow(&self.label(&candidate.tag), digest.clone()).await?;
        cache.remember_narrowed(&digest, &platforms, target.clone());
        Ok(Some(target))
    }

    /// Returns the digest of the manifest that is built from the archive of a version.
    async fn built(
        &self,
        archives: &Archives<'_>,
        candidate: &Candidate,
    ) -> Result<Digest, Failure> {
        let tag = &candidate.tag;
        let lacking = || Failure::new(Class::SourceNotFound, format!("no version of {tag}"));
        let entry = self.entry(tag).cloned().ok_or_else(lacking)?;
        let cache = &self.pass.engine.prune_cache;
        let known = entry.digest.as_ref();
        let known = known.and_then(|archive| cache.built(archive, archives.provenance));
        if let Some(other) = known.filter(|known| *known != candidate.digest) {
            return Ok(other);
        }

        let order = Order { tag: tag.clone(), entry, current: None, derived: None };
        let derived = archives.build(&order).await?.derived;
        cache.remember_built(&derived.archive, derived.provenance, derived.manifest.clone());
        Ok(derived.manifest)
    }

    /// Whether a copy would find all artifacts that refer to the image in ECR.
    async fn has_referrers(
        &self,
        candidate: &Candidate,
        contents: &Contents<'_>,
    ) -> Result<bool, Failure> {
        let by_subject = contents.referrers(&candidate.digest);
        let by_name = contents.named_after(&candidate.digest);
        if by_subject.is_empty() && by_name.is_empty() {
            return Ok(true);
        }
        let Reader::Registry { origin, .. } = &self.reader else { return Ok(false) };
        if !self.with_referrers || !take(&self.budget.signed) {
            return Ok(false);
        }

        let referrers = find_referrers(origin, &[candidate.digest.clone()].into()).await;
        if let Some(failure) = referrers.failures.into_iter().next() {
            return Err(failure);
        }
        let has_all = by_subject.len() <= MOST_REFERRERS
            && by_subject.iter().all(|digest| referrers.manifests.contains(*digest))
            && by_name.iter().all(|(tag, digest)| referrers.tags.get(*tag) == Some(*digest));
        if !has_all {
            return Ok(false);
        }

        for digest in by_subject {
            if !origin.client.manifest_exists(&origin.repository, digest).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a failure means that the source lacks the artifact. Other failures mean that the source
/// cannot be asked.
const fn is_lack(failure: &Failure) -> bool {
    matches!(failure.class, Class::SourceNotFound | Class::SourceInvalid | Class::InvalidSpec)
}
