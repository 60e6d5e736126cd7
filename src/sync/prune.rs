//! Removing tags that nobody wants any more. Only what can be had again goes: tags that this pass's complete list of the
//! source still has, with the digest that a copy now would give.
//!
//! ```text
//! stock       all images of the repository, by DescribeImages          (reads ECR; never pulls)
//! candidates  stock x Desired -> tags that might go                    (pure)
//! source      what would a copy give now, and are signatures there too (reads the source)
//! remove      after all copies, and one more look at ECR               (writes ECR)
//! ```

mod candidates;
mod known;
mod remove;
mod source;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, pin_mut, stream};

use self::candidates::{Candidate, Spared, Stock, allowed, candidates};
use self::source::Budget;
use super::charts::CONCURRENT_CHARTS;
use super::patience::patiently;
use super::target::Target;
use super::{
    Action, ArtifactKind, Claimant, Desired, Engine, Failure, Job, Mode, Observed, Plan, Source, SourceContent,
    TagState,
};
use crate::api::v1alpha1::validation;
use crate::class::Class;
use crate::ecr::{Mutability, OWNER_TAG, Stored};
use crate::registry::{Digest, Tag};

pub(super) use self::known::Known;
pub(super) use self::remove::remove;

/// Tags that the sources are asked for in one pass; with them go the batches of one BatchDeleteImage.
const MOST_CHECKS: usize = 100;
/// Tags that are asked for at the same time: that may be archives of charts.
const CONCURRENT_CHECKS: usize = CONCURRENT_CHARTS;
/// A million images; ECR's own quota is a tenth of that.
const MOST_PAGES: usize = 1_000;
/// When it is looked again where only something could not be asked.
const AGAIN: Duration = Duration::from_secs(30 * 60);

/// What of the repository it changes, for metrics.
pub(super) const PRUNE: &str = "prune";

/// Whether this pass looks for tags to remove: once per `driftInterval` and on demand, and in each run of the command line; a
/// dry run also where no earlier pass did, so that its plan is whole from the first time.
pub(super) fn prunes(job: &Job, mode: Mode) -> bool {
    let spec = &job.spec;
    let is_wanted = spec.pruning().is_some() && (spec.image.is_some() || spec.chart.is_some());
    is_wanted && (job.before.inspects || (mode == Mode::DryRun && job.before.pruning.is_none()))
}

/// What there is to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// One [`Action::PruneTag`] for each tag that goes.
    pub actions: Vec<Action>,
    /// More of them, for those of the first that ECR keeps for an index.
    pub reserve: Vec<Action>,
    /// How many may go at a time.
    pub allowed: usize,
    /// Tags that were not looked at.
    pub left: usize,
    /// How long an image must be unused.
    pub min_unpulled: Duration,
    /// Why nothing may be removed, or could be, or not all.
    pub blocked: Option<Failure>,
}

impl Pruning {
    /// Nothing goes. The same cause has the same text at every look.
    pub(super) fn blocked(why: impl std::fmt::Display) -> Self {
        let message = format!("tags that are no longer wanted stay: {why}");
        Self { blocked: Some(Failure::new(Class::PruneBlocked, message)), ..Self::default() }
    }

    /// The same for what may be otherwise in a while.
    fn blocked_by(failure: &Failure) -> Self {
        let mut pruning = Self::blocked(failure);
        if let Some(blocked) = pruning.blocked.as_mut().filter(|_| is_passing(failure.class)) {
            blocked.retry_after = Some(AGAIN);
        }
        pruning
    }

    /// What an earlier pass found, as far as it holds for one that does not look: all of it where nothing is done about it.
    pub(super) fn remembered(&self, desired: &Desired, mode: Mode) -> Self {
        let is_wanted = |tag: &Tag| desired.artifacts.iter().any(|artifact| artifact.tags.contains_key(tag));
        let is_of_today = |action: &&Action| {
            mode == Mode::DryRun && !matches!(action, Action::PruneTag { tag, .. } if is_wanted(tag))
        };
        Self {
            actions: self.actions.iter().filter(is_of_today).cloned().collect(),
            blocked: self.blocked.clone(),
            ..Self::default()
        }
    }

    /// What a person should know of it.
    pub(super) fn advice(&self) -> Option<String> {
        let Self { actions, allowed, left, blocked, .. } = self;
        match left {
            _ if blocked.is_some() => None,
            0 => None,
            left if actions.len() >= *allowed => {
                Some(format!("up to {left} more tags go later: prune.maxPercent allows {allowed} at a time"))
            }
            left => Some(format!("{left} more tags are looked at later, whether they go: {MOST_CHECKS} at a time")),
        }
    }
}

/// Whether a failure says only that something could not be looked at just now.
const fn is_passing(class: Class) -> bool {
    matches!(class, Class::RegistryUnavailable | Class::RateLimited | Class::Timeout)
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
        if let Some(owner) =
            there.resource_tags.get(OWNER_TAG).filter(|_| !matches!(job.claimant, Claimant::Resource(_)))
        {
            return Pruning::blocked(format!("an operator keeps the repository for {owner}: prune there"));
        }
        if let Some(blocked) = forbidden(desired, plan) {
            return blocked;
        }
        let images = match stock(target, job).await {
            Ok(images) => images,
            Err(failure) => return Pruning::blocked_by(&failure),
        };
        let repository = &there.repository;
        let stock = Stock::new(&images, present(desired));
        let min_unpulled = validation::min_unpulled(bounds).unwrap_or(validation::MAX_INTERVAL);
        let spared = Spared { min_unpulled, children: &there.children };
        let mut candidates = candidates(desired, &stock, spared, SystemTime::now(), MOST_CHECKS);
        candidates.retain(|candidate| !self.prune.is_named(&repository.arn, &candidate.tag, &candidate.digest));
        let allowed = allowed(stock.tags(), bounds.max_percent);
        let checked = self.checked(job, desired, &repository.mutability, allowed, &stock, candidates).await;
        let checked = checked.unwrap_or_else(|failure| Pruning::blocked_by(&failure));
        Pruning { allowed, min_unpulled, ..checked }
    }

    /// Those of the candidates that can be had again, as many as may go at a time. A tag that the source does not tell of is
    /// spared, and the first of them told.
    async fn checked(
        &self,
        job: &Job,
        desired: &Desired,
        mutability: &Mutability,
        allowed: usize,
        stock: &Stock<'_>,
        candidates: Vec<Candidate>,
    ) -> Result<Pruning, Failure> {
        let budget = Budget::default();
        let mut sources = BTreeMap::new();
        for artifact in &desired.artifacts {
            let asked = candidates.iter().take(MOST_CHECKS).filter(|candidate| candidate.kind == artifact.kind);
            let tags: Vec<_> = asked.map(|candidate| candidate.tag.clone()).collect();
            if let Some(source) = self.asked(job, (desired, artifact), mutability, &budget, &tags).await? {
                sources.insert(artifact.kind, source);
            }
        }
        // An image may be one that ECR keeps for an index: then another one goes instead.
        let may_be_kept =
            |candidate: &Candidate| candidate.kind == ArtifactKind::Image && !candidate.is_index && stock.has_indexes();
        let wanted = if candidates.iter().any(may_be_kept) { MOST_CHECKS } else { allowed };
        let (sources, mut unseen) = (&sources, candidates.iter().map(|c| c.tag.clone()).collect::<Vec<_>>());
        unseen.dedup();
        let (mut found, mut failed) = (Vec::<Action>::new(), None);
        let checks = stream::iter(candidates.into_iter().take(MOST_CHECKS))
            .map(|candidate| async move {
                let is_there = match sources.get(&candidate.kind) {
                    Some(source) => source.can_be_had(&candidate, stock).await,
                    None => Ok(false),
                };
                (candidate, is_there)
            })
            .buffered(CONCURRENT_CHECKS.min(wanted));
        pin_mut!(checks);
        while found.len() < wanted
            && let Some((Candidate { kind, tag, digest, is_index }, is_there)) = checks.next().await
        {
            job.progress.advance(1);
            unseen.retain(|other| *other != tag);
            let is_new = !found.iter().any(|action| matches!(action, Action::PruneTag { tag: of, .. } if *of == tag));
            match is_there {
                Ok(true) if is_new => {
                    let source = sources.get(&kind).map(|source| source.label(&tag)).unwrap_or_default();
                    found.push(Action::PruneTag { kind, tag, digest, is_index, source });
                }
                Ok(_) => {}
                Err(failure) => {
                    let is_out = matches!(failure.class, Class::RateLimited | Class::AuthenticationFailed);
                    failed.get_or_insert(failure);
                    if is_out {
                        break;
                    }
                }
            }
        }
        let reserve = found.split_off(found.len().min(allowed));
        let blocked = failed.and_then(|failure| Pruning::blocked_by(&failure).blocked);
        Ok(Pruning { actions: found, left: unseen.len() + reserve.len(), reserve, blocked, ..Pruning::default() })
    }
}

/// All images of the repository, page by page. A throttle is waited out.
async fn stock(target: &Target<'_>, job: &Job) -> Result<Vec<Stored>, Failure> {
    let (mut images, mut next) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let from = &next;
        let page = patiently(|| async { Ok(target.registry.stock(target.name(), from.as_deref()).await?) }).await?;
        // Somebody deleted it just now.
        let Some(page) = page else { return Ok(Vec::new()) };
        job.progress.advance(1);
        images.extend(page.images);
        next = page.next;
        if next.is_none() {
            return Ok(images);
        }
    }
    let message = format!("ecr:DescribeImages on {}: the list has no end after {MOST_PAGES} pages", target.name());
    Err(Failure::new(Class::RegistryUnavailable, message))
}

/// What will be in the repository after the copies of this pass, whether or not it is there now.
fn present(desired: &Desired) -> Vec<Digest> {
    let mut present = Vec::new();
    for artifact in &desired.artifacts {
        for wanted in artifact.tags.values() {
            let Ok(SourceContent::Manifest(digest)) = wanted.source.as_ref().map(|source| &source.content) else {
                continue;
            };
            present.push(digest.clone());
            if let Source::Registry(origin) = &artifact.source {
                present.extend(origin.rebuilt(digest).map(|rebuilt| rebuilt.source));
            }
        }
    }
    present
}

/// Why nothing may be removed, as far as that can be told without looking: what is wanted, or what there is, is not wholly
/// known, or something that is wanted is missing.
fn forbidden(desired: &Desired, plan: &Plan) -> Option<Pruning> {
    let by = |what: String, failure: &Failure| {
        let mut failure = failure.clone();
        failure.message = format!("{what}: {}", failure.message);
        Pruning::blocked_by(&failure)
    };
    for artifact in &desired.artifacts {
        let (noun, name) = (artifact.kind.noun(), &artifact.name);
        if let Some(failure) = &artifact.listing {
            return Some(by(format!("which {noun} tags are wanted is not known"), failure));
        }
        match &artifact.offered {
            Some(Ok(offered)) if offered.is_empty() => return Some(Pruning::blocked(format!("{name} lists no tags"))),
            // A selector with a slip of the pen would take everything.
            Some(Ok(offered)) if artifact.tags.is_empty() => {
                let count = offered.len();
                return Some(Pruning::blocked(format!("none of the {count} {noun} tags of {name} is wanted")));
            }
            Some(Ok(_)) => {}
            Some(Err(failure)) => return Some(by(format!("what {name} has is not known"), failure)),
            None => return Some(Pruning::blocked(format!("what {name} has was not asked"))),
        }
    }
    plan.settled.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state)).map(Pruning::blocked)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{DesiredArtifact, WantedTag};

    fn action(tag: &str) -> Action {
        Action::PruneTag {
            kind: ArtifactKind::Image,
            tag: tag.parse().expect("a tag"),
            digest: Digest::sha256_of(tag.as_bytes()),
            is_index: false,
            source: "q.io/app".to_owned(),
        }
    }

    #[test]
    fn what_was_found_is_shown_until_it_is_looked_for_again_and_done_once() {
        let found = Pruning { actions: vec![action("1"), action("2")], left: 3, ..Pruning::blocked("why") };
        let mut artifact = DesiredArtifact::new(ArtifactKind::Image, "q.io/app");
        let wanted = WantedTag { pin: None, source: Err(Failure::cancelled()) };
        artifact.tags.insert("1".parse().expect("a tag"), wanted);
        let desired = Desired { artifacts: vec![artifact], ..Desired::default() };
        let shown = found.remembered(&desired, Mode::DryRun);
        assert_eq!((shown.actions, &shown.blocked), (vec![action("2")], &found.blocked), "1 is wanted again");
        let applied = found.remembered(&desired, Mode::Apply);
        assert_eq!((applied.actions, &applied.blocked), (Vec::new(), &found.blocked));
        assert_eq!(applied.left, 0);
    }

    #[test]
    fn the_advice_says_which_bound_holds() {
        let of = |count: usize, allowed, left| {
            let actions = (0..count).map(|number| action(&format!("t{number}"))).collect();
            Pruning { actions, allowed, left, ..Pruning::default() }.advice()
        };
        assert_eq!(of(2, 2, 0), None);
        assert_eq!(of(2, 2, 9).as_deref(), Some("up to 9 more tags go later: prune.maxPercent allows 2 at a time"));
        let unseen = "9 more tags are looked at later, whether they go: 100 at a time";
        assert_eq!(of(1, 2, 9).as_deref(), Some(unseen));
        assert_eq!(Pruning { left: 9, ..Pruning::blocked("why") }.advice(), None);
    }

    #[test]
    fn what_could_not_be_asked_is_asked_again_soon_and_what_a_person_must_mend_is_not() {
        let again = |class| Pruning::blocked_by(&Failure::new(class, "x")).blocked.expect("blocked").retry_after;
        assert_eq!(again(Class::RegistryUnavailable), Some(AGAIN));
        assert_eq!(again(Class::AccessDenied), None);
    }
}
