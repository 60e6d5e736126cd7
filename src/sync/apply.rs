//! [`Plan`] -> [`Outcomes`]: the only step that writes.

mod copying;

use std::collections::BTreeMap;

use self::copying::Copying;
use super::action::{Action, Drift, Plan};
use super::artifact::{ArtifactKind, Source, TagState};
use super::desired::Desired;
use super::observed::Observed;
use super::outcomes::Outcomes;
use super::pass::Pass;
use super::progress::Progress;
use super::throttle::retry_throttled;
use crate::class::Class;
use crate::ecr::policy;
use crate::ecr::{self, Repository, Settings};
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

impl Pass<'_> {
    /// Carries the plan out: the repository, then its configuration, then the copies. One failure
    /// leaves the others alone, but without a repository there is nothing else to do.
    pub(super) async fn apply(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
    ) -> Outcomes {
        let registry = &*self.target.registry;
        let progress = &self.job.progress;
        let count =
            plan.actions.iter().filter(|action| matches!(action, Action::CopyTag { .. })).count();
        progress.expects_tags(count);
        let copies = count > 0;
        // The login and what lies under indexes are fetched while the repository is created and
        // configured.
        let login = async {
            if !copies {
                return Ok(());
            }
            let children = async {
                for artifact in &desired.artifacts {
                    if let Source::Registry(origin) = &artifact.source {
                        origin.read_ahead(digests_to_copy(plan, artifact.kind)).await;
                    }
                }
            };
            tokio::join!(registry.log_in(), children).0
        };
        let (configured, login) = tokio::join!(
            Box::pin(configure_all(registry, observed, plan, progress)),
            Box::pin(login)
        );
        let (repository, mut outcomes) = configured;
        let Some(repository) = repository else { return outcomes };
        if copies {
            let target = match login {
                Ok(()) => registry.data_plane(&repository).await,
                Err(error) => Err(error),
            };
            match target {
                Ok(target) => {
                    progress.uses(&target);
                    let known = observed
                        .repository
                        .as_ref()
                        .map(|there| there.images.manifests.clone())
                        .unwrap_or_default();
                    let is_empty = outcomes.created.is_some();
                    let mut copying = Copying {
                        pass: self,
                        target: &target,
                        repository: &repository,
                        known,
                        is_empty,
                    };
                    for artifact in &desired.artifacts {
                        Box::pin(copying.run(artifact, plan, &mut outcomes)).await;
                        copying.is_empty = false;
                    }
                }
                Err(error) => {
                    for ((kind, tag), state) in not_copied(plan, &error.into()) {
                        outcomes.settled(kind, tag, state, progress);
                        progress.ended_tag();
                    }
                }
            }
        }
        let copied = self.copy_referrers(desired, observed, plan, &repository, &mut outcomes);
        Box::pin(copied).await;
        Box::pin(self.remove(&repository, observed, plan, &mut outcomes)).await;
        outcomes
    }
}

/// Creates the repository and writes its configuration. The repository is `None` where there is
/// none.
async fn configure_all(
    registry: &ecr::Registry,
    observed: &Observed,
    plan: &Plan,
    progress: &Progress,
) -> (Option<Repository>, Outcomes) {
    let mut outcomes = Outcomes::default();
    let mut repository = observed.repository.as_ref().map(|there| there.repository.clone());
    for action in &plan.actions {
        if let Action::CreateRepository { name, tags, settings } = action {
            match create(registry, name, tags, settings).await {
                Ok(created) => {
                    outcomes.done(action, progress);
                    outcomes.created = Some(created.clone());
                    repository = Some(created);
                    continue;
                }
                Err(failure) => {
                    progress.failed(action.field(), &failure);
                    outcomes.failure = Some(failure.clone());
                    outcomes.tags.extend(not_copied(plan, &failure));
                    return (None, outcomes);
                }
            }
        }
        let Some(repository) = &repository else { continue };
        if matches!(action, Action::CopyTag { .. } | Action::PruneTag { .. }) {
            continue;
        }
        if let Action::RestoreTag { kind, tag, digest } = action {
            let state = match registry.restore_image(&repository.name, digest).await {
                Ok(()) => {
                    outcomes.done(action, progress);
                    TagState::Synced(digest.clone())
                }
                Err(error) => TagState::Failed(error.into()),
            };
            outcomes.settled(*kind, tag.clone(), state, progress);
            progress.advance(1);
            continue;
        }
        match retry_throttled(|| async { Ok(configure(registry, repository, action).await?) }).await
        {
            Ok(kept) => {
                outcomes.done(action, progress);
                outcomes.rewritten.extend(rewritten(action, kept.as_deref()));
            }
            Err(failure) => {
                progress.failed(action.field(), &failure);
                outcomes.unwritten.insert(action.field());
                outcomes.configuration.push(failure);
            }
        }
        progress.advance(1);
    }
    (repository, outcomes)
}

fn digests_to_copy(plan: &Plan, artifact: ArtifactKind) -> impl Iterator<Item = &Digest> {
    plan.actions.iter().filter_map(move |action| match action {
        Action::CopyTag { kind, digest: Some(digest), .. } if *kind == artifact => Some(digest),
        _ => None,
    })
}

fn not_copied<'a>(
    plan: &'a Plan,
    failure: &'a Failure,
) -> impl Iterator<Item = ((ArtifactKind, Tag), TagState)> + 'a {
    plan.actions.iter().filter_map(move |action| match action {
        Action::CopyTag { kind, tag, .. } => {
            Some(((*kind, tag.clone()), TagState::Failed(failure.clone())))
        }
        _ => None,
    })
}

async fn create(
    registry: &ecr::Registry,
    name: &str,
    tags: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Repository, Failure> {
    match retry_throttled(|| async { Ok(registry.create_repository(name, tags, settings).await?) })
        .await?
    {
        Some(created) => Ok(created),
        // Somebody was quicker. Whose it is, the next run will see.
        None => Err(Failure::new(
            Class::RegistryUnavailable,
            format!("repository {name} was created by somebody else just now"),
        )),
    }
}

/// Writes a setting, a policy or resource tags; returns a policy as ECR says that it keeps it.
async fn configure(
    registry: &ecr::Registry,
    repository: &Repository,
    action: &Action,
) -> Result<Option<String>, ecr::Error> {
    let name = &repository.name;
    match action {
        Action::PutPolicy { kind, document, .. } => {
            return registry.put_policy(*kind, name, &policy::text(document)).await;
        }
        Action::TagRepository { tags } => registry.tag_resource(repository, tags).await?,
        Action::UntagRepository { keys } => registry.untag_resource(repository, keys).await?,
        Action::SetMutability { wanted, .. } => registry.put_mutability(name, wanted).await?,
        Action::SetScanOnPush { wanted } => registry.put_scan_on_push(name, *wanted).await?,
        Action::DeletePolicy { kind } => registry.delete_policy(*kind, name).await?,
        Action::CreateRepository { .. }
        | Action::CopyTag { .. }
        | Action::RestoreTag { .. }
        | Action::PruneTag { .. } => {}
    }
    Ok(None)
}

/// A policy that ECR answers to keep otherwise than it was written.
fn rewritten(action: &Action, kept: Option<&str>) -> Option<Drift> {
    let (Action::PutPolicy { kind, document, .. }, Some(kept)) = (action, kept) else {
        return None;
    };
    (!policy::means_the_same(*kind, document, kept)).then(|| Drift {
        field: (*kind).into(),
        message: format!(
            "{}: ECR made that of it when it was written",
            policy::difference(*kind, document, kept)
        ),
    })
}
