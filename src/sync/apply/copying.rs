//! The copies of a plan: images blob by blob, charts from their archives.

use std::collections::HashSet;

use crate::class::Class;
use crate::ecr::Repository;
use crate::failure::Failure;
use crate::registry::{Client, Digest};
use crate::sync::action::{Action, Plan};
use crate::sync::artifact::{DesiredArtifact, Source, TagState};
use crate::sync::origin::Origin;
use crate::sync::outcomes::Outcomes;
use crate::sync::pass::Pass;
use crate::sync::{charts, copy};

/// The copies of one pass.
pub(super) struct Copying<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) target: &'a Client,
    pub(super) repository: &'a Repository,
    pub(super) known: HashSet<Digest>,
    /// Nothing was sent to the repository yet.
    pub(super) is_empty: bool,
}

impl<'a> Copying<'a> {
    /// Copies what the plan says of an artifact.
    pub(super) async fn run(
        &self,
        artifact: &'a DesiredArtifact,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let kind = artifact.kind;
        let progress = &self.pass.job.progress;
        let actions = plan.actions.iter().filter_map(|action| match action {
            Action::CopyTag { kind: of, tag, digest, replaces, .. } if *of == kind => {
                Some((tag, digest, replaces))
            }
            _ => None,
        });
        match &artifact.source {
            Source::Registry(origin) => {
                let orders = actions.filter_map(|(tag, digest, _)| {
                    Some(copy::Order { tag: Some(tag.clone()), digest: digest.clone()? })
                });
                let copy = self.copy_from(origin);
                let copy = if self.is_empty { copy.into_empty() } else { copy };
                let results = copy.run(orders.collect()).await;
                let results = match artifact.elsewhere() {
                    Some(own) => self.again(artifact, own, results, outcomes).await,
                    None => results,
                };
                for (order, result) in results {
                    let Some(tag) = order.tag else { continue };
                    match result {
                        Ok(()) => outcomes.copied(kind, tag, order.digest, progress),
                        Err(failure) => {
                            outcomes.settled(kind, tag, TagState::Failed(failure), progress);
                            progress.ended_tag();
                        }
                    }
                }
            }
            Source::Charts { repository, entries, provenance } => {
                let orders = actions.filter_map(|(tag, _, current)| {
                    let entry = entries.get(tag)?.clone();
                    Some(charts::Order {
                        tag: tag.clone(),
                        entry,
                        current: current.clone(),
                        derived: artifact.derived(tag),
                    })
                });
                let archives =
                    charts::Archives { source: repository, provenance: *provenance, progress };
                let rules =
                    charts::Rules { keep: artifact.keep, mutability: &self.repository.mutability };
                let push = charts::Push {
                    registry: &self.pass.target.registry,
                    target: self.target,
                    repository: self.repository,
                    archives,
                    rules,
                    progress,
                };
                for outcome in push.run(orders.collect()).await {
                    if let Some(derived) = outcome.derived {
                        outcomes.derived.insert(outcome.tag.clone(), derived);
                    }
                    match outcome.state {
                        TagState::Synced(digest) if outcome.wrote => {
                            outcomes.copied(kind, outcome.tag, digest, progress);
                        }
                        state => {
                            outcomes.settled(kind, outcome.tag, state, progress);
                            progress.ended_tag();
                        }
                    }
                }
            }
            Source::Unknown => {}
        }
    }
}

/// Orders, and what came of them.
type Copied = Vec<(copy::Order, Result<(), Failure>)>;

impl<'a> Copying<'a> {
    fn copy_from(&self, origin: &'a Origin) -> copy::Copier<'a> {
        let Pass { engine, job, target, .. } = self.pass;
        copy::Copier::new(
            &target.registry,
            self.target,
            self.repository,
            origin,
            self.known.clone(),
            &engine.blobs,
            job.progress.clone(),
        )
    }

    /// Copies from the image's own place what its mirror did not give.
    async fn again(
        &self,
        artifact: &DesiredArtifact,
        own: &'a Origin,
        results: Copied,
        outcomes: &mut Outcomes,
    ) -> Copied {
        let is_mirrors =
            |result: &Result<(), Failure>| result.as_ref().err().is_some_and(is_of_source);
        let (failed, mut results): (Copied, Copied) =
            results.into_iter().partition(|(_, result)| is_mirrors(result));
        let Some((_, Err(failure))) = failed.first() else { return results };
        let name = artifact.original.as_deref().unwrap_or_default();
        let told = format!(
            "some of {name} is read from its own place, since its mirror {} failed: {failure}",
            artifact.name
        );
        outcomes.warnings.push(told);
        let orders = failed.into_iter().map(|(order, _)| order).collect();
        results.extend(Box::pin(self.copy_from(own).run(orders)).await);
        results
    }
}

/// Whether a copy may have failed by its source.
const fn is_of_source(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::SourceNotFound
            | Class::SourceInvalid
            | Class::SourceChanged
            | Class::AuthenticationFailed
            | Class::AccessDenied
            | Class::RateLimited
            | Class::RegistryUnavailable
            | Class::Timeout
    )
}
