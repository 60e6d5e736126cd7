//! Asks the sources whether the candidates can be copied again.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, pin_mut, stream};

use super::candidates::{Candidate, Contents};
use super::source::{AskedSource, Budget};
use crate::class::Class;
use crate::failure::Failure;
use crate::registry::Tag;
use crate::sync::action::{Action, Pruning};
use crate::sync::artifact::ArtifactKind;
use crate::sync::charts::CONCURRENT_CHARTS;
use crate::sync::desired::Desired;
use crate::sync::pass::Pass;

/// Tags that are checked at the same time. Each check may download a chart archive.
const CONCURRENT_CHECKS: usize = CONCURRENT_CHARTS;

impl Pass<'_> {
    /// Returns the candidates that can be copied again, up to `allowed`. A tag whose source cannot
    /// be asked is spared, and the first such failure is reported.
    ///
    /// # Errors
    /// When a source cannot be asked at all.
    pub(super) async fn checked(
        &self,
        desired: &Desired,
        allowed: usize,
        contents: &Contents<'_>,
        candidates: Vec<Candidate>,
    ) -> Result<Pruning, Failure> {
        let budget = Budget::default();
        let sources = &self.asked_sources(desired, &budget, &candidates).await?;
        let tags: Vec<_> = candidates.iter().map(|candidate| candidate.tag.clone()).collect();

        // ECR may keep an image for an index. Then another one is removed instead.
        let may_be_kept = |candidate: &Candidate| {
            candidate.kind == ArtifactKind::Image && !candidate.is_index && contents.has_indexes()
        };
        let needs_reserve = candidates.iter().any(may_be_kept);
        let most = if needs_reserve { Pruning::MOST_CHECKS } else { allowed };

        let mut actions: Vec<Action> = Vec::new();
        let mut failed = None;
        let mut checked = 0;
        let checks = stream::iter(candidates.into_iter().take(Pruning::MOST_CHECKS))
            .map(|candidate| async move {
                let result = match sources.get(&candidate.kind) {
                    Some(source) => source.can_be_copied_again(&candidate, contents).await,
                    None => Ok(false),
                };
                (candidate, result)
            })
            .buffered(CONCURRENT_CHECKS.min(most));
        pin_mut!(checks);

        while actions.len() < most
            && let Some((candidate, result)) = checks.next().await
        {
            self.job.progress.advance(1);
            checked += 1;
            match result {
                Ok(true) => {
                    let source = sources.get(&candidate.kind);
                    add(&mut actions, candidate, source);
                }
                Ok(false) => {}
                Err(failure) => {
                    let ends =
                        matches!(failure.class, Class::RateLimited | Class::AuthenticationFailed);
                    failed.get_or_insert(failure);
                    if ends {
                        break;
                    }
                }
            }
        }

        let reserve = actions.split_off(actions.len().min(allowed));
        let blocked = match failed {
            None => None,
            Some(failure) if actions.is_empty() => Some(Pruning::blocked_by(&failure)),
            // Some tags can be removed now, so the others can wait for the next regular check.
            Some(failure) => {
                Some(Failure { retry_after: None, ..Pruning::partly_blocked_by(&failure) })
            }
        };
        let left = unchecked(&tags, checked) + reserve.len();
        Ok(Pruning { actions, reserve, left, blocked, ..Pruning::default() })
    }

    /// Prepares the source of each artifact that has candidates.
    async fn asked_sources<'a>(
        &'a self,
        desired: &'a Desired,
        budget: &'a Budget,
        candidates: &[Candidate],
    ) -> Result<BTreeMap<ArtifactKind, AskedSource<'a>>, Failure> {
        let mut sources = BTreeMap::new();
        for artifact in &desired.artifacts {
            let tags: Vec<_> = candidates
                .iter()
                .take(Pruning::MOST_CHECKS)
                .filter(|candidate| candidate.kind == artifact.kind)
                .map(|candidate| candidate.tag.clone())
                .collect();
            if let Some(source) = self.asked_source(desired, artifact, budget, &tags).await? {
                sources.insert(artifact.kind, source);
            }
        }
        Ok(sources)
    }
}

/// Adds the removal of a tag, unless it was added for the other artifact.
fn add(actions: &mut Vec<Action>, candidate: Candidate, source: Option<&AskedSource<'_>>) {
    let Candidate { kind, tag, digest, is_index } = candidate;
    let is_same =
        |action: &Action| matches!(action, Action::PruneTag { tag: of, .. } if *of == tag);
    if !actions.iter().any(is_same) {
        let source = source.map(|source| source.label(&tag)).unwrap_or_default();
        actions.push(Action::PruneTag { kind, tag, digest, is_index, source });
    }
}

/// Counts the tags that were not checked. Image and chart may both list a tag.
fn unchecked(tags: &[Tag], checked: usize) -> usize {
    let (checked, unchecked) = tags.split_at(checked);
    unchecked.iter().filter(|tag| !checked.contains(tag)).collect::<BTreeSet<_>>().len()
}
