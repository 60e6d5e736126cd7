//! [`Desired`] x [`Observed`] -> [`Plan`]. Pure: no I/O, no clock.

use std::collections::BTreeMap;
use std::fmt;

use super::{Claimant, Desired, Failure, Observed, ObservedRepository, TagState};
use crate::class::Class;
use crate::ecr::policy::{self, Kind, Wanted};
use crate::ecr::{CREATED_TAG, OWNER_TAG};
use crate::registry::{Digest, Tag};

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// Wanted tags that need no action: in sync, or impossible.
    pub settled: BTreeMap<Tag, TagState>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the repository with these resource tags.
    CreateRepository {
        /// Its name.
        name: String,
        /// Resource tags, ours included.
        tags: BTreeMap<String, String>,
    },
    /// Set these resource tags on the repository.
    TagRepository {
        /// Those that are missing or differ.
        tags: BTreeMap<String, String>,
    },
    /// Write a policy.
    PutPolicy {
        /// Which.
        kind: Kind,
        /// The document.
        text: String,
        /// Whether another one is there.
        replaces: bool,
    },
    /// Remove a policy.
    DeletePolicy {
        /// Which.
        kind: Kind,
    },
    /// Copy an image and point a tag to it.
    CopyTag {
        /// The tag in ECR.
        tag: Tag,
        /// Where it comes from, for people: `docker.io/library/nginx:1.27`.
        source: String,
        /// The digest to copy.
        digest: Digest,
        /// What the tag points to now.
        replaces: Option<Digest>,
    },
}

impl Action {
    /// What of the repository it changes, for metrics.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::CreateRepository { .. } => "repository",
            Self::TagRepository { .. } => "resourceTags",
            Self::PutPolicy { kind, .. } | Self::DeletePolicy { kind } => kind.field(),
            Self::CopyTag { .. } => "imageTag",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRepository { name, .. } => write!(f, "create repository {name}"),
            Self::TagRepository { tags } => {
                let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "set resource tags {}", tags.join(", "))
            }
            Self::PutPolicy { kind, replaces: false, .. } => write!(f, "set {}", kind.field()),
            Self::PutPolicy { kind, replaces: true, .. } => write!(f, "replace {}, which differs", kind.field()),
            Self::DeletePolicy { kind } => write!(f, "remove {}", kind.field()),
            Self::CopyTag { tag, source, digest, replaces: None } => {
                write!(f, "copy {source} ({digest}) to tag {tag}")
            }
            Self::CopyTag { tag, source, digest, replaces: Some(old) } => {
                write!(f, "copy {source} ({digest}) to tag {tag}, which points to {old}")
            }
        }
    }
}

/// Compares what is wanted with what is there.
///
/// # Errors
/// When the repository belongs to somebody else: then nothing may be done at all.
pub fn plan(desired: &Desired, observed: &Observed, claimant: &Claimant) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let there = observed.repository.as_ref();
    match there {
        None => plan.actions.push(create(desired, claimant)),
        Some(there) => {
            check_owner(desired, there, claimant)?;
            plan.actions.extend(tag_repository(desired, there, claimant));
        }
    }
    let live = |read: fn(&ObservedRepository) -> Option<&String>| there.and_then(read).map(String::as_str);
    plan.actions.extend(policy_action(Kind::Lifecycle, &desired.lifecycle, live(|r| r.lifecycle.as_ref())));
    plan.actions.extend(policy_action(Kind::Permission, &desired.permission, live(|r| r.permission.as_ref())));
    plan_image(desired, there, &mut plan);
    Ok(plan)
}

fn owner_tag(claimant: &Claimant) -> Option<(String, String)> {
    match claimant {
        Claimant::Resource(owner) => Some((OWNER_TAG.to_owned(), owner.tag_value())),
        Claimant::CommandLine => None,
    }
}

fn create(desired: &Desired, claimant: &Claimant) -> Action {
    let mut tags = desired.resource_tags.clone();
    if let Some((key, value)) = owner_tag(claimant) {
        tags.insert(key, value);
        tags.insert(CREATED_TAG.to_owned(), "true".to_owned());
    }
    Action::CreateRepository { name: desired.repository.clone(), tags }
}

fn check_owner(desired: &Desired, there: &ObservedRepository, claimant: &Claimant) -> Result<(), Failure> {
    let Some(owner) = there.resource_tags.get(OWNER_TAG) else { return Ok(()) };
    let name = &desired.repository;
    match claimant {
        Claimant::Resource(me) if *owner == me.tag_value() || there.owner_is_gone => Ok(()),
        Claimant::Resource(_) => Err(Failure::new(
            Class::RepositoryNotOwned,
            format!(
                "repository {name} belongs to {owner} (its resource tag {OWNER_TAG}): delete that resource, or remove the tag \
                 if its cluster is gone"
            ),
        )),
        Claimant::CommandLine => Err(Failure::new(
            Class::RepositoryNotOwned,
            format!(
                "repository {name} is kept by the operator for {owner} (its resource tag {OWNER_TAG}): change that resource instead"
            ),
        )),
    }
}

fn tag_repository(desired: &Desired, there: &ObservedRepository, claimant: &Claimant) -> Option<Action> {
    let tags: BTreeMap<_, _> = desired
        .resource_tags
        .clone()
        .into_iter()
        .chain(owner_tag(claimant))
        .filter(|(key, value)| there.resource_tags.get(key) != Some(value))
        .collect();
    (!tags.is_empty()).then_some(Action::TagRepository { tags })
}

fn policy_action(kind: Kind, wanted: &Wanted, live: Option<&str>) -> Option<Action> {
    match (wanted, live) {
        (Wanted::Unmanaged, _) | (Wanted::None, None) => None,
        (Wanted::None, Some(_)) => Some(Action::DeletePolicy { kind }),
        (Wanted::Document(document), Some(live)) if policy::means_the_same(kind, document, live) => None,
        (Wanted::Document(document), live) => {
            Some(Action::PutPolicy { kind, text: policy::text(document), replaces: live.is_some() })
        }
    }
}

fn plan_image(desired: &Desired, there: Option<&ObservedRepository>, plan: &mut Plan) {
    let Some(image) = &desired.image else { return };
    for (tag, wanted) in &image.tags {
        let current = there.and_then(|there| there.images.tags.get(tag));
        let mutability = there.map(|there| &there.repository.mutability);
        let state = match (&wanted.source, current) {
            // What is pinned is there: whatever became of it in the source.
            (_, Some(digest)) if wanted.pin.as_ref() == Some(digest) => TagState::Synced(digest.clone()),
            (Err(failure), Some(digest)) => TagState::Unverified { digest: digest.clone(), failure: failure.clone() },
            (Err(failure), None) => TagState::Failed(failure.clone()),
            (Ok(source), Some(digest)) if source.digest == *digest => TagState::Synced(digest.clone()),
            (Ok(source), Some(digest)) if mutability.is_some_and(|m| !m.may_move(tag.as_str())) => {
                TagState::Failed(Failure::new(
                    Class::TagImmutable,
                    format!(
                        "tag {tag} is immutable and points to {digest}, the source has {}: delete the tag in ECR, take it out \
                         of the spec, or exclude it from immutability",
                        source.digest
                    ),
                ))
            }
            (Ok(source), current) => {
                plan.actions.push(Action::CopyTag {
                    tag: tag.clone(),
                    source: format!("{}:{}", image.reference.name(), source.tag),
                    digest: source.digest.clone(),
                    replaces: current.cloned(),
                });
                continue;
            }
        };
        plan.settled.insert(tag.clone(), state);
    }
}

#[cfg(test)]
mod tests;
