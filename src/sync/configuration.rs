//! The differences between the desired configuration and the one in ECR: settings, resource tags,
//! policies. Pure.

use std::collections::BTreeMap;

use super::action::{Action, Attempt};
use super::desired::Desired;
use super::earlier::Earlier;
use super::field::Field;
use super::observed::ObservedRepository;
use crate::api::v1alpha1::{DriftPolicy, Policy};
use crate::ecr::policy::{self, Kind, Wanted};
use crate::ecr::{CREATED_TAG, OWNER_TAG};
use crate::hash::hash;

/// A field whose value in ECR is not the desired one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The field of the spec.
    pub(super) field: Field,
    /// The actions that set the desired value; empty if it cannot be set.
    pub(super) actions: Vec<Action>,
    /// The values in ECR and in the spec: `is Mutable, not Immutable`.
    pub(super) now: String,
    /// The same after the actions: `was Mutable, not Immutable`.
    pub(super) past: String,
    /// Hashes of the desired value and of the value in ECR.
    pub(super) values: (u64, u64),
}

/// Writes of one value. If ECR returns another value after that, ECR rewrites it, or another tool
/// does. Writing it again would never end (700,000 calls in ten days:
/// crossplane-contrib/provider-aws#700).
const MAX_WRITES: u32 = 2;

/// The decision about a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Writes the desired value.
    Write(Attempt),
    /// Leaves the value in ECR, for this reason.
    Leave(&'static str),
}

impl Difference {
    /// Decides about the difference. `has_drifted`: the desired value was in place before, so
    /// somebody changed it.
    pub(super) fn verdict(
        &self,
        has_drifted: bool,
        policy: DriftPolicy,
        attempt: Option<&Attempt>,
    ) -> Verdict {
        let (wanted, live) = self.values;
        if self.actions.is_empty() {
            return Verdict::Leave("");
        }
        if has_drifted && policy == DriftPolicy::Report {
            return Verdict::Leave(" (driftPolicy: Report)");
        }

        match attempt.filter(|attempt| attempt.wanted == wanted) {
            Some(attempt) if attempt.times >= MAX_WRITES && attempt.live == live => Verdict::Leave(
                ": ECR returned a different value after both attempts, so it will not be written \
                 again until the spec or the value in ECR changes. Copy ECR's value into the \
                 spec, or find out what else writes it",
            ),
            Some(attempt) if attempt.times < MAX_WRITES => {
                Verdict::Write(Attempt { wanted, live, times: attempt.times + 1 })
            }
            _ => Verdict::Write(Attempt { wanted, live, times: 1 }),
        }
    }
}

/// Returns the attempt for a policy of a repository that this pass creates: it is written once.
pub(super) fn created(kind: Kind, document: &Policy) -> Attempt {
    let wanted = hash(Some(policy::canonical_text(kind, document)));
    Attempt { wanted, live: hash(None::<String>), times: 1 }
}

/// Compares the configuration of an existing repository, field by field. Resource tags and settings
/// are written before policies, and all of them before the copies to which they apply.
pub(super) fn differences(
    desired: &Desired,
    observed: &ObservedRepository,
    earlier: &Earlier,
) -> Vec<Difference> {
    let live = &observed.repository;
    let settings = &desired.settings;
    let mut differences: Vec<_> = resource_tags(desired, observed, earlier).into_iter().collect();

    let mutability = settings.mutability.as_ref();
    if let Some(wanted) = mutability.filter(|wanted| !wanted.means_the_same(&live.mutability)) {
        let replaces = live.mutability.clone();
        differences.push(Difference {
            field: Field::ImageTagMutability,
            actions: vec![Action::SetMutability { wanted: wanted.clone(), replaces }],
            now: format!("is {}, not {wanted}", live.mutability),
            past: format!("was {}, not {wanted}", live.mutability),
            values: (hash(wanted.to_string()), hash(live.mutability.to_string())),
        });
    }
    if let Some(wanted) = settings.scan_on_push.filter(|wanted| *wanted != live.scan_on_push) {
        differences.push(Difference {
            field: Field::ScanOnPush,
            actions: vec![Action::SetScanOnPush { wanted }],
            now: format!("is {}, not {wanted}", live.scan_on_push),
            past: format!("was {}, not {wanted}", live.scan_on_push),
            values: (hash(wanted), hash(live.scan_on_push)),
        });
    }
    let encryption = settings.encryption.as_ref();
    if let Some(wanted) = encryption.filter(|wanted| !wanted.is_met_by(&live.encryption)) {
        differences.push(Difference {
            field: Field::Encryption,
            actions: Vec::new(),
            now: format!(
                "is {}, not {wanted}: encryption can be set only when a repository is created. \
                 Copy ECR's value into the spec, or delete the repository by hand so that it is \
                 created again",
                live.encryption
            ),
            past: String::new(),
            values: (hash(wanted.to_string()), hash(live.encryption.to_string())),
        });
    }

    let ObservedRepository { lifecycle, permission, .. } = observed;
    differences.extend(of_policy(Kind::Lifecycle, &desired.lifecycle, lifecycle.as_deref()));
    differences.extend(of_policy(Kind::Permission, &desired.permission, permission.as_deref()));
    differences
}

/// Compares the wanted keys, and the keys that we set and that are no longer wanted. Others set the
/// other keys.
fn resource_tags(
    desired: &Desired,
    observed: &ObservedRepository,
    earlier: &Earlier,
) -> Option<Difference> {
    let live = &observed.resource_tags;
    let wanted = &desired.resource_tags;
    let managed = &earlier.managed_tag_keys;

    let is_set = |(key, value): &(&String, &String)| live.get(*key) == Some(*value);
    let missing = wanted.iter().filter(|tag| !is_set(tag));
    let missing: BTreeMap<_, _> =
        missing.map(|(key, value)| (key.clone(), value.clone())).collect();
    let is_mark = |key: &str| [OWNER_TAG, CREATED_TAG].contains(&key);
    let is_left_over =
        |key: &&String| live.contains_key(*key) && !wanted.contains_key(*key) && !is_mark(key);
    let left_over: Vec<_> = managed.iter().filter(is_left_over).cloned().collect();
    if missing.is_empty() && left_over.is_empty() {
        return None;
    }

    let describe = |verb: &str| {
        let missing = missing.iter().map(|(key, value)| match live.get(key) {
            Some(other) => format!("{key} {verb} {other:?}, not {value:?}"),
            None => format!("{key} {verb} missing"),
        });
        let left_over = left_over.iter().map(|key| format!("{key} {verb} no longer wanted"));
        missing.chain(left_over).collect::<Vec<_>>().join(", ")
    };
    let now = describe("is");
    let past = describe("was");

    let compared = wanted.keys().chain(managed);
    let live: BTreeMap<_, _> = compared.map(|key| (key, live.get(key))).collect();
    let values = (hash(wanted), hash(live));
    let mut actions = Vec::new();
    if !missing.is_empty() {
        actions.push(Action::TagRepository { tags: missing });
    }
    if !left_over.is_empty() {
        actions.push(Action::UntagRepository { keys: left_over });
    }
    Some(Difference { field: Field::ResourceTags, actions, now, past, values })
}

fn of_policy(kind: Kind, wanted: &Wanted, live: Option<&str>) -> Option<Difference> {
    let (action, now, past) = match (wanted, live) {
        (Wanted::Unmanaged, _) | (Wanted::None, None) => return None,
        (Wanted::None, Some(_)) => (
            Action::DeletePolicy { kind },
            "exists in ECR, but the spec asks for none".to_owned(),
            "existed in ECR, but the spec asks for none".to_owned(),
        ),
        (Wanted::Document(document), Some(live)) => {
            if policy::means_the_same(kind, document, live) {
                return None;
            }
            let difference = policy::difference(kind, document, live);
            let document = document.clone();
            let put = Action::PutPolicy { kind, document, replaces: true };
            (put, difference.clone(), difference)
        }
        (Wanted::Document(document), None) => (
            Action::PutPolicy { kind, document: document.clone(), replaces: false },
            "is missing in ECR".to_owned(),
            "was missing in ECR".to_owned(),
        ),
    };

    let wanted = match wanted {
        Wanted::Document(document) => Some(policy::canonical_text(kind, document)),
        Wanted::Unmanaged | Wanted::None => None,
    };
    let values = (hash(wanted), hash(live.map(|live| policy::canonical_live(kind, live))));
    Some(Difference { field: kind.into(), actions: vec![action], now, past, values })
}

#[cfg(test)]
mod tests;
