//! Repository policies: what ECR accepts, and how a policy reads back.

use serde_json::{Map, Value};

use super::errors::{Error, Result};
use super::iam::{statements, strings};
use super::quantities::wildcard;
use super::sigv4::partition;

/// The order in which ECR writes keys; others follow.
const KEYS: [&str; 9] = [
    "Version",
    "Id",
    "Statement",
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "Condition",
];

/// Checks a policy text: IAM syntax, known principals, ECR actions, and no `Resource`, which is the
/// repository itself.
pub(crate) fn parse(text: &str) -> Result<Value> {
    let policy: Value = serde_json::from_str(text).map_err(|_| invalid())?;
    let object = policy.as_object().ok_or_else(invalid)?;
    only_keys(object, &["Version", "Id", "Statement"])?;
    let version = object.get("Version").map_or(Some("2008-10-17"), Value::as_str);
    if !matches!(version, Some("2008-10-17" | "2012-10-17")) {
        return Err(invalid());
    }
    let statements = match &policy["Statement"] {
        Value::Array(list) if !list.is_empty() => list.as_slice(),
        one @ Value::Object(_) => std::slice::from_ref(one),
        _ => return Err(invalid()),
    };
    statements.iter().try_for_each(check_statement)?;
    Ok(policy)
}

fn check_statement(statement: &Value) -> Result<()> {
    let object = statement.as_object().ok_or_else(invalid)?;
    only_keys(
        object,
        &["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"],
    )?;
    let one_of = |a: &str, b: &str| object.contains_key(a) != object.contains_key(b);
    let effect = matches!(statement["Effect"].as_str(), Some("Allow" | "Deny"));
    if !effect || !one_of("Principal", "NotPrincipal") || !one_of("Action", "NotAction") {
        return Err(invalid());
    }
    let actions = object.get("Action").or_else(|| object.get("NotAction"));
    let is_action = |action: &str| action == "*" || action.to_ascii_lowercase().starts_with("ecr:");
    let actions = actions.is_some_and(|actions| all_strings(actions, is_action));
    let principal = match object.get("Principal").or_else(|| object.get("NotPrincipal")) {
        Some(Value::String(everyone)) => everyone == "*",
        Some(Value::Object(kinds)) => {
            !kinds.is_empty() && kinds.iter().all(|(kind, names)| is_principal(kind, names))
        }
        _ => false,
    };
    let condition = object.get("Condition").is_none_or(Value::is_object);
    if actions && principal && condition { Ok(()) } else { Err(invalid()) }
}

/// Whether a role does not exist, which ECR refuses; here a role whose name contains `missing`.
fn is_principal(kind: &str, names: &Value) -> bool {
    let is_account =
        |name: &str| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_arn = |name: &str| {
        let parts: Vec<_> = name.splitn(6, ':').collect();
        matches!(parts[..], ["arn", _, "iam" | "sts", "", account, _] if is_account(account))
            && !name.contains("missing")
    };
    match kind {
        "AWS" => all_strings(names, |name| name == "*" || is_account(name) || is_arn(name)),
        "Service" => all_strings(names, |name| name.contains('.')),
        "Federated" => all_strings(names, |name| !name.is_empty()),
        _ => false,
    }
}

/// A string, or a list of strings that is not empty.
fn all_strings(value: &Value, fine: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => fine(text),
        Value::Array(list) => {
            !list.is_empty() && list.iter().all(|value| value.as_str().is_some_and(&fine))
        }
        _ => false,
    }
}

fn only_keys(object: &Map<String, Value>, known: &[&str]) -> Result<()> {
    if object.keys().all(|key| known.contains(&key.as_str())) { Ok(()) } else { Err(invalid()) }
}

fn invalid() -> Error {
    Error::invalid("PolicyText", "Invalid repository policy provided")
}

/// Whether a policy lets another account do this (`action` without `ecr:`): an `Allow` for it or
/// for everybody. Conditions are ignored.
pub(crate) fn admits(policy: &Value, account: &str, action: &str) -> bool {
    let action = format!("ecr:{action}").to_ascii_lowercase();
    let names = |statement: &&Value| {
        let principal = statement["Principal"].to_string();
        principal.contains(account) || principal.contains("\"*\"")
    };
    let allows = |statement: &Value| {
        strings(&statement["Action"])
            .any(|pattern| wildcard(&pattern.to_ascii_lowercase(), &action))
    };
    let mut named =
        statements(policy).iter().filter(|statement| statement["Effect"] == "Allow").filter(names);
    named.any(allows)
}

/// Returns the policy as ECR does: principals and actions in another order at every read
/// (hashicorp/terraform-provider-aws#19365, #36012, #20781), a list of one as a string, an account
/// ID as its root's ARN, and other white space.
pub(crate) fn read_back(policy: &Value, region: &str, turn: usize) -> String {
    let mut policy = policy.clone();
    let statements = match &mut policy["Statement"] {
        Value::Array(list) => list.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for statement in statements {
        for name in ["Action", "NotAction"] {
            if let Some(actions) = statement.get_mut(name) {
                shuffle(actions, turn);
            }
        }
        for name in ["Principal", "NotPrincipal"] {
            let kinds = statement.get_mut(name).and_then(Value::as_object_mut);
            for (kind, names) in kinds.into_iter().flatten() {
                if kind == "AWS" {
                    each_string(names, |name| as_arn(name, region));
                }
                shuffle(names, turn);
            }
        }
        let conditions = statement.get_mut("Condition").and_then(Value::as_object_mut);
        for values in
            conditions.into_iter().flatten().filter_map(|(_, keys)| keys.as_object_mut()).flatten()
        {
            shuffle(values.1, turn);
        }
    }
    if !policy["Statement"].is_array() {
        policy["Statement"] = Value::Array(vec![policy["Statement"].take()]);
    }
    render(&policy, &KEYS, true)
}

fn as_arn(name: &str, region: &str) -> Option<String> {
    let is_account = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_account.then(|| format!("arn:{}:iam::{name}:root", partition(region)))
}

fn each_string(value: &mut Value, change: impl Fn(&str) -> Option<String>) {
    let values = match value {
        Value::Array(list) => list.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for value in values {
        if let Some(changed) = value.as_str().and_then(&change) {
            *value = changed.into();
        }
    }
}

fn shuffle(value: &mut Value, turn: usize) {
    let Some(list) = value.as_array_mut() else { return };
    match list.len() {
        0 => {}
        1 => *value = list.remove(0),
        length => list.rotate_left(turn % length),
    }
}

/// JSON text with keys in the order of `keys`, unknown ones after; `spaced` in the style of
/// Jackson's pretty printer.
pub(crate) fn render(value: &Value, keys: &[&str], spaced: bool) -> String {
    let mut text = String::new();
    write(&mut text, value, keys, spaced, 0);
    text
}

fn write(text: &mut String, value: &Value, keys: &[&str], spaced: bool, depth: usize) {
    let line = |text: &mut String, depth: usize| {
        if spaced {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        }
    };
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(key, _)| {
                keys.iter().position(|known| known == key).unwrap_or(usize::MAX)
            });
            text.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                line(text, depth + 1);
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push_str(if spaced { " : " } else { ":" });
                write(text, value, keys, spaced, depth + 1);
            }
            line(text, depth);
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for (index, value) in list.iter().enumerate() {
                text.push_str(match (index, spaced) {
                    (0, _) => "",
                    (_, true) => ", ",
                    (_, false) => ",",
                });
                write(text, value, keys, spaced, depth);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_reads_back_with_other_words_and_the_same_meaning() {
        let text = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
            "Principal": {"AWS": ["111111111111", "arn:aws:iam::222222222222:role/a"]},
            "Action": ["ecr:BatchGetImage"]}});
        let parsed = parse(&text.to_string()).expect("a good policy");
        let read = |turn| -> Value {
            serde_json::from_str(&read_back(&parsed, "eu-west-1", turn)).expect("JSON")
        };
        assert_eq!(read(0)["Statement"][0]["Action"], "ecr:BatchGetImage");
        assert_eq!(
            read(0)["Statement"][0]["Principal"]["AWS"][0],
            "arn:aws:iam::111111111111:root"
        );
        assert_eq!(
            read(1)["Statement"][0]["Principal"]["AWS"][1],
            "arn:aws:iam::111111111111:root"
        );
    }

    #[test]
    fn policies_that_iam_would_not_take_are_refused() {
        let statement = |statement: Value| {
            json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
        };
        let allow = |principal: Value| {
            json!({"Effect": "Allow", "Principal": principal,
            "Action": "ecr:*"})
        };
        assert!(parse(&statement(allow(json!("*")))).is_ok());
        assert!(parse(&statement(allow(json!({"AWS": "1234"})))).is_err());
        assert!(parse(&statement(allow(json!({"AWS": 123_456_789_012_u64})))).is_err());
        assert!(parse(&statement(json!({"Effect": "Allow", "Principal": "*"}))).is_err());
        assert!(parse("").is_err());
    }
}
