//! The copies of a plan: images blob by blob, charts from their archives.

use std::collections::HashSet;

use crate::class::Class;
use crate::ecr::Repository;
use crate::failure::Failure;
use crate::registry::{Client, Digest};
use crate::sync::action::Plan;
use crate::sync::artifact::{DesiredArtifact, Source, TagState};
use crate::sync::change;
use crate::sync::charts::{self, Archives};
use crate::sync::copy;
use crate::sync::origin::Origin;
use crate::sync::outcomes::Outcomes;
use crate::sync::pass::Pass;

/// The copies of one pass.
pub(super) struct Copying<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) target: &'a Client,
    pub(super) repository: &'a Repository,
    /// Manifests that the target has.
    pub(super) known: HashSet<Digest>,
    /// Whether nothing was sent to the repository yet.
    pub(super) is_empty: bool,
}

/// Orders with their results.
type Copied = Vec<(copy::Order, Result<(), Failure>)>;

impl<'a> Copying<'a> {
    /// Copies the tags of one artifact.
    pub(super) async fn run(
        &self,
        artifact: &'a DesiredArtifact,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        match &artifact.source {
            Source::Registry(origin) => self.copy_images(artifact, origin, plan, outcomes).await,
            Source::Charts { .. } => self.push_charts(artifact, plan, outcomes).await,
            Source::Unknown => {}
        }
    }

    async fn copy_images(
        &self,
        artifact: &'a DesiredArtifact,
        origin: &'a Origin,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let kind = artifact.kind;
        let orders = plan.copies(kind).filter_map(|(tag, digest, current)| {
            let change = change::of_tag(kind.into(), tag, current, digest?);
            Some(copy::Order { tag: Some(tag.clone()), digest: digest?.clone(), change })
        });

        let copier = self.copier(origin);
        let copier = if self.is_empty { copier.into_empty() } else { copier };
        let results = copier.run(orders.collect()).await;
        let results = match artifact.fallback() {
            Some(original) => self.retry_at(artifact, original, results, outcomes).await,
            None => results,
        };

        for (order, result) in results {
            let Some(tag) = order.tag else { continue };
            match result {
                Ok(()) => outcomes.copied(kind, tag, order.digest),
                Err(failure) => outcomes.not_copied(kind, tag, TagState::Failed(failure)),
            }
        }
    }

    async fn push_charts(
        &self,
        artifact: &'a DesiredArtifact,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let Some(archives) = Archives::new(artifact, &self.pass.job.progress) else { return };
        let copies = plan.copies(artifact.kind);
        let orders =
            copies.filter_map(|(tag, _, current)| charts::Order::new(artifact, tag, current));
        let push = charts::Push {
            registry: &self.pass.target.registry,
            target: self.target,
            repository: self.repository,
            archives,
        };

        for outcome in push.run(orders.collect()).await {
            if let Some(derived) = outcome.derived {
                outcomes.derived.insert(outcome.tag.clone(), derived);
            }
            match outcome.state {
                TagState::Synced(digest) if outcome.was_pushed => {
                    outcomes.copied(artifact.kind, outcome.tag, digest);
                }
                state => outcomes.not_copied(artifact.kind, outcome.tag, state),
            }
        }
    }

    fn copier(&self, origin: &'a Origin) -> copy::Copier<'a> {
        self.pass.copier(origin, self.target, self.repository, self.known.clone())
    }

    /// Copies from the original registry the images that could not be read from the mirror.
    async fn retry_at(
        &self,
        artifact: &DesiredArtifact,
        original: &'a Origin,
        results: Copied,
        outcomes: &mut Outcomes,
    ) -> Copied {
        let is_mirrors_failure =
            |result: &Result<(), Failure>| result.as_ref().err().is_some_and(is_of_source);
        let (failed, mut results): (Copied, Copied) =
            results.into_iter().partition(|(_, result)| is_mirrors_failure(result));
        let Some((_, Err(failure))) = failed.first() else { return results };

        let name = artifact.original.as_deref().unwrap_or_default();
        outcomes.warnings.push(format!(
            "part of {name} was read from its original registry, since its mirror {} failed: \
             {failure}",
            artifact.name
        ));
        let orders = failed.into_iter().map(|(order, _)| order).collect();
        results.extend(Box::pin(self.copier(original).run(orders)).await);
        results
    }
}

/// Whether the source may be the cause of a failed copy.
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
