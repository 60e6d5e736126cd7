//! The conditions `ImageSynced` and `ChartSynced`, and `status.image` and `status.chart`.

use crate::api::v1alpha1::{ArtifactStatus, ReferrersStatus, SyncedTag, TagFailure, condition};
use crate::controller::conditions::{Conditions, Is, MAX_LINE, truncated};
use crate::controller::reason::Reason;
use crate::failure::Failure;
use crate::registry::{Digest, Tag};
use crate::sync::{ArtifactKind, ArtifactReport, ReferrersReport, TagState};

/// Most entries of `latest` and `failures`: the status stays small with any number of tags.
const MAX_ENTRIES: usize = 10;

/// The type of an artifact's condition.
pub(super) const fn condition_of(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Image => condition::IMAGE_SYNCED,
        ArtifactKind::Chart => condition::CHART_SYNCED,
    }
}

/// Sets the condition of an artifact after a pass.
pub(super) fn synced(conditions: &mut Conditions<'_>, artifact: &ArtifactReport, dry_run: bool) {
    let type_ = condition_of(artifact.kind);
    if artifact.listing.is_some() || artifact.failures().next().is_some() {
        let (reason, message) = problem(artifact);
        let is = if artifact.is_all_there() { Is::Unknown } else { Is::False };
        conditions.set(type_, is, reason, &message);
        return;
    }

    let summary = summary(artifact);
    let planned = artifact.tags.values().filter(|state| matches!(state, TagState::Planned)).count();
    if dry_run && planned > 0 {
        let message = format!("{summary}; {planned} would be copied");
        conditions.set(type_, Is::Unknown, Reason::DryRun, &message);
    } else if let Some((tag, kept)) = artifact.kept().next() {
        // Nothing is missing and nobody must act, but the message explains the tag's digest.
        let message = format!("{summary} from {}; {tag}: {}", artifact.place(), kept.message);
        conditions.set(type_, Is::True, Reason::Failed(kept.class), &message);
    } else {
        let message = format!("{summary} from {}", artifact.place());
        conditions.set(type_, Is::True, Reason::Succeeded, &message);
    }
}

/// Returns reason and message of an artifact that failed. The reason is `PartiallySynced` if some
/// tags are in ECR and some are not; else that of the first failure.
pub(super) fn problem(artifact: &ArtifactReport) -> (Reason, String) {
    if let Some(failure) = &artifact.listing {
        return (Reason::Failed(failure.class), failure.message.clone());
    }
    let failures: Vec<_> = artifact.failures().collect();
    let Some((tag, first)) = failures.first() else { return (Reason::Succeeded, String::new()) };

    let some_synced = artifact.synced().next().is_some();
    let reason = if some_synced && !artifact.is_all_there() {
        Reason::PartiallySynced
    } else {
        Reason::Failed(first.class)
    };
    let more = match failures.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more, see status.{}.failures)", artifact.kind.noun()),
    };
    let summary = summary(artifact);
    (reason, format!("{summary}; {tag}: {}: {}{more}", first.class, first.message))
}

/// Returns the number of synced and of wanted tags: `19/20 tags`.
pub(super) fn summary(artifact: &ArtifactReport) -> String {
    let noun = match artifact.kind {
        ArtifactKind::Image => "tags",
        ArtifactKind::Chart => "chart versions",
    };
    format!("{}/{} {noun}", artifact.synced().count(), artifact.tags.len())
}

/// Returns the status of an artifact after a pass. If the resource `was_ready`, all tags were
/// compared before, and tags whose source cannot be read now count as unchanged.
pub(super) fn status(artifact: &ArtifactReport, was_ready: bool) -> ArtifactStatus {
    let count = |wanted: &dyn Fn(&TagState) -> bool| {
        number(artifact.tags.values().filter(|state| wanted(state)).count())
    };
    let desired = number(artifact.tags.len());
    let synced = count(&|state| match state {
        TagState::Synced(_) | TagState::Kept { .. } => true,
        TagState::Unverified { .. } => was_ready,
        TagState::Archived { .. } | TagState::Failed(_) | TagState::Planned => false,
    });

    let latest = |(tag, digest): (&Tag, &Digest)| SyncedTag {
        tag: tag.to_string(),
        digest: digest.to_string(),
    };
    let failure = |(tag, failure): (&Tag, &Failure)| TagFailure {
        tag: tag.to_string(),
        reason: failure.class.reason().to_owned(),
        message: truncated(&failure.message, MAX_LINE),
    };

    ArtifactStatus {
        source: artifact.source.clone(),
        original: artifact.original.clone(),
        summary: format!("{synced}/{desired}"),
        desired,
        synced,
        failed: count(&|state| matches!(state, TagState::Failed(_))),
        archived: count(&|state| matches!(state, TagState::Archived { .. })),
        revision: revision(artifact),
        referrers: artifact.referrers.as_ref().map(referrers),
        latest: artifact.synced().take(MAX_ENTRIES).map(latest).collect(),
        failures: artifact.failures().take(MAX_ENTRIES).map(failure).collect(),
    }
}

fn referrers(report: &ReferrersReport) -> ReferrersStatus {
    let message = report.failures.first().map(|failure| truncated(&failure.message, MAX_LINE));
    ReferrersStatus {
        found: number(report.found),
        failed: number(report.failures.len()),
        message: message.unwrap_or_default(),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns sixteen digits of the hash of all tags and digests; empty without any.
fn revision(artifact: &ArtifactReport) -> String {
    let content: String =
        artifact.synced().map(|(tag, digest)| format!("{tag} {digest}\n")).collect();
    if content.is_empty() {
        return String::new();
    }
    Digest::sha256_of(content.as_bytes()).hex().chars().take(16).collect()
}
