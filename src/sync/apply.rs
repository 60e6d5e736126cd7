//! [`Plan`] -> [`Outcomes`]: the only step that writes.

use std::collections::BTreeMap;

use super::copy::{self, Order};
use super::{Action, Desired, Engine, Failure, Observed, Plan, Progress, TagState};
use crate::ecr::policy::Kind;
use crate::ecr::{self, Repository};
use crate::registry::Tag;

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// The repository, if this pass created it.
    pub(super) created: Option<Repository>,
    /// Why nothing more could be done: no repository.
    pub(super) failure: Option<Failure>,
    /// Policies and resource tags that could not be set.
    pub(super) configuration: Vec<Failure>,
    /// Tags that an action was for.
    pub(super) tags: BTreeMap<Tag, TagState>,
    /// What was done, in words.
    pub(super) changes: Vec<String>,
    /// What was changed: [`Action::field`] of each action that was carried out.
    pub(super) fields: Vec<&'static str>,
}

impl Outcomes {
    /// What would come of `plan`.
    pub(super) fn planned(plan: &Plan) -> Self {
        let mut outcomes = Self::default();
        for action in &plan.actions {
            outcomes.changes.push(action.to_string());
            if let Action::CopyTag { tag, digest, .. } = action {
                outcomes.tags.insert(tag.clone(), TagState::Planned(digest.clone()));
            }
        }
        outcomes
    }
}

impl Engine {
    /// Carries the plan out: the repository, then its configuration, then the copies. One failure leaves the others
    /// alone, but without a repository there is nothing else to do.
    pub(super) async fn apply(
        &self,
        registry: &ecr::Registry,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        progress: &Progress,
    ) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let mut repository = observed.repository.as_ref().map(|there| there.repository.clone());
        let mut orders = Vec::new();
        for action in &plan.actions {
            if let Action::CreateRepository { name, tags } = action {
                match create(registry, name, tags).await {
                    Ok(created) => {
                        outcomes.changes.push(action.to_string());
                        outcomes.fields.push(action.field());
                        outcomes.created = Some(created.clone());
                        repository = Some(created);
                        continue;
                    }
                    Err(failure) => {
                        outcomes.failure = Some(failure.clone());
                        outcomes.tags.extend(not_copied(plan, &failure));
                        return outcomes;
                    }
                }
            }
            let Some(repository) = &repository else { continue };
            if let Action::CopyTag { tag, digest, .. } = action {
                orders.push(Order { tag: tag.clone(), digest: digest.clone() });
                continue;
            }
            match configure(registry, repository, action).await {
                Ok(()) => {
                    outcomes.changes.push(action.to_string());
                    outcomes.fields.push(action.field());
                }
                Err(error) => outcomes.configuration.push(error.into()),
            }
            progress.advance(1);
        }
        if let (Some(repository), Some(image)) = (&repository, &desired.image)
            && !orders.is_empty()
        {
            let known = observed.repository.as_ref().map(|there| there.images.manifests.clone()).unwrap_or_default();
            match copy::Copy::new(registry, repository, image, known, progress.clone()).await {
                Ok(copy) => {
                    for (order, result) in copy.run(orders).await {
                        let state = match result {
                            Ok(()) => {
                                outcomes.changes.push(format!("copied tag {} ({})", order.tag, order.digest));
                                outcomes.fields.push("imageTag");
                                TagState::Synced(order.digest)
                            }
                            Err(failure) => TagState::Failed(failure),
                        };
                        outcomes.tags.insert(order.tag, state);
                    }
                }
                Err(failure) => outcomes.tags.extend(not_copied(plan, &failure)),
            }
        }
        outcomes
    }
}

fn not_copied<'a>(plan: &'a Plan, failure: &'a Failure) -> impl Iterator<Item = (Tag, TagState)> + 'a {
    plan.actions.iter().filter_map(move |action| match action {
        Action::CopyTag { tag, .. } => Some((tag.clone(), TagState::Failed(failure.clone()))),
        _ => None,
    })
}

async fn create(registry: &ecr::Registry, name: &str, tags: &BTreeMap<String, String>) -> Result<Repository, Failure> {
    match registry.create_repository(name, tags).await? {
        Some(created) => Ok(created),
        // Somebody was quicker. Whose it is, the next run will see.
        None => Err(Failure::new(
            crate::class::Class::RegistryUnavailable,
            format!("repository {name} was created by somebody else just now"),
        )),
    }
}

async fn configure(registry: &ecr::Registry, repository: &Repository, action: &Action) -> Result<(), ecr::Error> {
    let name = &repository.name;
    match action {
        Action::TagRepository { tags } => registry.tag_resource(repository, tags).await,
        Action::PutPolicy { kind: Kind::Lifecycle, text, .. } => registry.put_lifecycle_policy(name, text).await,
        Action::PutPolicy { kind: Kind::Permission, text, .. } => registry.set_permission_policy(name, text).await,
        Action::DeletePolicy { kind: Kind::Lifecycle } => registry.delete_lifecycle_policy(name).await,
        Action::DeletePolicy { kind: Kind::Permission } => registry.delete_permission_policy(name).await,
        Action::CreateRepository { .. } | Action::CopyTag { .. } => Ok(()),
    }
}
