//! The source of an artifact, asked what a copy would give now.

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

/// Images of one pass of which the source is asked for signatures and the like. Others that have
/// some are spared.
const MOST_SIGNED: usize = 20;
/// Signatures and the like of one image that are asked for; an image that has more is spared.
const MOST_REFERRERS: usize = 100;
/// Manifests that are read in one pass from a source that counts pulls: most of them are left for
/// copies.
pub(super) const MOST_PULLS: usize = 10;

/// What one pass may still ask.
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
pub(super) struct Asked<'a> {
    pass: &'a Pass<'a>,
    artifact: &'a DesiredArtifact,
    reader: Reader<'a>,
    budget: &'a Budget,
    /// What refers to an image would come along with it.
    with_referrers: bool,
}

enum Reader<'a> {
    Registry {
        origin: &'a Origin,
        /// What every tag would be made of.
        retagged: Option<(Tag, Digest)>,
        /// What is known of its tags already.
        digests: BTreeMap<Tag, Digest>,
    },
    Charts(Archives<'a>),
}

impl<'p> Pass<'p> {
    /// The source of an artifact, to be asked about `tags`; `None` if there is none.
    pub(super) async fn asked<'a>(
        &'a self,
        desired: &Desired,
        artifact: &'a DesiredArtifact,
        budget: &'a Budget,
        tags: &[Tag],
    ) -> Result<Option<Asked<'a>>, Failure> {
        let job = self.job;
        let image = job.spec.image.as_ref().filter(|_| artifact.kind == ArtifactKind::Image);
        let reader = match &artifact.source {
            Source::Unknown => return Ok(None),
            Source::Charts { repository, provenance, .. } => Reader::Charts(Archives {
                source: repository,
                provenance: *provenance,
                progress: &job.progress,
            }),
            Source::Registry(origin) => {
                let from = image.and_then(|image| image.retag.as_ref());
                let retagged = match from.filter(|_| !tags.is_empty()) {
                    Some(from) => Some((from.clone(), origin.resolve(from, Ask::Digest).await?)),
                    None => None,
                };
                let digests = match (&retagged, job.access_of(artifact)) {
                    (None, Ok(access)) => {
                        self.engine
                            .digests_in_ecr(
                                access,
                                &origin.repository,
                                tags.iter().cloned().collect(),
                            )
                            .await
                    }
                    _ => BTreeMap::new(),
                };
                Reader::Registry { origin, retagged, digests }
            }
        };
        let with_referrers = desired.referrers && artifact.kind == ArtifactKind::Image;
        Ok(Some(Asked { pass: self, artifact, reader, budget, with_referrers }))
    }
}

impl Asked<'_> {
    /// Where a tag comes from, for people: `docker.io/library/nginx:1.27`.
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
        self.artifact.offered.as_ref()?.as_ref().ok()?.get(tag)?.as_ref()
    }

    /// Whether a copy now would give what is in ECR, with all that refers to it.
    ///
    /// # Errors
    /// Where the source does not tell. That it has no such thing is no error.
    pub(super) async fn can_be_had(
        &self,
        candidate: &Candidate,
        contents: &Contents<'_>,
    ) -> Result<bool, Failure> {
        let spared = |why: String| {
            tracing::debug!(tag = %candidate.tag, why, "not pruned: it could not be had again");
            Ok(false)
        };
        match self.digest(candidate).await {
            Ok(Some(digest)) if digest == candidate.digest => {}
            Ok(Some(digest)) => return spared(format!("the source would give {digest}")),
            Ok(None) => {
                return spared(
                    "what the source would give cannot be told without a pull".to_owned(),
                );
            }
            Err(failure) if is_lack(&failure) => return spared(failure.to_string()),
            Err(failure) => return Err(failure),
        }
        match self.has_referrers(candidate, contents).await {
            Ok(true) => Ok(true),
            Ok(false) => spared("a signature or the like would not come with it".to_owned()),
            Err(failure) if is_lack(&failure) => spared(failure.to_string()),
            Err(failure) => Err(failure),
        }
    }

    /// The digest that a copy now would give; `None` where that takes a pull that should not be
    /// made.
    async fn digest(&self, candidate: &Candidate) -> Result<Option<Digest>, Failure> {
        let tag = &candidate.tag;
        match &self.reader {
            Reader::Registry { origin, retagged, digests } => {
                let known =
                    retagged.as_ref().map(|(_, digest)| digest).or_else(|| digests.get(tag));
                let digest = match known {
                    Some(digest) => digest.clone(),
                    None => origin.resolve(tag, Ask::Digest).await?,
                };
                // One image is copied as it is, whatever platforms are wanted.
                let platforms = match origin.platforms() {
                    Some(platforms) if digest != candidate.digest || candidate.is_index => {
                        platforms
                    }
                    _ => return Ok(Some(digest)),
                };
                if let Some(known) = self.pass.engine.prune_cache.narrowed(&digest, &platforms) {
                    return Ok(Some(known));
                }
                let is_too_dear = self.pass.is_ecr(self.artifact, origin)
                    || (origin.client.counts_pulls() && !take(&self.budget.pulls));
                if is_too_dear {
                    return Ok(None);
                }
                let target = origin.would_narrow(&self.label(tag), digest.clone()).await?;
                self.pass.engine.prune_cache.remember_narrowed(digest, platforms, target.clone());
                Ok(Some(target))
            }
            Reader::Charts(archives) => {
                let lacking =
                    || Failure::new(Class::SourceNotFound, format!("no version of {tag}"));
                let entry = self.entry(tag).cloned().ok_or_else(lacking)?;
                let made = entry.digest.as_ref().and_then(|archive| {
                    self.pass.engine.prune_cache.made(archive, archives.provenance)
                });
                if let Some(other) = made.filter(|made| *made != candidate.digest) {
                    return Ok(Some(other));
                }
                let order = Order { tag: tag.clone(), entry, current: None, derived: None };
                let made = archives.make(&order).await?;
                let derived = made.derived();
                self.pass.engine.prune_cache.remember_made(
                    derived.archive,
                    derived.provenance,
                    derived.manifest.clone(),
                );
                Ok(Some(derived.manifest))
            }
        }
    }

    /// Whether all that refers to the image in ECR would come back with it: what a copy would find.
    async fn has_referrers(
        &self,
        candidate: &Candidate,
        contents: &Contents<'_>,
    ) -> Result<bool, Failure> {
        let (by_subject, by_name) =
            (contents.referrers(&candidate.digest), contents.named_after(&candidate.digest));
        if by_subject.is_empty() && by_name.is_empty() {
            return Ok(true);
        }
        let Reader::Registry { origin, .. } = &self.reader else { return Ok(false) };
        if !self.with_referrers || !take(&self.budget.signed) {
            return Ok(false);
        }
        let found = find_referrers(origin, &[candidate.digest.clone()].into()).await;
        if let Some(failure) = found.failures.into_iter().next() {
            return Err(failure);
        }
        let is_found = by_subject.len() <= MOST_REFERRERS
            && by_subject.iter().all(|digest| found.manifests.contains(*digest))
            && by_name.iter().all(|(tag, digest)| found.tags.get(*tag) == Some(*digest));
        if !is_found {
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

/// Whether a failure says that the source has no such thing; the others say that it cannot be
/// asked.
const fn is_lack(failure: &Failure) -> bool {
    matches!(failure.class, Class::SourceNotFound | Class::SourceInvalid | Class::InvalidSpec)
}
