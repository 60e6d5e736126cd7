//! [`Plan`] -> [`Outcomes`]: the only step that writes.

mod copying;

use std::collections::BTreeMap;

use self::copying::Copying;
use super::action::{Action, Drift, Plan};
use super::artifact::{ArtifactKind, Source, TagState};
use super::change;
use super::desired::Desired;
use super::observed::Observed;
use super::outcomes::Outcomes;
use super::pass::Pass;
use super::throttle::retry_throttled;
use crate::class::Class;
use crate::ecr::policy;
use crate::ecr::{self, Repository, Settings};
use crate::failure::Failure;
use crate::place;
use crate::registry::Tag;
use crate::writes;

impl Pass<'_> {
    /// Carries the plan out: the repository, then its configuration, then the copies. A failure
    /// does not stop the other actions, but without a repository nothing else can be done.
    pub(super) async fn apply(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
    ) -> Outcomes {
        let is_copy = |action: &&Action| matches!(action, Action::CopyTag { .. });
        let copies = plan.actions.iter().filter(is_copy).count();
        self.job.progress.expects_tags(copies);

        // The login and the children of indexes are fetched while the repository is created and
        // configured.
        let log_in = async {
            if copies == 0 {
                return Ok(());
            }
            tokio::join!(self.target.registry.log_in(), read_ahead(desired, plan)).0
        };
        let (configured, login) =
            tokio::join!(Box::pin(self.configure_all(observed, plan)), Box::pin(log_in));
        let (repository, mut outcomes) = configured;
        let Some(repository) = repository else { return outcomes };

        if copies > 0 {
            match login {
                Ok(()) => {
                    self.copy_all(desired, observed, plan, &repository, &mut outcomes).await;
                }
                Err(error) => copy_nothing(plan, &error.into(), &mut outcomes),
            }
        }
        let referrers = self.copy_referrers(desired, observed, plan, &repository, &mut outcomes);
        Box::pin(referrers).await;
        Box::pin(self.remove(&repository, observed, plan, &mut outcomes)).await;
        outcomes
    }

    /// Creates the repository and writes its configuration. The repository is `None` if it could
    /// not be created.
    async fn configure_all(
        &self,
        observed: &Observed,
        plan: &Plan,
    ) -> (Option<Repository>, Outcomes) {
        let registry = &self.target.registry;
        let mut outcomes = Outcomes::new(&self.job.progress);
        let mut repository =
            observed.repository.as_ref().map(|observed| observed.repository.clone());

        for action in &plan.actions {
            match (action, &repository) {
                (Action::CreateRepository { name, tags, settings }, _) => {
                    let create = create(registry, name, tags, settings);
                    match writes::write(change::of(action, None), create).await {
                        Ok(created) => {
                            outcomes.done(action);
                            outcomes.created = Some(created.clone());
                            repository = Some(created);
                        }
                        Err(failure) => {
                            outcomes.failed(action.field(), &failure);
                            outcomes.tags.extend(not_copied(plan, &failure));
                            outcomes.failure = Some(failure);
                            return (None, outcomes);
                        }
                    }
                }
                (Action::CopyTag { .. } | Action::PruneTag { .. }, _) | (_, None) => {}
                (Action::RestoreTag { kind, tag, digest }, Some(repository)) => {
                    let restore = registry.restore_image(&repository.name, digest);
                    let change = change::of(action, observed.repository.as_ref());
                    let state = match writes::write(change, restore).await {
                        Ok(()) => {
                            outcomes.done(action);
                            TagState::Synced(digest.clone())
                        }
                        Err(error) => TagState::Failed(error.into()),
                    };
                    outcomes.settled(*kind, tag.clone(), state);
                    self.job.progress.advance(1);
                }
                (_, Some(repository)) => {
                    let configure = self.configure(repository, action, &mut outcomes);
                    let change = change::of(action, observed.repository.as_ref());
                    writes::write(change, configure).await;
                }
            }
        }
        (repository, outcomes)
    }

    async fn configure(&self, repository: &Repository, action: &Action, outcomes: &mut Outcomes) {
        match retry_throttled(|| write(&self.target.registry, repository, action)).await {
            Ok(stored) => {
                outcomes.done(action);
                outcomes.rewritten.extend(rewritten(action, stored.as_deref()));
            }
            Err(failure) => {
                outcomes.failed(action.field(), &failure);
                outcomes.unwritten.insert(action.field());
                outcomes.configuration.push(failure);
            }
        }
        self.job.progress.advance(1);
    }

    /// Copies the tags of all artifacts.
    async fn copy_all(
        &self,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        repository: &Repository,
        outcomes: &mut Outcomes,
    ) {
        place::copying().await;
        let target = match self.target.registry.data_plane(repository).await {
            Ok(target) => target,
            Err(error) => return copy_nothing(plan, &error.into(), outcomes),
        };
        self.job.progress.uses(&target);

        let mut copying = Copying {
            pass: self,
            target: &target,
            repository,
            known: observed.known_manifests(),
            is_empty: outcomes.created.is_some(),
        };
        for artifact in &desired.artifacts {
            Box::pin(copying.run(artifact, plan, outcomes)).await;
            copying.is_empty = false;
        }
    }
}

/// Reads the children of the indexes that will be copied.
async fn read_ahead(desired: &Desired, plan: &Plan) {
    for artifact in &desired.artifacts {
        if let Source::Registry(origin) = &artifact.source {
            let digests = plan.copies(artifact.kind).filter_map(|(_, digest, _)| digest);
            origin.read_ahead(digests).await;
        }
    }
}

/// Records the same failure for all copies.
fn copy_nothing(plan: &Plan, failure: &Failure, outcomes: &mut Outcomes) {
    for ((kind, tag), state) in not_copied(plan, failure) {
        outcomes.not_copied(kind, tag, state);
    }
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
    let created = retry_throttled(|| registry.create_repository(name, tags, settings)).await?;
    // The next pass finds out to whom it belongs.
    created.ok_or_else(|| {
        let message = format!("somebody else created repository {name} just now");
        Failure::new(Class::RegistryUnavailable, message)
    })
}

/// Writes a setting, a policy or resource tags. Returns a policy as ECR stored it.
async fn write(
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
        _ => {}
    }
    Ok(None)
}

/// Compares a policy with the form in which ECR stored it.
fn rewritten(action: &Action, stored: Option<&str>) -> Option<Drift> {
    let (Action::PutPolicy { kind, document, .. }, Some(stored)) = (action, stored) else {
        return None;
    };
    (!policy::means_the_same(*kind, document, stored)).then(|| Drift {
        field: (*kind).into(),
        message: format!(
            "{}: ECR stored the policy in this form instead",
            policy::difference(*kind, document, stored)
        ),
    })
}
