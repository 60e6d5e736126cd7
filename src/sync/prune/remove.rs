//! The removal, the last step of a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::candidates::is_unused;
use super::missing;
use crate::class::Class;
use crate::ecr::{OWNER_TAG, Removal, Repository, TagToRemove};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::sync::action::{Action, Plan, Pruning};
use crate::sync::field::Field;
use crate::sync::observed::Observed;
use crate::sync::outcomes::Outcomes;
use crate::sync::pass::Pass;
use crate::sync::throttle::retry_throttled;
use crate::writes::{self, Change};

/// Calls of BatchDeleteImage in one pass. Most of them are for tags that replace those that ECR
/// keeps.
const MAX_ROUNDS: usize = 20;

impl Pass<'_> {
    /// Removes the tags of the plan, after everything else.
    pub(in crate::sync) async fn remove(
        &self,
        repository: &Repository,
        observed: &Observed,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let pruning = plan.pruning.as_ref().filter(|pruning| !pruning.actions.is_empty());
        let Some(pruning) = pruning else { return };
        let work = Work { pass: self, repository, pruning };
        let allowed = match missing(&outcomes.tags) {
            Ok(()) => work.check_owner(observed, plan, outcomes).await,
            blocked => blocked,
        };
        if let Err(blocked) = allowed {
            outcomes.pruning_blocked = Some(blocked);
            return;
        }

        let mut queue: Vec<&Action> = pruning.actions.iter().chain(&pruning.reserve).collect();
        let mut left = pruning.actions.len();
        let mut failed = None;
        for _ in 0..MAX_ROUNDS {
            if left == 0 || queue.is_empty() {
                break;
            }
            let size = queue.len().min(left).min(Pruning::MOST_CHECKS);
            let batch: Vec<_> = queue.drain(..size).collect();
            match work.batch(&batch, outcomes, &mut failed).await {
                Ok(done) => left -= done.min(left),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
            self.job.progress.advance(1);
        }

        if let Some(failure) = failed {
            let blocked = match outcomes.fields.contains(&Field::Prune) {
                true => Pruning::partly_blocked_by(&failure),
                false => Pruning::blocked_by(&failure),
            };
            outcomes.failed(Field::Prune, &blocked);
            outcomes.pruning_blocked = Some(blocked);
        }
    }
}

struct Work<'a> {
    pass: &'a Pass<'a>,
    repository: &'a Repository,
    pruning: &'a Pruning,
}

impl Work<'_> {
    /// Blocks pruning if the repository may belong to somebody else: it could not be marked, or its
    /// mark has changed. The copies may have taken a long time.
    async fn check_owner(
        &self,
        observed: &Observed,
        plan: &Plan,
        outcomes: &Outcomes,
    ) -> Result<(), Failure> {
        let marked = plan.actions.iter().find_map(|action| match action {
            Action::TagRepository { tags } => tags.get(OWNER_TAG),
            _ => None,
        });
        if marked.is_some() && !outcomes.tagged.contains(OWNER_TAG) {
            return Err(Pruning::blocked("the repository could not be marked as ours"));
        }

        let observed = observed.repository.as_ref();
        let observed = observed.and_then(|observed| observed.resource_tags.get(OWNER_TAG));
        let expected = marked.or(observed);
        let registry = &self.pass.target.registry;
        match retry_throttled(|| registry.resource_tags(self.repository)).await {
            Ok(tags) if tags.get(OWNER_TAG) == expected => Ok(()),
            Ok(_) => {
                let why = format!("the repository's resource tag {OWNER_TAG} has changed");
                Err(Pruning::blocked(why))
            }
            Err(failure) => Err(Pruning::blocked_by(&failure)),
        }
    }

    /// Removes at most a hundred tags. Returns how many of them count as removed: all except those
    /// that ECR keeps.
    async fn batch(
        &self,
        batch: &[&Action],
        outcomes: &mut Outcomes,
        failed: &mut Option<Failure>,
    ) -> Result<usize, Failure> {
        // ECR keeps the children of an index, so indexes come first.
        let is_index =
            |action: &&&Action| matches!(action, Action::PruneTag { is_index: true, .. });
        let (indexes, others): (Vec<&Action>, Vec<&Action>) = batch.iter().partition(is_index);

        let mut removed = 0;
        for part in [indexes, others].into_iter().filter(|part| !part.is_empty()) {
            let part = &part;
            // Each try checks the tags again: there may be minutes between two tries.
            let results = retry_throttled(|| self.remove_unused(part)).await?;
            for action in part {
                removed += usize::from(self.record(action, &results, outcomes, failed));
            }
        }
        Ok(removed)
    }

    /// Checks the tags again, and removes those that are unchanged: somebody may have moved, pulled
    /// or archived an image meanwhile.
    async fn remove_unused(&self, part: &[&Action]) -> Result<BTreeMap<Tag, Removal>, Failure> {
        let planned: BTreeMap<&Tag, &Digest> = part
            .iter()
            .filter_map(|action| match action {
                Action::PruneTag { tag, digest, .. } => Some((tag, digest)),
                _ => None,
            })
            .collect();

        let name = &self.repository.name;
        let registry = &self.pass.target.registry;
        let tags: BTreeSet<Tag> = planned.keys().map(|tag| (*tag).clone()).collect();
        let images = registry.stored(name, &tags).await?;
        let now = SystemTime::now();
        let unused = images
            .iter()
            .filter(|image| image.is_active && is_unused(image, self.pruning.min_unpulled, now));
        let unchanged = unused.flat_map(|image| {
            let is_planned = |tag: &Tag| planned.get(tag) == Some(&&image.digest);
            let is_shared = !image.tags.iter().all(is_planned);
            let planned = image.tags.iter().filter(move |tag| is_planned(tag));
            planned.map(move |tag| TagToRemove {
                tag: tag.clone(),
                digest: image.digest.clone(),
                is_shared,
            })
        });
        let unchanged: Vec<TagToRemove> = unchanged.collect();
        if unchanged.is_empty() {
            return Ok(BTreeMap::new());
        }

        // Logged first: a pass that is stopped in between leaves a record.
        let list: Vec<_> = unchanged.iter().map(|tag| tag.tag.as_str()).collect();
        tracing::info!(repository = name, tags = list.join(", "), "pruning tags");
        let before: Vec<_> =
            unchanged.iter().map(|tag| format!("{}@{}", tag.tag, tag.digest)).collect();
        let change = Change {
            field: Field::Prune.as_str(),
            before: before.join(", "),
            after: String::new(),
        };
        Ok(writes::write(change, registry.remove_tags(name, &unchanged)).await?)
    }

    /// Records the result for a tag. Returns whether it counts as removed.
    fn record(
        &self,
        action: &Action,
        results: &BTreeMap<Tag, Removal>,
        outcomes: &mut Outcomes,
        failed: &mut Option<Failure>,
    ) -> bool {
        let Action::PruneTag { tag, digest, is_index, .. } = action else { return false };
        let Repository { name, arn, .. } = self.repository;
        let cache = &self.pass.engine.prune_cache;

        match results.get(tag) {
            Some(Removal::Removed) => {
                outcomes.done(action);
                if *is_index {
                    cache.forget_kept(arn);
                }
                true
            }
            Some(Removal::Named) => {
                cache.remember_kept(arn, tag.clone(), digest.clone());
                outcomes.warnings.push(format!(
                    "tag {tag} was not pruned: ECR keeps it because an index contains its image"
                ));
                false
            }
            Some(Removal::Failed(why)) => {
                let message = format!("ecr:BatchDeleteImage on {name}: tag {tag}: {why}");
                failed.get_or_insert(Failure::new(Class::RegistryUnavailable, message));
                true
            }
            Some(Removal::RemovedFrom(other)) => {
                outcomes.done(action);
                outcomes.warnings.push(format!(
                    "somebody moved tag {tag} to {other} while it was pruned, so the new tag is \
                     removed, too: push it again"
                ));
                true
            }
            Some(Removal::Moved) | None => {
                let reason = "the tag is in use, moved or deleted";
                tracing::info!(repository = name, %tag, reason, "not pruned");
                false
            }
        }
    }
}
