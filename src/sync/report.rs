//! [`super::apply`]'s outcomes -> what status, events, metrics and the terminal show. Writes nothing.

use std::collections::BTreeMap;

use super::apply::Outcomes;
use super::{Desired, Failure, Observed, Plan};
use crate::api::v1alpha1::Ownership;
use crate::ecr::{CREATED_TAG, Repository};
use crate::registry::{Digest, Tag};

/// How one wanted tag stands at the end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagState {
    /// In ECR, with the source's digest.
    Synced(Digest),
    /// In ECR, but the source could not be asked whether it is still the same.
    Unverified {
        /// What ECR has.
        digest: Digest,
        /// Why the source could not be asked.
        failure: Failure,
    },
    /// Not in ECR, or with another digest than the source's.
    Failed(Failure),
    /// A dry run would copy it.
    Planned(Digest),
}

/// The result of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the pass ended early, before or at the repository.
    pub failure: Option<Failure>,
    /// The repository, where it exists, and whether it is of our making.
    pub repository: Option<(Repository, Ownership)>,
    /// Policies and resource tags that could not be set.
    pub configuration: Vec<Failure>,
    /// The image, if one is wanted.
    pub image: Option<ImageReport>,
    /// What was done (or, in a dry run, would be done), in words.
    pub changes: Vec<String>,
    /// What was changed, by field, once per change.
    pub fields: Vec<&'static str>,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// The tags of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReport {
    /// Where it is read from: `docker.io/library/nginx`.
    pub source: String,
    /// Every wanted tag.
    pub tags: BTreeMap<Tag, TagState>,
    /// Why the source's tags could not be listed; the selected ones are then missing from `tags`.
    pub listing: Option<Failure>,
    /// Tags that this pass copied.
    pub copied: usize,
}

impl ImageReport {
    /// Tags that are in ECR with the source's digest.
    pub fn synced(&self) -> impl Iterator<Item = (&Tag, &Digest)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Synced(digest) => Some((tag, digest)),
            _ => None,
        })
    }

    /// Tags that are not, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&Tag, &Failure)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Failed(failure) | TagState::Unverified { failure, .. } => Some((tag, failure)),
            TagState::Synced(_) | TagState::Planned(_) => None,
        })
    }

    /// Whether every wanted tag is at least in ECR.
    #[must_use]
    pub fn is_all_there(&self) -> bool {
        self.tags.values().all(|state| matches!(state, TagState::Synced(_) | TagState::Unverified { .. }))
    }
}

impl Report {
    /// A pass that came to nothing.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    pub(super) fn new(desired: &Desired, observed: &Observed, plan: Plan, outcomes: Option<Outcomes>) -> Self {
        let there = observed.repository.as_ref();
        let adopted = there.is_some_and(|there| !there.resource_tags.contains_key(CREATED_TAG));
        let ownership = if adopted { Ownership::Adopted } else { Ownership::Created };
        let dry_run = outcomes.is_none();
        let outcomes = outcomes.unwrap_or_else(|| Outcomes::planned(&plan));
        let repository =
            outcomes.created.or_else(|| there.map(|there| there.repository.clone())).map(|r| (r, ownership));
        let image = desired.image.as_ref().map(|image| {
            let copied = outcomes.tags.values().filter(|state| matches!(state, TagState::Synced(_))).count();
            let mut tags = plan.settled;
            tags.extend(outcomes.tags);
            ImageReport { source: image.reference.name(), tags, listing: image.listing.clone(), copied }
        });
        Self {
            failure: outcomes.failure,
            repository,
            configuration: outcomes.configuration,
            image,
            changes: outcomes.changes,
            fields: outcomes.fields,
            dry_run,
        }
    }

    /// The changes in one line, however many they are; empty without any.
    #[must_use]
    pub fn summary(&self) -> String {
        /// Changes that are named one by one.
        const NAMED: usize = 5;
        let mut text = self.changes.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        if self.changes.len() > NAMED {
            text.push_str(&format!("; and {} more", self.changes.len() - NAMED));
        }
        text
    }

    /// Everything that went wrong.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        let of_tags = self.image.iter().flat_map(|image| image.failures().map(|(_, failure)| failure));
        let of_listing = self.image.iter().filter_map(|image| image.listing.as_ref());
        self.failure.iter().chain(&self.configuration).chain(of_listing).chain(of_tags)
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }
}
