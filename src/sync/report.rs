//! [`Outcomes`] -> [`Report`]: for status, events, metrics and the terminal. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Attempts, Drift, Plan, Pruning};
use super::artifact::{ArtifactKind, Derived, DesiredArtifact, Source, TagState, WantedTag};
use super::delete::Deletion;
use super::desired::Desired;
use super::earlier::{Earlier, Look};
use super::expired::{Expired, Held};
use super::field::Field;
use super::observed::Observed;
use super::origin::Rebuilt;
use super::outcomes::{Outcomes, ReferrersReport};
use crate::api::v1alpha1::Ownership;
use crate::ecr::Repository;
use crate::ecr::policy::{Forecast, Wanted, forecast};
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::registry::{Digest, Tag};

/// The result of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The failure that ended the pass early, before or at the repository.
    pub failure: Option<Failure>,
    /// The repository, if it exists, and whether we created it.
    pub repository: Option<(Repository, Ownership)>,
    /// Policies and resource tags that could not be set.
    pub configuration: Vec<Failure>,
    /// Differences from the spec that are left alone.
    pub drift: Vec<Drift>,
    /// Changes by others that were corrected.
    pub corrected: Vec<Drift>,
    /// Whether settings, policies and resource tags were read.
    pub configuration_read: bool,
    /// Revision of the configuration, if all of it is in place, or differs only by drift that is
    /// left alone.
    pub configuration_revision: Option<String>,
    /// The basis of the next pass; `None` if that must read everything.
    pub look: Option<Look>,
    /// Writes after which ECR may return another value.
    pub attempts: Attempts,
    /// Keys of resource tags that we may remove; `None` if the pass did not get that far.
    pub managed_tag_keys: Option<BTreeSet<String>>,
    /// The image and the chart, if they are wanted.
    pub artifacts: Vec<ArtifactReport>,
    /// Advice for a person: nothing is wrong.
    pub warnings: Vec<String>,
    /// The changes (in a dry run: the planned changes), in words.
    pub changes: Vec<String>,
    /// The field of each change.
    pub fields: Vec<Field>,
    /// Whether tags that are no longer wanted should be removed.
    pub prunes: bool,
    /// The tags to remove; `None` if this pass did not look for them.
    pub pruning: Option<Pruning>,
    /// Effects of the lifecycle policy on wanted tags.
    pub forecasts: Vec<Forecast>,
    /// Wanted tags that were in ECR and expired.
    pub expired: BTreeMap<Tag, Expired>,
    /// The tags in ECR; `None` if this pass does not know all of them.
    pub held: Option<Held>,
    /// The result of the deletion of a resource.
    pub deletion: Option<Deletion>,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// A way to a source whose host is down.
    pub(crate) outage: Option<Fingerprint>,
}

/// The tags of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactReport {
    /// Image or chart.
    pub kind: ArtifactKind,
    /// The source that was read: `docker.io/library/nginx`.
    pub source: String,
    /// The original repository, if a mirror was read.
    pub original: Option<String>,
    /// Every wanted tag.
    pub tags: BTreeMap<Tag, TagState>,
    /// The failure to list the source's tags; `tags` then lacks the selected ones.
    pub listing: Option<Failure>,
    /// Number of tags that this pass copied.
    pub copied: usize,
    /// Known manifests of chart archives.
    pub derived: BTreeMap<Tag, Derived>,
    /// Indexes that were built for the wanted platforms only.
    pub rebuilt: BTreeMap<Tag, Rebuilt>,
    /// Artifacts that refer to the images, if they are wanted. Their failures are not failures of
    /// the image.
    pub referrers: Option<ReferrersReport>,
}

#[cfg(test)]
impl ArtifactReport {
    /// A report with these tags, for tests.
    pub(crate) fn of_test(kind: ArtifactKind, tags: BTreeMap<Tag, TagState>) -> Self {
        Self {
            kind,
            source: "docker.io/library/app".to_owned(),
            original: None,
            tags,
            listing: None,
            copied: 0,
            derived: BTreeMap::new(),
            rebuilt: BTreeMap::new(),
            referrers: None,
        }
    }
}

impl ArtifactReport {
    /// Returns the source, with the original repository of a mirror:
    /// `mirror.example.com/hub/nginx (mirror of docker.io/library/nginx)`.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.original {
            Some(original) => format!("{} (mirror of {original})", self.source),
            None => self.source.clone(),
        }
    }

    /// Returns the tags that are in ECR as desired: with the source's digest, or kept.
    pub fn synced(&self) -> impl Iterator<Item = (&Tag, &Digest)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Synced(digest) | TagState::Kept { digest, .. } => Some((tag, digest)),
            _ => None,
        })
    }

    /// Returns the tags that are left alone although they differ from the source or cannot be
    /// pulled, with the reason.
    pub fn kept(&self) -> impl Iterator<Item = (&Tag, &Failure)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Kept { failure, .. } | TagState::Archived { failure, .. } => {
                Some((tag, failure))
            }
            _ => None,
        })
    }

    /// Returns the tags that failed, with the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&Tag, &Failure)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Failed(failure) | TagState::Unverified { failure, .. } => {
                Some((tag, failure))
            }
            _ => None,
        })
    }

    /// Whether every wanted tag is in ECR, in any state.
    #[must_use]
    pub fn is_all_there(&self) -> bool {
        let in_ecr = |state: &TagState| !matches!(state, TagState::Failed(_) | TagState::Planned);
        self.tags.values().all(in_ecr)
    }
}

impl Report {
    /// The report of a pass that could do nothing.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// The report of the deletion of a resource.
    #[must_use]
    pub fn deleted(deletion: Deletion) -> Self {
        Self { deletion: Some(deletion), ..Self::default() }
    }

    /// Without `outcomes`, the report of a dry run.
    pub(super) fn new(
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        outcomes: Option<Outcomes>,
        earlier: &Earlier,
    ) -> Self {
        let dry_run = outcomes.is_none();
        let outcomes = outcomes.unwrap_or_else(|| Outcomes::planned(plan));
        let in_ecr = observed.repository.as_ref();
        let ownership = if plan.adopted { Ownership::Adopted } else { Ownership::Created };
        let repository = outcomes.created.as_ref().or(in_ecr.map(|in_ecr| &in_ecr.repository));
        let repository = repository.map(|repository| (repository.clone(), ownership));
        let artifacts: Vec<_> = desired
            .artifacts
            .iter()
            .map(|artifact| artifact_report(artifact, plan, &outcomes))
            .collect();

        let configuration_read = in_ecr.is_none_or(|in_ecr| in_ecr.configuration_read);
        let is_full = configuration_read && !dry_run && repository.is_some();
        let refused = desired.refused.iter();
        let configuration: Vec<_> = refused.chain(&outcomes.configuration).cloned().collect();
        let is_in_place =
            outcomes.failure.is_none() && configuration.is_empty() && outcomes.rewritten.is_empty();
        let was_corrected = |drift: &&Drift| !dry_run && !outcomes.unwritten.contains(&drift.field);

        let look = repository.as_ref().filter(|_| is_in_place && !dry_run);
        let look = look.map(|(repository, _)| {
            let mut repository = repository.clone();
            if let Some(mutability) = &outcomes.mutability {
                repository.mutability = mutability.clone();
            }
            let states = artifacts.iter().flat_map(|artifact| artifact.tags.clone());
            Look::after(observed, &repository, desired.revision.clone(), !plan.adopted, states)
        });
        let is_complete = outcomes.failure.is_none()
            && artifacts.iter().all(|artifact| artifact.listing.is_none());
        let held = (is_complete && !dry_run).then(|| {
            let states = artifacts.iter().flat_map(|artifact| &artifact.tags);
            Held::new(&desired.lifecycle, states)
        });

        let pruning = plan.pruning.clone().map(|pruning| Pruning {
            blocked: outcomes.pruning_blocked.clone().or_else(|| pruning.blocked.clone()),
            ..pruning
        });
        let advice = pruning.as_ref().and_then(Pruning::advice);
        let warnings = desired.warnings.iter().chain(&observed.warnings).chain(&outcomes.warnings);
        let warnings = warnings.cloned().chain(advice).collect();

        Self {
            repository,
            drift: plan.drift.iter().chain(&outcomes.rewritten).cloned().collect(),
            corrected: plan.corrected.iter().filter(was_corrected).cloned().collect(),
            configuration,
            configuration_read,
            configuration_revision: (is_full && is_in_place).then(|| desired.revision.clone()),
            look,
            attempts: match is_full {
                true => attempts(plan, &outcomes, earlier),
                false => earlier.attempts.clone(),
            },
            managed_tag_keys: is_full.then(|| managed(desired, observed, &outcomes, earlier)),
            artifacts,
            warnings,
            prunes: desired.prunes,
            pruning,
            forecasts: forecasts(desired),
            expired: in_ecr.map(|in_ecr| in_ecr.expired.clone()).unwrap_or_default(),
            held,
            failure: outcomes.failure,
            changes: outcomes.changes,
            fields: outcomes.fields,
            deletion: None,
            dry_run,
            outage: None,
        }
    }

    /// Returns the report of the image or the chart.
    #[must_use]
    pub fn artifact(&self, kind: ArtifactKind) -> Option<&ArtifactReport> {
        self.artifacts.iter().find(|artifact| artifact.kind == kind)
    }

    /// Returns the changes in one line of limited length; empty without changes.
    #[must_use]
    pub fn summary(&self) -> String {
        /// Changes that are named; the others are counted.
        const NAMED: usize = 5;

        let mut text = self.changes.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        if self.changes.len() > NAMED {
            text.push_str(&format!("; and {} more", self.changes.len() - NAMED));
        }
        text
    }

    /// Returns the fields of the changes, except for pruned tags.
    pub fn brought_about(&self) -> impl Iterator<Item = Field> {
        self.fields.iter().copied().filter(|field| *field != Field::Prune)
    }

    /// Returns the number of pruned tags (in a dry run: of tags to prune).
    #[must_use]
    pub fn pruned(&self) -> usize {
        self.fields.iter().filter(|field| **field == Field::Prune).count()
    }

    /// Returns why tags that should be removed still exist. It is not a failure of the wanted tags.
    #[must_use]
    pub fn pruning_blocked(&self) -> Option<&Failure> {
        self.pruning.as_ref()?.blocked.as_ref()
    }

    /// Returns all failures of the wanted state.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        let of_tags = self
            .artifacts
            .iter()
            .flat_map(|artifact| artifact.failures().map(|(_, failure)| failure));
        let of_listing = self.artifacts.iter().filter_map(|artifact| artifact.listing.as_ref());
        self.failure.iter().chain(&self.configuration).chain(of_listing).chain(of_tags)
    }

    /// Returns all failures, those of pruning included.
    pub fn shortfalls(&self) -> impl Iterator<Item = &Failure> {
        self.failures().chain(self.pruning_blocked())
    }

    /// Whether the wanted state was reached.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }
}

/// Forecasts the effects of the desired lifecycle policy on the wanted tags.
fn forecasts(desired: &Desired) -> Vec<Forecast> {
    let Wanted::Document(policy) = &desired.lifecycle else { return Vec::new() };

    // Tags with the same digest are one image. Each chart archive is an image of its own.
    let mut images: BTreeMap<(ArtifactKind, &str), BTreeSet<&str>> = BTreeMap::new();
    for artifact in &desired.artifacts {
        for (tag, wanted) in &artifact.tags {
            let digest = wanted.manifest().map_or(tag.as_str(), Digest::as_str);
            images.entry((artifact.kind, digest)).or_default().insert(tag.as_str());
        }
    }
    forecast(policy, &images.into_values().collect::<Vec<_>>())
}

/// Returns the attempts of the plan. A failed write does not count, so the earlier attempts remain.
fn attempts(plan: &Plan, outcomes: &Outcomes, earlier: &Earlier) -> Attempts {
    let has_failed = |field: &&Field| outcomes.unwritten.contains(field);
    let written = plan.attempts.iter().filter(|(field, _)| !has_failed(field));
    let failed = earlier.attempts.iter().filter(|(field, _)| has_failed(field));
    written.chain(failed).map(|(field, attempt)| (*field, *attempt)).collect()
}

/// Returns the keys that we set and that are wanted, or still to be removed. A key that already had
/// the wanted value is not ours to remove later.
fn managed(
    desired: &Desired,
    observed: &Observed,
    outcomes: &Outcomes,
    earlier: &Earlier,
) -> BTreeSet<String> {
    let is_wanted = |key: &&String| desired.resource_tags.contains_key(*key);
    let is_left_over = |key: &&String| {
        let repository = observed.repository.as_ref();
        repository.is_some_and(|repository| repository.resource_tags.contains_key(*key))
            && !outcomes.untagged.contains(*key)
    };
    let earlier = earlier.managed_tag_keys.iter();
    let earlier = earlier.filter(|key| is_wanted(key) || is_left_over(key));
    earlier.chain(outcomes.tagged.iter().filter(is_wanted)).cloned().collect()
}

fn artifact_report(artifact: &DesiredArtifact, plan: &Plan, outcomes: &Outcomes) -> ArtifactReport {
    let of_kind = |states: &BTreeMap<(ArtifactKind, Tag), TagState>| -> BTreeMap<Tag, TagState> {
        let own = states.iter().filter(|((kind, _), _)| *kind == artifact.kind);
        own.map(|((_, tag), state)| (tag.clone(), state.clone())).collect()
    };
    let mut tags = of_kind(&plan.settled);
    tags.extend(of_kind(&outcomes.tags));

    // Manifests of earlier passes are still right for unchanged tags; those of this pass are newer.
    let derived =
        artifact.tags.keys().filter_map(|tag| Some((tag.clone(), artifact.derived(tag)?)));
    let mut derived: BTreeMap<Tag, Derived> = derived.collect();
    if artifact.kind == ArtifactKind::Chart {
        derived.extend(outcomes.derived.clone());
    }

    let rebuilt = artifact.tags.iter().filter_map(|(tag, wanted): (_, &WantedTag)| {
        let Source::Registry(origin) = &artifact.source else { return None };
        Some((tag.clone(), origin.rebuilt(wanted.manifest()?)?))
    });
    ArtifactReport {
        kind: artifact.kind,
        source: artifact.name.clone(),
        original: artifact.original.clone(),
        tags,
        listing: artifact.listing.clone(),
        copied: outcomes.copied.get(&artifact.kind).copied().unwrap_or_default(),
        derived,
        rebuilt: rebuilt.collect(),
        referrers: outcomes.referrers.clone().filter(|_| artifact.kind == ArtifactKind::Image),
    }
}
