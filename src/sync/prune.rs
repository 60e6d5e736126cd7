//! Removing tags that nobody wants any more. Only what can be had again goes: tags that this pass's
//! complete list of the source still has, with the digest that a copy now would give.
//!
//! ```text
//! stock       all images of the repository, by DescribeImages          (reads ECR; never pulls)
//! candidates  stock x Desired -> tags that might go                    (pure)
//! source      what would a copy give now, and are signatures there too (reads the source)
//! remove      after all copies, and one more look at ECR               (writes ECR)
//! ```

pub(super) mod cache;
mod candidates;
mod remove;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures::{StreamExt, pin_mut, stream};

use self::candidates::{Candidate, Contents, Spared, allowed, candidates};
use self::source::{Budget, MOST_PULLS};
use super::action::{Action, Plan, Pruning};
use super::artifact::{ArtifactKind, DesiredArtifact, Source, TagState, WantedTag};
use super::charts::CONCURRENT_CHARTS;
use super::desired::Desired;
use super::job::Mode;
use super::observed::Observed;
use super::origin::Origin;
use super::ownership::Claimant;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::class::Class;
use crate::ecr::{self, Host, OWNER_TAG, Repository, Stored};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// Tags that are asked for at the same time: that may be archives of charts.
const CONCURRENT_CHECKS: usize = CONCURRENT_CHARTS;
/// A million images; ECR's own quota is a tenth of that.
const MOST_PAGES: usize = 1_000;

impl Pass<'_> {
    /// Whether this pass looks for tags to remove: once per `driftInterval` and on demand, and in
    /// each run of the command line; a dry run also where no earlier pass did, so that its plan is
    /// whole from the first time.
    pub(super) fn prunes(&self) -> bool {
        let (spec, earlier) = (&self.job.spec, &self.job.earlier);
        let is_wanted = spec.prune.is_some() && spec.copies();
        is_wanted && (earlier.inspects || (self.mode == Mode::DryRun && earlier.pruning.is_none()))
    }

    /// What an earlier pass found to remove, where this one did not look.
    pub(super) fn remembered_pruning(&self, desired: &Desired, plan: &Plan) -> Option<Pruning> {
        let found = self.job.earlier.pruning.as_ref();
        let found = found.filter(|_| desired.prunes && plan.pruning.is_none())?;
        Some(remembered(found, desired, self.mode))
    }

    /// What there is to remove of a repository that is looked at for that.
    pub(super) async fn prunable(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
    ) -> Pruning {
        let job = self.job;
        let (Some(bounds), Some(there)) = (job.spec.prune, &observed.repository) else {
            return Pruning::default();
        };
        if let Some(owner) = there
            .resource_tags
            .get(OWNER_TAG)
            .filter(|_| !matches!(job.claimant, Claimant::Resource(_)))
        {
            return Pruning::blocked(format!(
                "an operator keeps the repository for {owner}: prune there"
            ));
        }
        if let Some(artifact) = self.itself(desired, &there.repository) {
            return Pruning::blocked(format!("{} is the repository itself", artifact.name));
        }
        if let Some(blocked) = forbidden(desired, plan) {
            return blocked;
        }
        let images = match self.contents().await {
            Ok(images) => images,
            Err(failure) => return Pruning::blocked_by(&failure),
        };
        self.remember_narrowed(desired);
        let repository = &there.repository;
        let contents = Contents::new(&images, present(desired));
        let min_unpulled = bounds.min_unpulled;
        let spared = Spared { min_unpulled, children: &there.children };
        let most = if counts_pulls(desired) { MOST_PULLS } else { Pruning::MOST_CHECKS };
        let mut candidates = candidates(desired, &contents, spared, SystemTime::now(), most);
        candidates.retain(|candidate| {
            !self.engine.prune_cache.is_named(&repository.arn, &candidate.tag, &candidate.digest)
        });
        let allowed = allowed(contents.tags(), bounds.max_percent);
        let checked = self.checked(desired, allowed, &contents, candidates).await;
        let checked = checked.unwrap_or_else(|failure| Pruning::blocked_by(&failure));
        Pruning { allowed, min_unpulled, ..checked }
    }

    /// Notes what wanted tags are made of: one day they are not wanted any more, and then it need
    /// not be read.
    fn remember_narrowed(&self, desired: &Desired) {
        for artifact in &desired.artifacts {
            let Source::Registry(origin) = &artifact.source else { continue };
            let targets = artifact.tags.values().filter_map(WantedTag::manifest);
            for rebuilt in targets.filter_map(|target| origin.rebuilt(target)) {
                self.engine.prune_cache.remember_narrowed(
                    rebuilt.source,
                    rebuilt.platforms,
                    rebuilt.target,
                );
            }
        }
    }

    /// Those of the candidates that can be had again, as many as may go at a time. A tag that the
    /// source does not tell of is spared, and the first of them told.
    async fn checked(
        &self,
        desired: &Desired,
        allowed: usize,
        contents: &Contents<'_>,
        candidates: Vec<Candidate>,
    ) -> Result<Pruning, Failure> {
        let budget = Budget::default();
        let mut sources = BTreeMap::new();
        for artifact in &desired.artifacts {
            let asked = candidates
                .iter()
                .take(Pruning::MOST_CHECKS)
                .filter(|candidate| candidate.kind == artifact.kind);
            let tags: Vec<_> = asked.map(|candidate| candidate.tag.clone()).collect();
            if let Some(source) = self.asked(desired, artifact, &budget, &tags).await? {
                sources.insert(artifact.kind, source);
            }
        }
        // An image may be one that ECR keeps for an index: then another one goes instead.
        let may_be_kept = |candidate: &Candidate| {
            candidate.kind == ArtifactKind::Image && !candidate.is_index && contents.has_indexes()
        };
        let wanted =
            if candidates.iter().any(may_be_kept) { Pruning::MOST_CHECKS } else { allowed };
        let (sources, tags) = (
            &sources,
            candidates.iter().map(|candidate| candidate.tag.clone()).collect::<Vec<_>>(),
        );
        let (mut found, mut failed, mut seen) = (Vec::<Action>::new(), None, 0);
        let checks = stream::iter(candidates.into_iter().take(Pruning::MOST_CHECKS))
            .map(|candidate| async move {
                let is_there = match sources.get(&candidate.kind) {
                    Some(source) => source.can_be_had(&candidate, contents).await,
                    None => Ok(false),
                };
                (candidate, is_there)
            })
            .buffered(CONCURRENT_CHECKS.min(wanted));
        pin_mut!(checks);
        while found.len() < wanted
            && let Some((Candidate { kind, tag, digest, is_index }, is_there)) = checks.next().await
        {
            self.job.progress.advance(1);
            seen += 1;
            let is_new = !found
                .iter()
                .any(|action| matches!(action, Action::PruneTag { tag: of, .. } if *of == tag));
            match is_there {
                Ok(true) if is_new => {
                    let source =
                        sources.get(&kind).map(|source| source.label(&tag)).unwrap_or_default();
                    found.push(Action::PruneTag { kind, tag, digest, is_index, source });
                }
                Ok(_) => {}
                Err(failure) => {
                    let is_out =
                        matches!(failure.class, Class::RateLimited | Class::AuthenticationFailed);
                    failed.get_or_insert(failure);
                    if is_out {
                        break;
                    }
                }
            }
        }
        let reserve = found.split_off(found.len().min(allowed));
        let mut blocked = failed.and_then(|failure| Pruning::blocked_by(&failure).blocked);
        // What could be asked goes now: the rest has time.
        if let Some(blocked) = blocked.as_mut().filter(|_| !found.is_empty()) {
            blocked.retry_after = None;
        }
        // Image and chart may both list a tag.
        let (seen, unseen) = tags.split_at(seen);
        let unseen: BTreeSet<&Tag> = unseen.iter().filter(|tag| !seen.contains(tag)).collect();
        Ok(Pruning {
            actions: found,
            left: unseen.len() + reserve.len(),
            reserve,
            blocked,
            ..Pruning::default()
        })
    }

    /// All images of the repository, page by page. A throttle is waited out.
    async fn contents(&self) -> Result<Vec<Stored>, Failure> {
        let Pass { job, target, .. } = self;
        let mut images = Vec::new();
        let mut next = None;
        for _ in 0..MOST_PAGES {
            let from = &next;
            let page = retry_throttled(|| async {
                Ok(target.registry.contents(target.name(), from.as_deref()).await?)
            })
            .await?;
            // Somebody deleted it just now.
            let Some(page) = page else { return Ok(Vec::new()) };
            job.progress.advance(1);
            images.extend(page.images);
            next = page.next;
            if next.is_none() {
                return Ok(images);
            }
        }
        let message = format!(
            "ecr:DescribeImages on {}: the list has no end after {MOST_PAGES} pages",
            target.name()
        );
        Err(Failure::new(Class::RegistryUnavailable, message))
    }

    /// The source of an artifact that is the repository itself: what goes there cannot be had again
    /// from there.
    fn itself<'d>(
        &self,
        desired: &'d Desired,
        repository: &Repository,
    ) -> Option<&'d DesiredArtifact> {
        let ecr::Registry { account, region, .. } = &*self.target.registry;
        let is_itself = |origin: &Origin| {
            let host = origin.client.host();
            let is_host = host == repository.host()
                || Host::parse(host)
                    .is_some_and(|host| host.region == *region && host.account == *account);
            is_host && origin.repository == repository.name
        };
        desired.artifacts.iter().find(|artifact| {
            let read = matches!(&artifact.source, Source::Registry(origin) if is_itself(origin));
            read || artifact.own.as_ref().is_some_and(is_itself)
        })
    }
}

/// What an earlier pass found, as far as it holds for one that does not look: all of it where
/// nothing is done about it.
fn remembered(pruning: &Pruning, desired: &Desired, mode: Mode) -> Pruning {
    let is_wanted =
        |tag: &Tag| desired.artifacts.iter().any(|artifact| artifact.tags.contains_key(tag));
    let is_of_today = |action: &&Action| {
        mode == Mode::DryRun && !matches!(action, Action::PruneTag { tag, .. } if is_wanted(tag))
    };
    Pruning {
        actions: pruning.actions.iter().filter(is_of_today).cloned().collect(),
        blocked: pruning.blocked.clone(),
        ..Pruning::default()
    }
}

/// Whether manifests are to be read from a source that counts that.
fn counts_pulls(desired: &Desired) -> bool {
    desired.artifacts.iter().any(|artifact| match &artifact.source {
        Source::Registry(origin) => origin.platforms().is_some() && origin.client.counts_pulls(),
        _ => false,
    })
}

/// What will be in the repository after the copies of this pass, whether or not it is there now.
fn present(desired: &Desired) -> Vec<Digest> {
    let mut present = Vec::new();
    for artifact in &desired.artifacts {
        for digest in artifact.tags.values().filter_map(WantedTag::manifest) {
            present.push(digest.clone());
            if let Source::Registry(origin) = &artifact.source {
                present.extend(origin.rebuilt(digest).map(|rebuilt| rebuilt.source));
            }
        }
    }
    present
}

/// Why nothing may be removed, as far as that can be told without looking: what is wanted, or what
/// there is, is not wholly known, or something that is wanted is missing.
fn forbidden(desired: &Desired, plan: &Plan) -> Option<Pruning> {
    let by = |what: String, failure: &Failure| Pruning::blocked_by(&because(&what, failure));
    for artifact in &desired.artifacts {
        let (noun, name) = (artifact.kind.noun(), &artifact.name);
        if let Some(failure) = &artifact.listing {
            return Some(by(format!("which {noun} tags are wanted is not known"), failure));
        }
        match &artifact.offered {
            Some(Ok(offered)) if offered.is_empty() => {
                return Some(Pruning::blocked(format!("{name} lists no tags")));
            }
            // A selector with a slip of the pen would take everything.
            Some(Ok(offered)) if artifact.selected == Some(0) => {
                let count = offered.len();
                return Some(Pruning::blocked(format!(
                    "the selector finds none of the {count} {noun} tags of {name}"
                )));
            }
            Some(Ok(_)) => {}
            Some(Err(failure)) => {
                return Some(by(format!("what {name} has is not known"), failure));
            }
            None => return Some(Pruning::blocked(format!("what {name} has was not asked"))),
        }
    }
    plan.settled.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state))
}

/// The failure under what it means here.
fn because(what: &str, failure: &Failure) -> Failure {
    Failure { message: format!("{what}: {}", failure.message), ..failure.clone() }
}

/// Nothing goes while a wanted tag is not in ECR as it shall be. It may be soon.
fn missing(kind: ArtifactKind, tag: &Tag, state: &TagState) -> Option<Pruning> {
    let TagState::Failed(failure) = state else { return None };
    let what = format!("{} tag {tag} is wanted and could not be had", kind.noun());
    let mut pruning = Pruning::blocked(because(&what, failure));
    if let Some(blocked) = &mut pruning.blocked {
        blocked.retry_after = Some(Pruning::AGAIN);
    }
    Some(pruning)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found =
            Pruning { actions: vec![action("1"), action("2")], left: 3, ..Pruning::blocked("why") };
        let mut artifact = DesiredArtifact::new(ArtifactKind::Image, "q.io/app");
        let wanted = WantedTag { pin: None, source: Err(Failure::cancelled()) };
        artifact.tags.insert("1".parse().expect("a tag"), wanted);
        let desired = Desired { artifacts: vec![artifact], ..Desired::default() };
        let shown = remembered(&found, &desired, Mode::DryRun);
        assert_eq!(
            (shown.actions, &shown.blocked),
            (vec![action("2")], &found.blocked),
            "1 is wanted again"
        );
        let applied = remembered(&found, &desired, Mode::Apply);
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
        assert_eq!(
            of(2, 2, 9).as_deref(),
            Some("up to 9 more tags go later: prune.maxPercent allows 2 at a time")
        );
        let unseen = "9 more tags are looked at later, whether they go: 100 at a time";
        assert_eq!(of(1, 2, 9).as_deref(), Some(unseen));
        assert_eq!(Pruning { left: 9, ..Pruning::blocked("why") }.advice(), None);
    }

    #[test]
    fn what_could_not_be_asked_is_asked_again_soon_and_what_a_person_must_mend_is_not() {
        let again = |class| {
            Pruning::blocked_by(&Failure::new(class, "x")).blocked.expect("blocked").retry_after
        };
        assert_eq!(again(Class::RegistryUnavailable), Some(Pruning::AGAIN));
        assert_eq!(again(Class::AccessDenied), None);
    }
}
