//! The copies of a plan: images blob by blob, charts from their archives.

use std::collections::{BTreeMap, HashSet};

use crate::class::Class;
use crate::ecr::Repository;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{Client, Digest, Tag};
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
            Source::Registry(origin) => {
                self.copy_images(artifact, origin, plan, outcomes).await;
            }
            Source::Charts { repository, entries, provenance } => {
                let archives = charts::Archives {
                    source: repository,
                    provenance: *provenance,
                    progress: &self.pass.job.progress,
                };
                self.push_charts(artifact, archives, entries, plan, outcomes).await;
            }
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
        let orders = plan.actions.iter().filter_map(|action| match action {
            Action::CopyTag { kind: of, tag, digest: Some(digest), .. } if *of == kind => {
                Some(copy::Order { tag: Some(tag.clone()), digest: digest.clone() })
            }
            _ => None,
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
        artifact: &DesiredArtifact,
        archives: charts::Archives<'a>,
        entries: &BTreeMap<Tag, helm::Entry>,
        plan: &Plan,
        outcomes: &mut Outcomes,
    ) {
        let orders = plan.actions.iter().filter_map(|action| match action {
            Action::CopyTag { kind, tag, replaces, .. } if *kind == artifact.kind => {
                Some(charts::Order {
                    tag: tag.clone(),
                    entry: entries.get(tag)?.clone(),
                    current: replaces.clone(),
                    derived: artifact.derived(tag),
                })
            }
            _ => None,
        });
        let push = charts::Push {
            registry: &self.pass.target.registry,
            target: self.target,
            repository: self.repository,
            archives,
            rules: charts::Rules { keep: artifact.keep, mutability: &self.repository.mutability },
            progress: &self.pass.job.progress,
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
