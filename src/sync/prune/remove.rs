//! The removal itself: the last thing that a pass does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::candidates::is_unused;
use super::missing;
use crate::class::Class;
use crate::ecr::{OWNER_TAG, Removal, Repository};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::sync::action::{Action, Plan, Pruning};
use crate::sync::field::Field;
use crate::sync::observed::Observed;
use crate::sync::outcomes::Outcomes;
use crate::sync::pass::Pass;
use crate::sync::throttle::retry_throttled;

/// Calls of BatchDeleteImage in one pass, most of them for what ECR turns out to keep.
const MOST_ROUNDS: usize = 20;

impl Pass<'_> {
    /// Removes what the plan says, now that all else is done.
    pub(in crate::sync) async fn remove(
        &self,
        repository: &Repository,
        observed: &Observed,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let Some(pruning) = plan.pruning.as_ref().filter(|pruning| !pruning.actions.is_empty())
        else {
            return;
        };
        let work = Work { pass: self, repository, pruning };
        let forbidden = match missed(outcomes) {
            Some(blocked) => Some(blocked),
            None => work.not_ours(observed, plan, outcomes).await,
        };
        if let Some(blocked) = forbidden {
            outcomes.pruning_blocked = blocked.blocked;
            return;
        }
        let mut queue: Vec<&Action> = pruning.actions.iter().chain(&pruning.reserve).collect();
        let mut left = pruning.actions.len();
        let mut first = None;
        for _ in 0..MOST_ROUNDS {
            if left == 0 || queue.is_empty() {
                break;
            }
            let batch: Vec<_> =
                queue.drain(..queue.len().min(left).min(Pruning::MOST_CHECKS)).collect();
            match work.batch(&batch, outcomes, &mut first).await {
                Ok(gone) => left -= gone.min(left),
                Err(failure) => {
                    first = Some(failure);
                    break;
                }
            }
            self.job.progress.advance(1);
        }
        if let Some(failure) = first {
            outcomes.pruning_blocked = Pruning::blocked_by(&failure).blocked;
            if let Some(blocked) = &outcomes.pruning_blocked {
                self.job.progress.failed(Field::Prune, blocked);
            }
        }
    }
}

/// A wanted tag that this pass did not bring about.
fn missed(outcomes: &Outcomes) -> Option<Pruning> {
    outcomes.tags.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state))
}

struct Work<'a> {
    pass: &'a Pass<'a>,
    repository: &'a Repository,
    pruning: &'a Pruning,
}

impl Work<'_> {
    /// Why the repository may not be ours to remove from: it could not be marked, or the mark is
    /// another one by now. Copies take their time.
    async fn not_ours(
        &self,
        observed: &Observed,
        plan: &Plan,
        outcomes: &Outcomes,
    ) -> Option<Pruning> {
        let marked = plan.actions.iter().find_map(|action| match action {
            Action::TagRepository { tags } => tags.get(OWNER_TAG),
            _ => None,
        });
        if marked.is_some() && !outcomes.tagged.contains(OWNER_TAG) {
            return Some(Pruning::blocked("the repository could not be marked as ours"));
        }
        let earlier =
            observed.repository.as_ref().and_then(|there| there.resource_tags.get(OWNER_TAG));
        let expected = marked.or(earlier);
        match retry_throttled(|| async {
            Ok(self.pass.target.registry.resource_tags(self.repository).await?)
        })
        .await
        {
            Ok(tags) if tags.get(OWNER_TAG) == expected => None,
            Ok(_) => {
                Some(Pruning::blocked(format!("the repository has another {OWNER_TAG} by now")))
            }
            Err(failure) => Some(Pruning::blocked_by(&failure)),
        }
    }

    /// Removes at most a hundred tags. Returns how many of them count as gone: all that ECR does
    /// not keep.
    async fn batch(
        &self,
        batch: &[&Action],
        outcomes: &mut Outcomes,
        first: &mut Option<Failure>,
    ) -> Result<usize, Failure> {
        // ECR keeps what an index names: indexes go first.
        let (indexes, others): (Vec<&Action>, Vec<&Action>) = batch
            .iter()
            .partition(|action| matches!(action, Action::PruneTag { is_index: true, .. }));
        let mut gone = 0;
        for part in [indexes, others].into_iter().filter(|part| !part.is_empty()) {
            let part = &part;
            // Looked at again with each try: between two of them are minutes.
            let results = retry_throttled(|| async { self.remove_unused(part).await }).await?;
            for action in part {
                gone += usize::from(self.note(action, &results, outcomes, first));
            }
        }
        Ok(gone)
    }

    /// Looks once more, and removes what is as it was: somebody may have moved, pulled or archived
    /// an image meanwhile.
    async fn remove_unused(&self, part: &[&Action]) -> Result<BTreeMap<Tag, Removal>, Failure> {
        let planned: BTreeMap<&Tag, &Digest> = part
            .iter()
            .filter_map(|action| match action {
                Action::PruneTag { tag, digest, .. } => Some((tag, digest)),
                _ => None,
            })
            .collect();
        let name = &self.repository.name;
        let tags: BTreeSet<Tag> = planned.keys().map(|tag| (*tag).clone()).collect();
        let images = self.pass.target.registry.stored(name, &tags).await?;
        let now = SystemTime::now();
        let unused = images
            .iter()
            .filter(|image| image.is_active && is_unused(image, self.pruning.min_unpulled, now));
        let still = unused.flat_map(|image| {
            image.tags.iter().filter(|tag| planned.get(tag) == Some(&&image.digest))
        });
        let still: Vec<Tag> = still.cloned().collect();
        if still.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Before it is done: whoever is stopped in between has left word.
        let list: Vec<_> = still.iter().map(Tag::as_str).collect();
        tracing::info!(repository = name, tags = list.join(", "), "prunes");
        Ok(self.pass.target.registry.remove_tags(name, &still).await?)
    }

    /// Notes what became of a tag, and whether it counts as gone.
    fn note(
        &self,
        action: &Action,
        results: &BTreeMap<Tag, Removal>,
        outcomes: &mut Outcomes,
        first: &mut Option<Failure>,
    ) -> bool {
        let Action::PruneTag { tag, digest, is_index, .. } = action else { return false };
        match results.get(tag) {
            Some(Removal::Removed) => {
                outcomes.done(action, &self.pass.job.progress);
                if *is_index {
                    self.pass.engine.prune_cache.forget_named(&self.repository.arn);
                }
                true
            }
            Some(Removal::Named) => {
                self.pass.engine.prune_cache.remember_named(
                    &self.repository.arn,
                    tag.clone(),
                    digest.clone(),
                );
                let told = format!(
                    "tag {tag} is not pruned: ECR keeps it for an index that names its image"
                );
                outcomes.warnings.push(told);
                false
            }
            Some(Removal::Failed(why)) => {
                let message =
                    format!("ecr:BatchDeleteImage on {}: tag {tag}: {why}", self.repository.name);
                first.get_or_insert(Failure::new(Class::RegistryUnavailable, message));
                true
            }
            None => {
                tracing::info!(repository = self.repository.name, %tag, "not pruned: it is in use, moved or gone by now");
                false
            }
        }
    }
}
