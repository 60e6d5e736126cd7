//! What of a repository's configuration is not as wanted: settings, resource tags, policies. Pure.

use std::collections::BTreeMap;

use super::action::{Action, Attempt, Attempts};
use super::desired::Desired;
use super::earlier::Earlier;
use super::field::Field;
use super::observed::ObservedRepository;
use crate::api::v1alpha1::DriftPolicy;
use crate::ecr::policy::{self, Kind, Wanted};
use crate::ecr::{CREATED_TAG, OWNER_TAG};
use crate::hash::hash;

/// A field that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The field of the spec.
    pub(super) field: Field,
    /// What makes it as wanted; nothing where nothing can.
    pub(super) actions: Vec<Action>,
    /// What is there and what is wanted.
    pub(super) detail: String,
    /// What is wanted, and what is there: in short.
    pub(super) values: (u64, u64),
}

/// A value is written so often. What is found to be another one after that is what ECR, or somebody
/// who is as stubborn as we are, makes of it: writing on would be for ever (700,000 calls in ten
/// days: crossplane-contrib/provider-aws#700).
const MOST_WRITES: u32 = 2;

/// What is done about a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Write(Attempt),
    /// It stays, for this reason.
    Leave(&'static str),
}

impl Difference {
    /// Decides what is done. `drifted`: the wanted configuration was in place before, so that
    /// somebody else changed it.
    pub(super) fn verdict(
        &self,
        drifted: bool,
        policy: DriftPolicy,
        attempt: Option<&Attempt>,
    ) -> Verdict {
        let (wanted, live) = self.values;
        if self.actions.is_empty() {
            return Verdict::Leave("");
        }
        if drifted && policy == DriftPolicy::Report {
            return Verdict::Leave(" (driftPolicy: Report)");
        }
        match attempt.filter(|attempt| attempt.wanted == wanted) {
            Some(attempt) if attempt.times >= MOST_WRITES && attempt.live == live => {
                Verdict::Leave(
                    ": it was written twice and is another value again each time, so it is not written until the spec or the \
                 value in ECR changes; write the value into the spec that ECR keeps, or find out who else writes it",
                )
            }
            Some(attempt) if attempt.times < MOST_WRITES => {
                Verdict::Write(Attempt { wanted, live, times: attempt.times + 1 })
            }
            _ => Verdict::Write(Attempt { wanted, live, times: 1 }),
        }
    }
}

/// The attempts of a pass that creates the repository: all that can be rewritten was written once.
pub(super) fn created(desired: &Desired) -> Attempts {
    let mut attempts = Attempts::new();
    for (kind, wanted) in
        [(Kind::Lifecycle, &desired.lifecycle), (Kind::Permission, &desired.permission)]
    {
        if let Wanted::Document(document) = wanted {
            let wanted = hash(Some(policy::canonical_text(kind, document)));
            attempts.insert(kind.into(), Attempt { wanted, live: hash(None::<String>), times: 1 });
        }
    }
    attempts
}

/// Compares the configuration of a repository that exists, field by field: resource tags and
/// settings come before policies, and all of them before the copies that they rule.
pub(super) fn differences(
    desired: &Desired,
    there: &ObservedRepository,
    earlier: &Earlier,
) -> Vec<Difference> {
    let live = &there.repository;
    let settings = &desired.settings;
    let mut differences: Vec<_> = resource_tags(desired, there, earlier).into_iter().collect();
    if let Some(wanted) =
        settings.mutability.as_ref().filter(|wanted| !wanted.means_the_same(&live.mutability))
    {
        differences.push(Difference {
            field: Field::ImageTagMutability,
            actions: vec![Action::SetMutability {
                wanted: wanted.clone(),
                replaces: live.mutability.clone(),
            }],
            detail: format!("is {}, not {wanted}", live.mutability),
            values: (hash(wanted.to_string()), hash(live.mutability.to_string())),
        });
    }
    if let Some(wanted) = settings.scan_on_push.filter(|wanted| *wanted != live.scan_on_push) {
        differences.push(Difference {
            field: Field::ScanOnPush,
            actions: vec![Action::SetScanOnPush { wanted }],
            detail: format!("is {}, not {wanted}", live.scan_on_push),
            values: (hash(wanted), hash(live.scan_on_push)),
        });
    }
    if let Some(wanted) =
        settings.encryption.as_ref().filter(|wanted| !wanted.is_met_by(&live.encryption))
    {
        differences.push(Difference {
            field: Field::Encryption,
            actions: Vec::new(),
            detail: format!(
                "is {}, not {wanted}: AWS takes it at creation only; write what is there into the spec, or delete the \
                 repository by hand and let it be created again",
                live.encryption
            ),
            values: (hash(wanted.to_string()), hash(live.encryption.to_string())),
        });
    }
    differences.extend(of_policy(Kind::Lifecycle, &desired.lifecycle, there.lifecycle.as_deref()));
    differences.extend(of_policy(
        Kind::Permission,
        &desired.permission,
        there.permission.as_deref(),
    ));
    differences
}

/// Keys that are wanted, and keys that were wanted once and that we set. All others are somebody
/// else's.
fn resource_tags(
    desired: &Desired,
    there: &ObservedRepository,
    earlier: &Earlier,
) -> Option<Difference> {
    let live = &there.resource_tags;
    let wanted = &desired.resource_tags;
    let set: BTreeMap<_, _> =
        wanted.iter().filter(|(key, value)| live.get(*key) != Some(*value)).map(own).collect();
    let is_ours = |key: &&String| [OWNER_TAG, CREATED_TAG].contains(&key.as_str());
    let is_left = |key: &&String| live.contains_key(*key) && !wanted.contains_key(*key);
    let removed: Vec<_> = earlier
        .managed_tag_keys
        .iter()
        .filter(is_left)
        .filter(|key| !is_ours(key))
        .cloned()
        .collect();
    let mut details = Vec::new();
    for (key, value) in &set {
        details.push(match live.get(key) {
            Some(other) => format!("{key} is {other:?}, not {value:?}"),
            None => format!("{key} is missing"),
        });
    }
    details.extend(removed.iter().map(|key| format!("{key} is no longer wanted")));
    let mut actions = Vec::new();
    if !set.is_empty() {
        actions.push(Action::TagRepository { tags: set });
    }
    if !removed.is_empty() {
        actions.push(Action::UntagRepository { keys: removed });
    }
    let detail = details.join(", ");
    let concerned = wanted.keys().chain(&earlier.managed_tag_keys);
    let live_now: BTreeMap<_, _> = concerned.map(|key| (key, live.get(key))).collect();
    let values = (hash(wanted), hash(live_now));
    (!actions.is_empty()).then_some(Difference {
        field: Field::ResourceTags,
        actions,
        detail,
        values,
    })
}

fn own((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

fn of_policy(kind: Kind, wanted: &Wanted, live: Option<&str>) -> Option<Difference> {
    let (action, detail) = match (wanted, live) {
        (Wanted::Unmanaged, _) | (Wanted::None, None) => return None,
        (Wanted::None, Some(_)) => {
            (Action::DeletePolicy { kind }, "is there, and there shall be none".to_owned())
        }
        (Wanted::Document(document), Some(live))
            if policy::means_the_same(kind, document, live) =>
        {
            return None;
        }
        (Wanted::Document(document), live) => {
            let action =
                Action::PutPolicy { kind, document: document.clone(), replaces: live.is_some() };
            let detail = live.map_or_else(
                || "is missing".to_owned(),
                |live| policy::difference(kind, document, live),
            );
            (action, detail)
        }
    };
    let wanted = match wanted {
        Wanted::Document(document) => Some(policy::canonical_text(kind, document)),
        Wanted::Unmanaged | Wanted::None => None,
    };
    let values = (hash(wanted), hash(live.map(|live| policy::canonical_live(kind, live))));
    Some(Difference { field: kind.into(), actions: vec![action], detail, values })
}

#[cfg(test)]
mod tests;
