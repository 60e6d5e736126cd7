//! [`super::apply`]'s outcomes -> what status, events, metrics and the terminal show. Writes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Attempts, Drift, Plan, Pruning};
use super::artifact::{
    ArtifactKind, Derived, DesiredArtifact, Source, SourceContent, SourceTag, TagState,
};
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
use crate::registry::{Digest, Tag};

/// The result of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the pass ended early, before or at the repository.
    pub failure: Option<Failure>,
    /// The repository, where it exists, and whether it is of our making.
    pub repository: Option<(Repository, Ownership)>,
    /// Policies and resource tags that could not be set.
    pub configuration: Vec<Failure>,
    /// What of the configuration is not as wanted and stays so.
    pub drift: Vec<Drift>,
    /// What of it somebody else had changed, and was put right.
    pub corrected: Vec<Drift>,
    /// Settings, policies and resource tags were looked at.
    pub configuration_read: bool,
    /// The revision of the configuration, where all of it is in place, or was and is left as it is.
    pub configuration_revision: Option<String>,
    /// What the next pass may rely on; `None` where it must read all.
    pub look: Option<Look>,
    /// Values that were written and may not be found again.
    pub attempts: Attempts,
    /// Keys of resource tags that are ours to remove; `None` if the pass did not come so far.
    pub managed_tag_keys: Option<BTreeSet<String>>,
    /// The image and the chart, as far as they are wanted.
    pub artifacts: Vec<ArtifactReport>,
    /// What a person should know, although nothing is wrong.
    pub warnings: Vec<String>,
    /// What was done (or, in a dry run, would be done), in words.
    pub changes: Vec<String>,
    /// What was changed (or would be), by field, once per change.
    pub fields: Vec<Field>,
    /// Tags that are no longer wanted are to be removed.
    pub prunes: bool,
    /// What there was to remove; `None` where this pass did not look.
    pub pruning: Option<Pruning>,
    /// What the lifecycle policy will do to wanted tags.
    pub forecasts: Vec<Forecast>,
    /// Wanted tags that were in ECR and vanished.
    pub expired: BTreeMap<Tag, Expired>,
    /// What is in ECR now; `None` where this pass does not know all of it.
    pub held: Option<Held>,
    /// What became of the repository of a deleted resource.
    pub deletion: Option<Deletion>,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// The tags of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactReport {
    /// Image or chart.
    pub kind: ArtifactKind,
    /// Where it is read from: `docker.io/library/nginx`.
    pub source: String,
    /// Its own place, where a mirror is read.
    pub original: Option<String>,
    /// Every wanted tag.
    pub tags: BTreeMap<Tag, TagState>,
    /// Why the source's tags could not be listed; the selected ones are then missing from `tags`.
    pub listing: Option<Failure>,
    /// Tags that this pass copied.
    pub copied: usize,
    /// What is known to have been made of chart archives.
    pub derived: BTreeMap<Tag, Derived>,
    /// What was made of indexes of which only some platforms are wanted.
    pub rebuilt: BTreeMap<Tag, Rebuilt>,
    /// What became of the artifacts that refer to the images, where they are wanted. No failure of
    /// the image.
    pub referrers: Option<ReferrersReport>,
}

#[cfg(test)]
impl ArtifactReport {
    /// Some artifact's tags, for tests of what reads them.
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
    /// Where it is read from, and what for: `mirror.example.com/hub/nginx (mirror of
    /// docker.io/library/nginx)`.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.original {
            Some(original) => format!("{} (mirror of {original})", self.source),
            None => self.source.clone(),
        }
    }

    /// Tags that are in ECR as they shall be: with the source's digest, or kept.
    pub fn synced(&self) -> impl Iterator<Item = (&Tag, &Digest)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Synced(digest) | TagState::Kept { digest, .. } => Some((tag, digest)),
            _ => None,
        })
    }

    /// Tags that are left as they are although they are not what the source has, or cannot be
    /// pulled; and why.
    pub fn kept(&self) -> impl Iterator<Item = (&Tag, &Failure)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Kept { failure, .. } | TagState::Archived { failure, .. } => {
                Some((tag, failure))
            }
            _ => None,
        })
    }

    /// Tags that are not, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&Tag, &Failure)> {
        self.tags.iter().filter_map(|(tag, state)| match state {
            TagState::Failed(failure) | TagState::Unverified { failure, .. } => {
                Some((tag, failure))
            }
            TagState::Synced(_)
            | TagState::Kept { .. }
            | TagState::Archived { .. }
            | TagState::Planned => None,
        })
    }

    /// Whether every wanted tag is at least in ECR.
    #[must_use]
    pub fn is_all_there(&self) -> bool {
        let is_there = |state: &TagState| !matches!(state, TagState::Failed(_) | TagState::Planned);
        self.tags.values().all(is_there)
    }
}

impl Report {
    /// A pass that came to nothing.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// A repository that is no longer this resource's.
    #[must_use]
    pub fn deleted(deletion: Deletion) -> Self {
        Self { deletion: Some(deletion), ..Self::default() }
    }

    pub(super) fn new(
        desired: &Desired,
        observed: &Observed,
        plan: &Plan,
        outcomes: Option<Outcomes>,
        earlier: &Earlier,
    ) -> Self {
        let there = observed.repository.as_ref();
        let ownership = if plan.adopted { Ownership::Adopted } else { Ownership::Created };
        let dry_run = outcomes.is_none();
        let outcomes = outcomes.unwrap_or_else(|| Outcomes::planned(plan));
        let repository = outcomes
            .created
            .clone()
            .or_else(|| there.map(|there| there.repository.clone()))
            .map(|r| (r, ownership));
        let configuration_read = there.is_none_or(|there| there.configuration_read);
        let has_looked = configuration_read && !dry_run && repository.is_some();
        let managed_tag_keys = has_looked.then(|| managed(desired, observed, &outcomes, earlier));
        let configuration: Vec<_> =
            desired.refused.iter().chain(&outcomes.configuration).cloned().collect();
        let is_in_place =
            outcomes.failure.is_none() && configuration.is_empty() && outcomes.rewritten.is_empty();
        let attempts =
            if has_looked { attempts(plan, &outcomes, earlier) } else { earlier.attempts.clone() };
        let corrected = plan
            .corrected
            .iter()
            .filter(|drift| !dry_run && !outcomes.unwritten.contains(&drift.field))
            .cloned();
        let artifacts: Vec<_> = desired
            .artifacts
            .iter()
            .map(|artifact| artifact_report(artifact, plan, &outcomes))
            .collect();
        let look = repository.as_ref().filter(|_| is_in_place && !dry_run).map(
            |(repository, ownership)| {
                let mutability =
                    outcomes.mutability.clone().unwrap_or_else(|| repository.mutability.clone());
                let repository = Repository { mutability, ..repository.clone() };
                let states = artifacts.iter().flat_map(|artifact| artifact.tags.clone());
                Look::after(
                    observed,
                    &repository,
                    desired.revision.clone(),
                    *ownership == Ownership::Created,
                    states,
                )
            },
        );
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
        let warnings = desired.warnings.iter().chain(&observed.warnings).cloned();
        let warnings = warnings.chain(outcomes.warnings).chain(advice);
        Self {
            failure: outcomes.failure,
            repository,
            configuration,
            drift: plan.drift.iter().chain(&outcomes.rewritten).cloned().collect(),
            corrected: corrected.collect(),
            configuration_read,
            configuration_revision: (has_looked && is_in_place).then(|| desired.revision.clone()),
            look,
            attempts,
            managed_tag_keys,
            artifacts,
            prunes: desired.prunes,
            pruning,
            forecasts: forecasts(desired),
            expired: there.map(|there| there.expired.clone()).unwrap_or_default(),
            held,
            warnings: warnings.collect(),
            changes: outcomes.changes,
            fields: outcomes.fields,
            deletion: None,
            dry_run,
        }
    }

    /// The report of the image or the chart.
    #[must_use]
    pub fn artifact(&self, kind: ArtifactKind) -> Option<&ArtifactReport> {
        self.artifacts.iter().find(|artifact| artifact.kind == kind)
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

    /// Fields of what was brought about that the spec wants: all that was changed but what was
    /// removed for it.
    pub fn brought_about(&self) -> impl Iterator<Item = Field> {
        self.fields.iter().copied().filter(|field| *field != Field::Prune)
    }

    /// How many tags were removed, or would be.
    #[must_use]
    pub fn pruned(&self) -> usize {
        self.fields.iter().filter(|field| **field == Field::Prune).count()
    }

    /// Why tags that should go are still there: no failure of what is wanted.
    #[must_use]
    pub fn pruning_blocked(&self) -> Option<&Failure> {
        self.pruning.as_ref()?.blocked.as_ref()
    }

    /// Everything that went wrong with what is wanted.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        let of_tags = self
            .artifacts
            .iter()
            .flat_map(|artifact| artifact.failures().map(|(_, failure)| failure));
        let of_listing = self.artifacts.iter().filter_map(|artifact| artifact.listing.as_ref());
        self.failure.iter().chain(&self.configuration).chain(of_listing).chain(of_tags)
    }

    /// The same, and what keeps tags from going that should: all that whoever asked for the pass
    /// did not get.
    pub fn shortfalls(&self) -> impl Iterator<Item = &Failure> {
        self.failures().chain(self.pruning_blocked())
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }
}

/// What the lifecycle policy that is wanted will do to the tags that are wanted.
fn forecasts(desired: &Desired) -> Vec<Forecast> {
    let Wanted::Document(policy) = &desired.lifecycle else { return Vec::new() };
    // Tags of one digest are one image. A chart archive is an image of its own.
    let mut images: BTreeMap<(ArtifactKind, &str), BTreeSet<&str>> = BTreeMap::new();
    for artifact in &desired.artifacts {
        for (tag, wanted) in &artifact.tags {
            let digest = match &wanted.source {
                Ok(SourceTag { content: SourceContent::Manifest(digest), .. }) => digest.as_str(),
                _ => tag.as_str(),
            };
            images.entry((artifact.kind, digest)).or_default().insert(tag.as_str());
        }
    }
    forecast(policy, &images.into_values().collect::<Vec<_>>())
}

/// The attempts of the plan, save those that failed: what was not written cannot have been
/// rewritten.
fn attempts(plan: &Plan, outcomes: &Outcomes, earlier: &Earlier) -> Attempts {
    let failed = |field: &&Field| outcomes.unwritten.contains(field);
    let written = plan.attempts.iter().filter(|(field, _)| !failed(field));
    written
        .chain(earlier.attempts.iter().filter(|(field, _)| failed(field)))
        .map(|(field, a)| (*field, *a))
        .collect()
}

/// Keys that we set and that are wanted, or still to be removed. One that was there before with the
/// wanted value is not ours to remove later.
fn managed(
    desired: &Desired,
    observed: &Observed,
    outcomes: &Outcomes,
    earlier: &Earlier,
) -> BTreeSet<String> {
    let wanted = &desired.resource_tags;
    let is_live = |key: &String| {
        let there = observed.repository.as_ref();
        there.is_some_and(|there| there.resource_tags.contains_key(key))
            && !outcomes.untagged.contains(key)
    };
    let kept =
        earlier.managed_tag_keys.iter().filter(|key| wanted.contains_key(*key) || is_live(key));
    kept.chain(outcomes.tagged.iter().filter(|key| wanted.contains_key(*key))).cloned().collect()
}

fn artifact_report(artifact: &DesiredArtifact, plan: &Plan, outcomes: &Outcomes) -> ArtifactReport {
    let of_kind = |states: &BTreeMap<(ArtifactKind, Tag), TagState>| -> BTreeMap<Tag, TagState> {
        let mine = states.iter().filter(|((kind, _), _)| *kind == artifact.kind);
        mine.map(|((_, tag), state)| (tag.clone(), state.clone())).collect()
    };
    let mut tags = of_kind(&plan.settled);
    tags.extend(of_kind(&outcomes.tags));
    // What an earlier pass made still holds where the tag is as it was; what this pass made is
    // news.
    let known = artifact.tags.iter().filter_map(|(tag, wanted)| match &wanted.source {
        Ok(SourceTag { content: SourceContent::Archive { derived, .. }, .. }) => {
            Some((tag.clone(), derived.clone()?))
        }
        _ => None,
    });
    let mut derived: BTreeMap<Tag, Derived> = known.collect();
    if artifact.kind == ArtifactKind::Chart {
        derived.extend(outcomes.derived.clone());
    }
    let rebuilt =
        artifact.tags.iter().filter_map(|(tag, wanted)| match (&wanted.source, &artifact.source) {
            (
                Ok(SourceTag { content: SourceContent::Manifest(digest), .. }),
                Source::Registry(origin),
            ) => Some((tag.clone(), origin.rebuilt(digest)?)),
            _ => None,
        });
    ArtifactReport {
        kind: artifact.kind,
        rebuilt: rebuilt.collect(),
        referrers: outcomes.referrers.clone().filter(|_| artifact.kind == ArtifactKind::Image),
        source: artifact.name.clone(),
        original: artifact.original.clone(),
        tags,
        listing: artifact.listing.clone(),
        copied: outcomes.copied.get(&artifact.kind).copied().unwrap_or_default(),
        derived,
    }
}
