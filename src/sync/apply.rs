//! [`Plan`] -> [`Outcomes`]: the only step that writes.

mod copying;

use std::collections::{BTreeMap, BTreeSet};

use self::copying::Copying;
use super::patience::patiently;
use super::{
    Action, ArtifactKind, Derived, Desired, Drift, Engine, Failure, Observed, Plan, Progress,
    ReferrersReport, Source, TagState, prune,
};
use crate::class::Class;
use crate::ecr::policy;
use crate::ecr::{self, Mutability, Repository, Settings};
use crate::registry::{Digest, Tag};

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
    pub(super) tags: BTreeMap<(ArtifactKind, Tag), TagState>,
    /// Tags that were written.
    pub(super) copied: BTreeMap<ArtifactKind, usize>,
    /// What was made of chart archives.
    pub(super) derived: BTreeMap<Tag, Derived>,
    /// Fields that could not be written.
    pub(super) unwritten: BTreeSet<&'static str>,
    /// What was written and is kept by ECR as something else.
    pub(super) rewritten: Vec<Drift>,
    /// The repository's mutability, if it was written.
    pub(super) mutability: Option<Mutability>,
    /// Keys of resource tags that were set.
    pub(super) tagged: BTreeSet<String>,
    /// Keys of resource tags that were removed.
    pub(super) untagged: BTreeSet<String>,
    /// What became of the artifacts that refer to the images, where they are wanted.
    pub(super) referrers: Option<ReferrersReport>,
    /// What a person should know, although nothing is wrong.
    pub(super) warnings: Vec<String>,
    /// Why tags that should go are still there.
    pub(super) pruning_blocked: Option<Failure>,
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
            outcomes.did(action);
            if let Action::CopyTag { kind, tag, .. } | Action::RestoreTag { kind, tag, .. } = action
            {
                outcomes.tags.insert((*kind, tag.clone()), TagState::Planned);
            }
        }
        outcomes
    }

    /// Notes an action that was carried out.
    pub(super) fn done(&mut self, action: &Action, progress: &Progress) {
        self.did(action);
        progress.did(action.field(), action.to_string());
    }

    /// Notes an action that was carried out, or would be.
    fn did(&mut self, action: &Action) {
        self.changes.push(action.to_string());
        self.fields.push(action.field());
        match action {
            Action::CreateRepository { tags, .. } | Action::TagRepository { tags } => {
                self.tagged.extend(tags.keys().cloned());
            }
            Action::SetMutability { wanted, .. } => self.mutability = Some(wanted.clone()),
            Action::UntagRepository { keys } => self.untagged.extend(keys.iter().cloned()),
            _ => {}
        }
    }

    fn copied(&mut self, kind: ArtifactKind, tag: Tag, digest: Digest, progress: &Progress) {
        let change = format!(
            "copied {} {tag} ({digest})",
            if kind == ArtifactKind::Chart { "chart" } else { "tag" }
        );
        progress.did(field_of(kind), change.clone());
        progress.ended_tag();
        self.changes.push(change);
        self.fields.push(field_of(kind));
        *self.copied.entry(kind).or_default() += 1;
        self.tags.insert((kind, tag), TagState::Synced(digest));
    }

    /// Notes how a tag came to stand that was not copied.
    fn settled(&mut self, kind: ArtifactKind, tag: Tag, state: TagState, progress: &Progress) {
        if let TagState::Failed(failure) = &state {
            progress.failed(field_of(kind), failure);
        }
        self.tags.insert((kind, tag), state);
    }
}

/// What of the repository a copy changes, for metrics.
const fn field_of(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Image => "imageTag",
        ArtifactKind::Chart => "chartTag",
    }
}

impl Engine {
    /// Carries the plan out: the repository, then its configuration, then the copies. One failure
    /// leaves the others alone, but without a repository there is nothing else to do.
    pub(super) async fn apply(
        &self,
        registry: &ecr::Registry,
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        progress: &Progress,
    ) -> Outcomes {
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
                        registry,
                        target: &target,
                        repository: &repository,
                        known,
                        is_empty,
                        moving: &self.blobs,
                        progress,
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
        let seen = (desired, observed, plan);
        Box::pin(self.copy_referrers(registry, seen, &repository, &mut outcomes, progress)).await;
        let seen = (observed, plan);
        Box::pin(prune::remove(registry, &repository, seen, &self.prune, &mut outcomes, progress))
            .await;
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
        match patiently(|| async { Ok(configure(registry, repository, action).await?) }).await {
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
    match patiently(|| async { Ok(registry.create_repository(name, tags, settings).await?) })
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
        field: kind.field(),
        message: format!(
            "{}: ECR made that of it when it was written",
            policy::difference(*kind, document, kept)
        ),
    })
}
