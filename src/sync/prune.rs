//! Removes tags that are no longer wanted, if they can be copied again: the complete list of the
//! source has the tag, and a copy would have the same digest.
//!
//! ```text
//! contents    all images of the repository, by DescribeImages         (reads ECR; never pulls)
//! candidates  contents x Desired -> tags that may be removed          (pure)
//! source      the digest that a copy would have, and its signatures   (reads the source)
//! remove      after all copies, and after another check of ECR        (writes ECR)
//! ```

pub(super) mod cache;
mod candidates;
mod check;
mod remove;
mod source;

use std::collections::BTreeMap;
use std::time::SystemTime;

use self::candidates::{Contents, Exempt, allowed, candidates};
use self::source::MOST_PULLS;
use super::action::{Action, Plan, Pruning};
use super::artifact::{ArtifactKind, DesiredArtifact, Source, TagState, WantedTag};
use super::desired::Desired;
use super::job::Mode;
use super::observed::Observed;
use super::origin::{Origin, Rebuilt};
use super::ownership::Claimant;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::class::Class;
use crate::ecr::{self, Host, OWNER_TAG, Repository, Stored};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// Pages of a million images. ECR's own quota is a tenth of that.
const MAX_PAGES: usize = 1_000;

impl Pass<'_> {
    /// Whether this pass looks for tags to remove: once per `driftInterval`, if it is forced, and in
    /// each run of the command line; also in a dry run if no earlier pass did, so that its first plan
    /// is complete.
    pub(super) fn prunes(&self) -> bool {
        let (spec, earlier) = (&self.job.spec, &self.job.earlier);
        let is_first_dry_run = self.mode == Mode::DryRun && earlier.pruning.is_none();
        spec.prune.is_some() && spec.copies() && (earlier.inspects || is_first_dry_run)
    }

    /// Returns the result of the last check, if this pass makes none.
    pub(super) fn remembered_pruning(&self, desired: &Desired, plan: &Plan) -> Option<Pruning> {
        let earlier = self.job.earlier.pruning.as_ref();
        let earlier = earlier.filter(|_| desired.prunes && plan.pruning.is_none())?;
        Some(remembered(earlier, desired, self.mode))
    }

    /// Finds the tags to remove.
    ///
    /// # Errors
    /// The reason why nothing is removed.
    pub(super) async fn prunable(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Pruning, Failure> {
        let (Some(bounds), Some(observed)) = (self.job.spec.prune, &observed.repository) else {
            return Ok(Pruning::default());
        };
        let repository = &observed.repository;
        let owner = observed.resource_tags.get(OWNER_TAG);
        if let Some(owner) = owner.filter(|_| !matches!(self.job.claimant, Claimant::Resource(_))) {
            return Err(Pruning::blocked(format!(
                "an operator keeps the repository for {owner}, and must prune it"
            )));
        }
        if let Some(artifact) = self.itself(desired, repository) {
            let why = format!("the source {} is the repository itself", artifact.name);
            return Err(Pruning::blocked(why));
        }
        check_plan(desired, plan)?;

        let images = self.contents().await.map_err(|failure| Pruning::blocked_by(&failure))?;
        self.remember_narrowed(desired);
        let contents = Contents::new(&images, present(desired));
        let min_unpulled = bounds.min_unpulled;
        let exempt = Exempt { min_unpulled, children: &observed.children };
        let most = if counts_pulls(desired) { MOST_PULLS } else { Pruning::MOST_CHECKS };
        let mut candidates = candidates(desired, &contents, exempt, SystemTime::now(), most);
        let cache = &self.engine.prune_cache;
        candidates
            .retain(|candidate| !cache.is_kept(&repository.arn, &candidate.tag, &candidate.digest));

        let allowed = allowed(contents.tags(), bounds.max_percent);
        let checked = self.checked(desired, allowed, &contents, candidates).await;
        let checked = checked.unwrap_or_else(|failure| Pruning::blocked_by(&failure).into());
        Ok(Pruning { allowed, min_unpulled, ..checked })
    }

    /// Remembers from which indexes the wanted tags were built. When a tag is no longer wanted, its
    /// index need not be read again.
    fn remember_narrowed(&self, desired: &Desired) {
        for artifact in &desired.artifacts {
            let Source::Registry(origin) = &artifact.source else { continue };
            let digests = artifact.tags.values().filter_map(WantedTag::manifest);
            let rebuilt = digests.filter_map(|digest| origin.rebuilt(digest));
            for Rebuilt { source, platforms, target } in rebuilt {
                self.engine.prune_cache.remember_narrowed(&source, &platforms, target);
            }
        }
    }

    /// Reads all images of the repository, page by page. Throttled calls are retried.
    async fn contents(&self) -> Result<Vec<Stored>, Failure> {
        let Pass { job, target, .. } = self;
        let mut images = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let from: &Option<String> = &next;
            let read = || target.registry.contents(target.name(), from.as_deref());
            let page = retry_throttled(read).await?;
            // Somebody deleted the repository just now.
            let Some(page) = page else { return Ok(Vec::new()) };

            job.progress.advance(1);
            images.extend(page.images);
            next = page.next;
            if next.is_none() {
                return Ok(images);
            }
        }
        let message = format!(
            "ecr:DescribeImages on {}: the list does not end after {MAX_PAGES} pages",
            target.name()
        );
        Err(Failure::new(Class::RegistryUnavailable, message))
    }

    /// Returns the artifact whose source is the repository itself: a tag that is removed from it
    /// cannot be copied from it again.
    fn itself<'d>(
        &self,
        desired: &'d Desired,
        repository: &Repository,
    ) -> Option<&'d DesiredArtifact> {
        let ecr::Registry { account, region, .. } = &*self.target.registry;
        let is_registry = |host: &str| {
            host == repository.host()
                || Host::parse(host)
                    .is_some_and(|host| host.region == *region && host.account == *account)
        };
        let is_itself = |origin: &Origin| {
            is_registry(origin.client.host()) && origin.repository == repository.name
        };
        desired.artifacts.iter().find(|artifact| {
            let is_source =
                matches!(&artifact.source, Source::Registry(origin) if is_itself(origin));
            is_source || artifact.original_origin.as_ref().is_some_and(is_itself)
        })
    }
}

/// Returns the result of an earlier check, as far as it still holds. A dry run shows it all, since
/// nothing was removed.
fn remembered(pruning: &Pruning, desired: &Desired, mode: Mode) -> Pruning {
    let is_wanted =
        |tag: &Tag| desired.artifacts.iter().any(|artifact| artifact.tags.contains_key(tag));
    let holds = |action: &&Action| {
        mode == Mode::DryRun && !matches!(action, Action::PruneTag { tag, .. } if is_wanted(tag))
    };
    Pruning {
        actions: pruning.actions.iter().filter(holds).cloned().collect(),
        blocked: pruning.blocked.clone(),
        ..Pruning::default()
    }
}

/// Whether manifests must be read from a source that counts pulls.
fn counts_pulls(desired: &Desired) -> bool {
    desired.artifacts.iter().any(|artifact| match &artifact.source {
        Source::Registry(origin) => origin.platforms().is_some() && origin.client.counts_pulls(),
        _ => false,
    })
}

/// Returns the wanted digests: after the copies of this pass, they are in the repository.
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

/// Checks whether the plan shows a reason to remove nothing: the wanted tags or the source's tags
/// are not all known, or a wanted tag is missing.
fn check_plan(desired: &Desired, plan: &Plan) -> Result<(), Failure> {
    let blocked = |why: String| Err(Pruning::blocked(why));
    let by = |what: String, failure: &Failure| Err(Pruning::blocked_by(&because(&what, failure)));
    for artifact in &desired.artifacts {
        let (noun, name) = (artifact.kind.noun(), &artifact.name);
        if let Some(failure) = &artifact.listing {
            return by(format!("cannot determine which {noun} tags are wanted"), failure);
        }

        match &artifact.offered {
            Some(Ok(offered)) if offered.is_empty() => {
                return blocked(format!("{name} lists no tags"));
            }
            // A typing error in the selector would otherwise remove everything.
            Some(Ok(offered)) if artifact.selected == Some(0) => {
                let count = offered.len();
                return blocked(format!(
                    "the selector finds none of the {count} {noun} tags of {name}"
                ));
            }
            Some(Ok(_)) => {}
            Some(Err(failure)) => {
                return by(format!("cannot list the tags of {name}"), failure);
            }
            None => return blocked(format!("the tags of {name} were not listed")),
        }
    }

    missing(&plan.settled)
}

/// Adds the consequence of a failure to its message.
fn because(what: &str, failure: &Failure) -> Failure {
    Failure { message: format!("{what}: {}", failure.message), ..failure.clone() }
}

/// Blocks pruning while a wanted tag is not in ECR as desired, which may change soon.
fn missing(states: &BTreeMap<(ArtifactKind, Tag), TagState>) -> Result<(), Failure> {
    for ((kind, tag), state) in states {
        let TagState::Failed(failure) = state else { continue };
        let what = format!("{} tag {tag} is wanted, but could not be copied", kind.noun());
        let blocked = Pruning::blocked(because(&what, failure));
        return Err(Failure { retry_after: Some(Pruning::RECHECK), ..blocked });
    }
    Ok(())
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
    fn a_dry_run_shows_the_last_check_and_a_pass_removes_only_once() {
        let checked = Pruning {
            actions: vec![action("1"), action("2")],
            left: 3,
            ..Pruning::blocked("why").into()
        };
        let mut artifact = DesiredArtifact::new(ArtifactKind::Image, "q.io/app");
        let wanted = WantedTag { pin: None, source: Err(Failure::cancelled()) };
        artifact.tags.insert("1".parse().expect("a tag"), wanted);
        let desired = Desired { artifacts: vec![artifact], ..Desired::default() };
        let shown = remembered(&checked, &desired, Mode::DryRun);
        assert_eq!(
            (shown.actions, &shown.blocked),
            (vec![action("2")], &checked.blocked),
            "1 is wanted again"
        );
        let applied = remembered(&checked, &desired, Mode::Apply);
        assert_eq!((applied.actions, &applied.blocked), (Vec::new(), &checked.blocked));
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
            Some(
                "up to 9 more tags will be pruned in later passes (prune.maxPercent allows 2 per \
                 pass)"
            )
        );
        let unseen = "9 more tags will be checked in later passes (100 per pass)";
        assert_eq!(of(1, 2, 9).as_deref(), Some(unseen));
        assert_eq!(Pruning { left: 9, ..Pruning::blocked("why").into() }.advice(), None);
    }

    #[test]
    fn a_passing_failure_is_checked_again_soon_and_others_are_not() {
        let again = |class| Pruning::blocked_by(&Failure::new(class, "x")).retry_after;
        assert_eq!(again(Class::RegistryUnavailable), Some(Pruning::RECHECK));
        assert_eq!(again(Class::AccessDenied), None);
    }
}
