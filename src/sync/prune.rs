//! Removing tags that nobody wants any more. Only what can be had again goes: tags that this pass's complete list of the
//! source still has, with the digest that a copy now would give.
//!
//! ```text
//! stock       all images of the repository, by DescribeImages          (reads ECR; never pulls)
//! candidates  stock x Desired -> tags that might go                    (pure)
//! checks      what would a copy give now, and are signatures there too (reads the source)
//! remove      by tag and digest, after all copies                      (writes ECR)
//! ```

mod candidates;

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::{StreamExt, pin_mut, stream};

use self::candidates::{Candidate, Spared, Stock, allowed, candidates};
use super::apply::Outcomes;
use super::charts::{Archives, CONCURRENT_CHARTS, Order};
use super::origin::Ask;
use super::patience::patiently;
use super::target::Target;
use super::{
    Access, Action, ArtifactKind, Desired, DesiredArtifact, Engine, Failure, Job, Mode, Observed, Origin, Plan,
    Progress, Source, TagState,
};
use crate::api::v1alpha1::{Prune, TagStrategy, validation};
use crate::class::Class;
use crate::ecr::{self, Mutability, Removal, Repository};
use crate::helm;
use crate::registry::{Digest, Reference, Tag};

/// Tags that the sources are asked for in one pass; with them go the batches of one BatchDeleteImage.
const MOST_CHECKS: usize = 100;
/// Tags that are asked for at the same time: that may be archives of charts.
const CONCURRENT_CHECKS: usize = CONCURRENT_CHARTS;
/// Signatures and the like of one image that are asked for; an image that has more is spared.
const MOST_REFERRERS: usize = 100;

/// Whether this pass looks for tags to remove: once per `driftInterval` and on demand, and in each run of the command line. A
/// dry run always does, so that its plan is the same every time.
pub(super) fn prunes(job: &Job, mode: Mode) -> bool {
    job.spec.pruning().is_some() && (mode == Mode::DryRun || job.before.inspects)
}

/// What there is to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// One [`Action::PruneTag`] for each tag that goes.
    pub actions: Vec<Action>,
    /// Tags that were not looked at: no more may go in one pass.
    pub left: usize,
    /// Why nothing may be removed, or could be.
    pub blocked: Option<Failure>,
}

impl Pruning {
    fn blocked(why: impl std::fmt::Display) -> Self {
        let message = format!("tags that are no longer wanted stay: {why}");
        Self { blocked: Some(Failure::new(Class::PruneBlocked, message)), ..Self::default() }
    }

    /// What a person should know of it.
    pub(super) fn advice(&self) -> Option<String> {
        (self.left > 0).then(|| {
            let (count, left) = (self.actions.len(), self.left);
            format!("up to {left} more tags go later: prune.maxPercent allows {count} at a time")
        })
    }
}

impl Engine {
    /// What there is to remove of a repository that is looked at for that.
    pub(super) async fn prunable(
        &self,
        target: &Target<'_>,
        job: &Job,
        (desired, observed, plan): (&Desired, &Observed, &Plan),
    ) -> Pruning {
        let (Some(bounds), Some(there)) = (job.spec.pruning(), &observed.repository) else { return Pruning::default() };
        if let Some(why) = forbidden(desired, plan) {
            return Pruning::blocked(why);
        }
        let repository = &there.repository;
        let stock = patiently(|| async { Ok(target.registry.stock(&repository.name).await?) });
        let images = match stock.await {
            Ok(Some(images)) => images,
            Ok(None) => return Pruning::default(),
            Err(failure) => return Pruning::blocked(failure),
        };
        let stock = Stock::new(&images);
        let min_unpulled = validation::min_unpulled(bounds).unwrap_or(validation::MAX_INTERVAL);
        let spared = Spared { min_unpulled, children: &there.children };
        let candidates = candidates(desired, &stock, spared, SystemTime::now());
        let checked = self.checked(job, desired, &repository.mutability, bounds, &stock, candidates).await;
        checked.unwrap_or_else(Pruning::blocked)
    }

    /// Those of the candidates that can be had again, as many as may go at a time.
    async fn checked(
        &self,
        job: &Job,
        desired: &Desired,
        mutability: &Mutability,
        bounds: &Prune,
        stock: &Stock<'_>,
        candidates: Vec<Candidate>,
    ) -> Result<Pruning, Failure> {
        let (count, allowed) = (candidates.len(), allowed(stock.tags(), bounds.max_percent));
        let mut sources = BTreeMap::new();
        for artifact in &desired.artifacts {
            let asked = candidates.iter().take(MOST_CHECKS).filter(|candidate| candidate.kind == artifact.kind);
            let tags: Vec<_> = asked.map(|candidate| candidate.tag.clone()).collect();
            if let Some(source) = self.again(job, artifact, mutability, &tags).await? {
                sources.insert(artifact.kind, source);
            }
        }
        let (sources, mut checked, mut actions) = (&sources, 0, Vec::new());
        let checks = stream::iter(candidates.into_iter().take(MOST_CHECKS))
            .map(|candidate| async move {
                let is_there = match sources.get(&candidate.kind) {
                    Some(source) => source.can_be_had(&candidate, stock).await,
                    None => Ok(false),
                };
                (candidate, is_there)
            })
            .buffered(CONCURRENT_CHECKS.min(allowed));
        pin_mut!(checks);
        while actions.len() < allowed
            && let Some((Candidate { kind, tag, digest, is_index }, is_there)) = checks.next().await
        {
            checked += 1;
            job.progress.advance(1);
            if is_there?
                && !actions.iter().any(|action| matches!(action, Action::PruneTag { tag: of, .. } if *of == tag))
            {
                let source = sources.get(&kind).map(|source| source.label(&tag)).unwrap_or_default();
                actions.push(Action::PruneTag { kind, tag, digest, is_index, source });
            }
        }
        Ok(Pruning { actions, left: count - checked, blocked: None })
    }

    /// How to ask the source of an artifact what a copy of `tags` would give; `None` if there is no source.
    async fn again<'a>(
        &self,
        job: &'a Job,
        artifact: &'a DesiredArtifact,
        mutability: &'a Mutability,
        tags: &[Tag],
    ) -> Result<Option<Again<'a>>, Failure> {
        let image = job.spec.image.as_ref().filter(|_| artifact.kind == ArtifactKind::Image);
        let place = match &artifact.source {
            Source::Unknown => return Ok(None),
            Source::Charts { repository, provenance, .. } => From::Charts(Archives {
                source: repository,
                provenance: *provenance,
                keep: false,
                mutability,
                progress: &job.progress,
            }),
            Source::Registry(origin) => {
                let retagged = match image {
                    Some(image) if image.tag_strategy == TagStrategy::Retag => image.pull_url.parse::<Reference>()?.tag,
                    _ => None,
                };
                let retagged = match retagged.filter(|_| !tags.is_empty()) {
                    Some(from) => Some(origin.resolve(&from, Ask::Digest).await?),
                    None => None,
                };
                let known = match (&retagged, access(job, artifact)) {
                    (None, Ok(access)) => {
                        self.digests_in_ecr(access, &origin.repository, tags.iter().cloned().collect()).await
                    }
                    _ => BTreeMap::new(),
                };
                From::Registry { origin, retagged, known }
            }
        };
        Ok(Some(Again { job, artifact, place }))
    }
}

/// How the source of an artifact is reached.
fn access<'a>(job: &'a Job, artifact: &DesiredArtifact) -> &'a Result<Access, Failure> {
    match (artifact.kind, &job.mirrored) {
        (ArtifactKind::Chart, _) => &job.access.chart,
        (ArtifactKind::Image, Some(mirrored)) if artifact.is_mirrored() => &mirrored.access,
        (ArtifactKind::Image, _) => &job.access.image,
    }
}

/// Why nothing may be removed, as far as that can be told without looking: what is wanted, or what there is, is not wholly
/// known, or something that is wanted is missing.
fn forbidden(desired: &Desired, plan: &Plan) -> Option<String> {
    for artifact in &desired.artifacts {
        let (noun, name) = (artifact.kind.noun(), &artifact.name);
        if let Some(failure) = &artifact.listing {
            return Some(format!("which {noun} tags are wanted is not known: {failure}"));
        }
        match &artifact.offered {
            Some(Ok(offered)) if offered.is_empty() => return Some(format!("{name} lists no tags")),
            Some(Ok(_)) => {}
            Some(Err(failure)) => return Some(format!("what {name} has is not known: {failure}")),
            None => return Some(format!("what {name} has was not asked")),
        }
    }
    plan.settled.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state))
}

/// A wanted tag that is not in ECR as it shall be.
fn missing(kind: ArtifactKind, tag: &Tag, state: &TagState) -> Option<String> {
    match state {
        TagState::Failed(failure) => {
            Some(format!("{} tag {tag} is wanted and could not be had: {failure}", kind.noun()))
        }
        _ => None,
    }
}

/// The source of an artifact, asked what it would give now.
struct Again<'a> {
    job: &'a Job,
    artifact: &'a DesiredArtifact,
    place: From<'a>,
}

enum From<'a> {
    Registry {
        origin: &'a Origin,
        /// What every tag would be made of.
        retagged: Option<Digest>,
        /// What is known of its tags already.
        known: BTreeMap<Tag, Digest>,
    },
    Charts(Archives<'a>),
}

impl Again<'_> {
    /// For people: `docker.io/library/nginx:1.27`.
    fn label(&self, tag: &Tag) -> String {
        match self.entry(tag) {
            Some(entry) => format!("{} {} of {}", entry.chart, entry.version, self.artifact.name),
            None => format!("{}:{tag}", self.artifact.name),
        }
    }

    fn entry(&self, tag: &Tag) -> Option<&helm::Entry> {
        self.artifact.offered.as_ref()?.as_ref().ok()?.get(tag)?.as_ref()
    }

    /// Whether a copy now would give what is in ECR, with all that refers to it.
    async fn can_be_had(&self, candidate: &Candidate, stock: &Stock<'_>) -> Result<bool, Failure> {
        let has = async {
            if self.digest(candidate).await? != candidate.digest {
                return Ok(false);
            }
            self.has_referrers(candidate, stock).await
        };
        match has.await {
            Err(failure) if is_lack(&failure) => {
                tracing::debug!(%failure, tag = %candidate.tag, "spared: a copy now would not give it");
                Ok(false)
            }
            result => result,
        }
    }

    /// The digest that a copy now would give.
    async fn digest(&self, Candidate { tag, .. }: &Candidate) -> Result<Digest, Failure> {
        match &self.place {
            From::Registry { origin, retagged, known } => {
                let digest = match retagged.as_ref().or_else(|| known.get(tag)) {
                    Some(digest) => digest.clone(),
                    None => origin.resolve(tag, Ask::Digest).await?,
                };
                origin.narrow(&self.label(tag), digest, None).await
            }
            From::Charts(archives) => {
                let lacking = || Failure::new(Class::SourceNotFound, format!("no version of {tag}"));
                let entry = self.entry(tag).cloned().ok_or_else(lacking)?;
                let known = self.job.derived.get(tag).filter(|derived| {
                    derived.provenance == archives.provenance && entry.digest.as_ref() == Some(&derived.archive)
                });
                match known {
                    Some(derived) => Ok(derived.manifest.clone()),
                    None => {
                        let order = Order { tag: tag.clone(), entry, current: None, derived: None };
                        Ok(archives.make(&order).await?.digest().clone())
                    }
                }
            }
        }
    }

    /// Whether the source has all that refers to the image in ECR: signatures go with their image.
    async fn has_referrers(&self, candidate: &Candidate, stock: &Stock<'_>) -> Result<bool, Failure> {
        let (by_subject, by_name) = (stock.referrers(&candidate.digest), stock.named_after(&candidate.digest));
        let From::Registry { origin, .. } = &self.place else { return Ok(by_subject.is_empty() && by_name.is_empty()) };
        if by_subject.len() + by_name.len() > MOST_REFERRERS {
            return Ok(false);
        }
        for digest in by_subject {
            if !origin.client.manifest_exists(&origin.repository, digest).await? {
                return Ok(false);
            }
        }
        for (tag, digest) in by_name {
            if origin.resolve(tag, Ask::Digest).await? != **digest {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a failure says that the source has no such thing; the others say that it cannot be asked.
const fn is_lack(failure: &Failure) -> bool {
    matches!(failure.class, Class::SourceNotFound | Class::SourceInvalid | Class::InvalidSpec)
}

/// Removes what the plan says, now that all copies are made.
pub(super) async fn remove(
    registry: &ecr::Registry,
    repository: &Repository,
    plan: &Plan,
    outcomes: &mut Outcomes,
    progress: &Progress,
) {
    let Some(pruning) = plan.pruning.clone().filter(|pruning| !pruning.actions.is_empty()) else { return };
    let failed = outcomes.tags.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state));
    if let Some(why) = failed {
        outcomes.pruning_blocked = Pruning::blocked(why).blocked;
        return;
    }
    // ECR keeps what an index names: indexes go first.
    let (indexes, others): (Vec<_>, Vec<_>) =
        pruning.actions.iter().partition(|action| matches!(action, Action::PruneTag { is_index: true, .. }));
    for batch in [indexes, others].into_iter().filter(|batch| !batch.is_empty()) {
        if let Err(failure) = remove_batch(registry, repository, &batch, outcomes, progress).await {
            outcomes.pruning_blocked = Pruning::blocked(failure).blocked;
            outcomes.pruning_blocked.iter().for_each(|blocked| progress.failed(PRUNE, blocked));
            return;
        }
        progress.advance(1);
    }
}

/// What of the repository it changes, for metrics.
pub(super) const PRUNE: &str = "prune";

async fn remove_batch(
    registry: &ecr::Registry,
    repository: &Repository,
    batch: &[&Action],
    outcomes: &mut Outcomes,
    progress: &Progress,
) -> Result<(), Failure> {
    let tags: Vec<_> = batch
        .iter()
        .filter_map(|action| match action {
            Action::PruneTag { tag, digest, .. } => Some((tag.clone(), digest.clone())),
            _ => None,
        })
        .collect();
    let tags = &tags;
    let removed = patiently(|| async { Ok(registry.remove_tags(&repository.name, tags).await?) }).await?;
    let mut first = None;
    for action in batch {
        let Action::PruneTag { tag, .. } = action else { continue };
        match removed.get(tag) {
            Some(Removal::Removed) => outcomes.done(action, progress),
            Some(Removal::Named) => {
                outcomes
                    .warnings
                    .push(format!("tag {tag} is not pruned: ECR keeps it for an index that names its image"));
            }
            Some(Removal::Failed(why)) => {
                let message = format!("ecr:BatchDeleteImage on {}: tag {tag}: {why}", repository.name);
                first.get_or_insert(Failure::new(Class::RegistryUnavailable, message));
            }
            Some(Removal::Moved) | None => tracing::debug!(%tag, "not pruned: somebody moved or removed it just now"),
        }
    }
    first.map_or(Ok(()), Err)
}
