//! Tests of policies.

mod properties;

use serde_json::Value;

use super::Policy;

pub(super) fn policy(value: Value) -> Policy {
    match value {
        Value::Object(policy) => policy,
        other => panic!("{other} is not an object"),
    }
}
