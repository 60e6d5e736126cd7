//! Lifecycle and permission policies: checked, compared by meaning, and the effect of a lifecycle
//! policy on wanted tags forecast.
//!
//! ECR stores a policy in its own form: lifecycle rules sorted by priority, principals in another
//! order at every read, an account ID as its root ARN (hashicorp/terraform-provider-aws#22639,
//! #19365, #36012). Comparing text would write forever (crossplane-contrib/provider-aws#700);
//! normalising too much would hide a change (hashicorp/terraform-provider-aws#35184). So unknown
//! keys are kept, and only the forms that AWS is known to rewrite are equal.

mod changes;
mod depth;
mod difference;
mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod lifecycle;
mod permission;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub(crate) use forecast::{Forecast, forecast};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::TARGETS as FUZZING;

use crate::violation::Violation;

/// A policy document, kept as written.
pub(crate) type Policy = serde_json::Map<String, Value>;

/// One of the two policies of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The rules by which ECR expires or archives images.
    Lifecycle,
    /// The principals that may pull and push.
    Permission,
}

impl Kind {
    /// Returns the field of the spec.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecyclePolicy",
            Self::Permission => "permissionPolicy",
        }
    }

    /// Returns the list that, when empty, means "remove the policy".
    const fn list(self) -> &'static str {
        match self {
            Self::Lifecycle => "rules",
            Self::Permission => "Statement",
        }
    }

    /// Returns the length of the longest text that ECR stores.
    const fn max_length(self) -> usize {
        match self {
            Self::Lifecycle => 30_720,
            Self::Permission => 10_240,
        }
    }
}

/// The wish of a spec for one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The spec does not name the policy: the one in ECR is kept.
    #[default]
    Unmanaged,
    /// The repository should have none.
    None,
    /// The repository should have this one.
    Document(Policy),
}

impl Wanted {
    /// Reads and checks the field of a spec.
    ///
    /// # Errors
    /// All problems of the document, each with its path.
    pub(crate) fn read(kind: Kind, policy: Option<&Policy>) -> Result<Self, Vec<Violation>> {
        let Some(policy) = policy else { return Ok(Self::Unmanaged) };
        if let Some(violation) = depth::check(kind, policy) {
            return Err(vec![violation]);
        }
        let list = kind.list();
        match policy.get(list) {
            None => {
                return Err(vec![Violation::new(
                    kind.field(),
                    format!(
                        "has no {list}: write {list}: [...]; {list}: [] removes the policy; \
                         leave {} out to leave it unmanaged",
                        kind.field()
                    ),
                )]);
            }
            Some(Value::Array(entries)) if entries.is_empty() => return Ok(Self::None),
            Some(_) => {}
        }

        let mut violations = match kind {
            Kind::Lifecycle => lifecycle::check(policy),
            Kind::Permission => permission::check(policy),
        };
        let length = text(policy).len();

        if length > kind.max_length() {
            violations.push(Violation::new(
                kind.field(),
                format!("{length} characters as JSON: ECR takes at most {}", kind.max_length()),
            ));
        }

        if violations.is_empty() { Ok(Self::Document(policy.clone())) } else { Err(violations) }
    }
}

/// Returns the document as it is sent to ECR.
#[must_use]
pub(crate) fn text(policy: &Policy) -> String {
    Value::Object(policy.clone()).to_string()
}

/// Whether `live`, as ECR returned it, means the same as `wanted`. A text that is not a JSON object
/// never does.
#[must_use]
pub(crate) fn means_the_same(kind: Kind, wanted: &Policy, live: &str) -> bool {
    let Ok(Value::Object(live)) = serde_json::from_str(live) else { return false };
    canonical(kind, wanted) == canonical(kind, &live)
}

/// Describes the first difference of `live` from `wanted`, short enough for a condition.
#[must_use]
pub(crate) fn difference(kind: Kind, wanted: &Policy, live: &str) -> String {
    let Ok(Value::Object(live)) = serde_json::from_str(live) else {
        return "is not a JSON object".to_owned();
    };
    difference::first(&canonical(kind, wanted), &canonical(kind, &live)).unwrap_or_default()
}

/// Returns the document in its canonical form: equal meanings have equal texts.
#[must_use]
pub(crate) fn canonical_text(kind: Kind, policy: &Policy) -> String {
    canonical(kind, policy).to_string()
}

/// Returns the canonical form of a text that ECR returned; the text itself if it is not a JSON
/// object.
#[must_use]
pub(crate) fn canonical_live(kind: Kind, live: &str) -> String {
    match serde_json::from_str(live) {
        Ok(Value::Object(policy)) => canonical_text(kind, &policy),
        _ => live.to_owned(),
    }
}

/// Describes all differences of `wanted` from `live`, rule by rule: `rule 2 countNumber 10 -> 20`.
#[must_use]
pub(crate) fn changes(kind: Kind, wanted: &Policy, live: &str) -> Vec<String> {
    let Ok(Value::Object(live)) = serde_json::from_str(live) else {
        return vec!["the policy in ECR is not JSON".to_owned()];
    };
    changes::between(kind, &canonical(kind, &live), &canonical(kind, wanted))
}

fn canonical(kind: Kind, policy: &Policy) -> Value {
    match kind {
        Kind::Lifecycle => lifecycle::canonical(policy),
        Kind::Permission => permission::canonical(policy),
    }
}

/// Sorts values by their JSON text.
fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_cached_key(Value::to_string);
    values
}

/// Returns the name of a JSON type, for messages.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
