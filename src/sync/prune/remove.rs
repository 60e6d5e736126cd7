//! The removal itself: the last thing that a pass does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::candidates::is_unused;
use super::known::Known;
use super::{MOST_CHECKS, PRUNE, Pruning, missing};
use crate::ecr::{self, Removal, Repository};
use crate::registry::{Digest, Tag};
use crate::sync::apply::Outcomes;
use crate::sync::patience::patiently;
use crate::sync::{Action, Failure, Plan, Progress};

/// Removes what the plan says, now that all else is done.
pub(in crate::sync) async fn remove(
    registry: &ecr::Registry,
    repository: &Repository,
    plan: &Plan,
    known: &Known,
    outcomes: &mut Outcomes,
    progress: &Progress,
) {
    let Some(pruning) = plan.pruning.as_ref().filter(|pruning| !pruning.actions.is_empty()) else { return };
    if let Some(why) = forbidden(outcomes) {
        outcomes.pruning_blocked = Pruning::blocked(why).blocked;
        return;
    }
    let work = Work { registry, repository, pruning, known, progress };
    let mut queue: Vec<&Action> = pruning.actions.iter().chain(&pruning.reserve).collect();
    let mut left = pruning.actions.len();
    let mut failures = Vec::new();
    // What ECR keeps for an index makes room for another one.
    while left > 0 && !queue.is_empty() {
        let batch: Vec<_> = queue.drain(..queue.len().min(left).min(MOST_CHECKS)).collect();
        match work.batch(&batch, outcomes, &mut failures).await {
            Ok(removed) => left -= removed.min(left),
            Err(failure) => {
                failures.insert(0, failure.to_string());
                break;
            }
        }
        progress.advance(1);
    }
    if let Some(first) = failures.first() {
        let blocked = Pruning::blocked(first);
        if let Some(failure) = &blocked.blocked {
            progress.failed(PRUNE, failure);
        }
        outcomes.pruning_blocked = blocked.blocked;
    }
}

/// What went wrong in this pass that forbids to remove anything.
fn forbidden(outcomes: &Outcomes) -> Option<String> {
    let unmarked = outcomes.unwritten.contains("resourceTags").then(|| {
        let why = outcomes.configuration.first().map(ToString::to_string).unwrap_or_default();
        format!("the repository could not be marked as ours: {why}")
    });
    unmarked.or_else(|| outcomes.tags.iter().find_map(|((kind, tag), state)| missing(*kind, tag, state)))
}

struct Work<'a> {
    registry: &'a ecr::Registry,
    repository: &'a Repository,
    pruning: &'a Pruning,
    known: &'a Known,
    progress: &'a Progress,
}

impl Work<'_> {
    /// Removes at most a hundred tags; returns how many went.
    async fn batch(
        &self,
        batch: &[&Action],
        outcomes: &mut Outcomes,
        failures: &mut Vec<String>,
    ) -> Result<usize, Failure> {
        let still = self.still_unused(batch).await?;
        // ECR keeps what an index names: indexes go first.
        let (indexes, others): (Vec<_>, Vec<_>) = batch
            .iter()
            .filter(|action| matches!(action, Action::PruneTag { tag, .. } if still.contains(tag)))
            .partition(|action| matches!(action, Action::PruneTag { is_index: true, .. }));
        let mut removed = 0;
        for part in [indexes, others].into_iter().filter(|part| !part.is_empty()) {
            removed += self.remove(&part, outcomes, failures).await?;
        }
        Ok(removed)
    }

    /// Looks once more: copies take their time, and somebody may have moved, pulled or archived an image meanwhile.
    async fn still_unused(&self, batch: &[&Action]) -> Result<BTreeSet<Tag>, Failure> {
        let wanted: BTreeMap<&Tag, &Digest> = batch
            .iter()
            .filter_map(|action| match action {
                Action::PruneTag { tag, digest, .. } => Some((tag, digest)),
                _ => None,
            })
            .collect();
        let tags = &wanted.keys().map(|tag| (*tag).clone()).collect();
        let images = patiently(|| async { Ok(self.registry.stored(&self.repository.name, tags).await?) }).await?;
        let now = SystemTime::now();
        let unused = images.iter().filter(|image| image.is_active && is_unused(image, self.pruning.min_unpulled, now));
        let still = unused.flat_map(|image| image.tags.iter().filter(|tag| wanted.get(tag) == Some(&&image.digest)));
        Ok(still.cloned().collect())
    }

    async fn remove(
        &self,
        part: &[&&Action],
        outcomes: &mut Outcomes,
        failures: &mut Vec<String>,
    ) -> Result<usize, Failure> {
        let tag_of = |action: &&&Action| match action {
            Action::PruneTag { tag, .. } => Some(tag.clone()),
            _ => None,
        };
        let tags = &part.iter().filter_map(tag_of).collect::<Vec<_>>();
        let name = &self.repository.name;
        // Before it is done: whoever is stopped in between has left word.
        let list: Vec<_> = tags.iter().map(Tag::as_str).collect();
        tracing::info!(repository = name, tags = list.join(", "), "prunes");
        let results = patiently(|| async { Ok(self.registry.remove_tags(name, tags).await?) }).await?;
        let mut removed = 0;
        for action in part {
            let Action::PruneTag { tag, digest, is_index, .. } = action else { continue };
            match results.get(tag) {
                Some(Removal::Removed) => {
                    removed += 1;
                    outcomes.done(action, self.progress);
                    if *is_index {
                        self.known.forget_named(&self.repository.arn);
                    }
                }
                Some(Removal::Named) => {
                    self.known.remember_named(&self.repository.arn, tag.clone(), digest.clone());
                    let told = format!("tag {tag} is not pruned: ECR keeps it for an index that names its image");
                    outcomes.warnings.push(told);
                }
                Some(Removal::Failed(why)) => {
                    failures.push(format!("ecr:BatchDeleteImage on {name}: tag {tag}: {why}"));
                }
                Some(Removal::Gone) | None => {
                    tracing::info!(repository = name, %tag, "not pruned: somebody removed it just now");
                }
            }
        }
        Ok(removed)
    }
}
