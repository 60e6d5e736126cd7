//! Permission policies (ECR calls them repository policies): IAM documents without a Resource.
//!
//! Equal forms are those of hashicorp/awspolicyequivalence: one value and a list of it, order in
//! sets, order of statements, case of Effect, an account ID and its root ARN. Version, Id and Sid
//! are compared literally.

use serde_json::Value;

use super::Policy;
use super::{sorted, type_name};
use crate::violation::Violation;

/// Elements of a statement that hold a string or a set of strings.
const STRING_SETS: [&str; 4] = ["Action", "NotAction", "Resource", "NotResource"];
/// Elements that hold principals.
const PRINCIPALS: [&str; 2] = ["Principal", "NotPrincipal"];

/// Returns the problems that AWS would refuse or misread, each with its path.
pub(super) fn check(policy: &Policy) -> Vec<Violation> {
    let mut violations = Vec::new();
    let root = "permissionPolicy";
    if let Some(version) = policy.get("Version")
        && !version.is_string()
    {
        let message = format!("is {}: quote it: \"2012-10-17\"", type_name(version));
        violations.push(Violation::new(format!("{root}.Version"), message));
    }

    match policy.get("Statement") {
        Some(Value::Array(statements)) => {
            for (index, statement) in statements.iter().enumerate() {
                check_statement(&format!("{root}.Statement[{index}]"), statement, &mut violations);
            }
        }
        Some(statement @ Value::Object(_)) => {
            check_statement(&format!("{root}.Statement"), statement, &mut violations)
        }
        Some(other) => violations.push(Violation::new(
            format!("{root}.Statement"),
            format!("is {}: write a list of statements", type_name(other)),
        )),
        None => {}
    }

    violations
}

fn check_statement(path: &str, statement: &Value, violations: &mut Vec<Violation>) {
    let Some(statement) = statement.as_object() else {
        let message = format!("is {}, not an object", type_name(statement));
        violations.push(Violation::new(path, message));
        return;
    };

    let effect = statement.get("Effect").and_then(Value::as_str).unwrap_or_default();
    if !["allow", "deny"].iter().any(|known| effect.eq_ignore_ascii_case(known)) {
        violations
            .push(Violation::new(format!("{path}.Effect"), "is missing or not Allow or Deny"));
    }

    for pair in [["Action", "NotAction"], ["Principal", "NotPrincipal"]] {
        if !pair.iter().any(|key| statement.contains_key(*key)) {
            violations.push(Violation::new(format!("{path}.{}", pair[0]), "is missing"));
        }
    }

    for key in STRING_SETS.into_iter().chain(["Sid"]) {
        if let Some(value) = statement.get(key) {
            check_strings(&format!("{path}.{key}"), value, violations);
        }
    }

    for key in PRINCIPALS {
        match statement.get(key) {
            Some(Value::Object(kinds)) => {
                for (kind, value) in kinds {
                    check_strings(&format!("{path}.{key}.{kind}"), value, violations);
                }
            }
            Some(value) => check_strings(&format!("{path}.{key}"), value, violations),
            None => {}
        }
    }
}

/// Reports values that are not strings. YAML reads an unquoted account ID as a number, and drops
/// its leading zeros.
fn check_strings(path: &str, value: &Value, violations: &mut Vec<Violation>) {
    match value {
        Value::String(_) => {}
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                check_strings(&format!("{path}[{index}]"), value, violations);
            }
        }
        Value::Number(number) => {
            let message = format!("is the number {number}, not a string: quote it");
            violations.push(Violation::new(path, message));
        }
        other => {
            violations.push(Violation::new(path, format!("is {}, not a string", type_name(other))))
        }
    }
}

pub(super) fn canonical(policy: &Policy) -> Value {
    let mut policy = policy.clone();
    if let Some(statement) = policy.remove("Statement") {
        let statements = as_list(statement).into_iter().map(canonical_statement).collect();
        policy.insert("Statement".to_owned(), Value::Array(sorted(statements)));
    }
    Value::Object(policy)
}

fn canonical_statement(statement: Value) -> Value {
    let Value::Object(mut statement) = statement else { return statement };
    if let Some(Value::String(effect)) = statement.get_mut("Effect") {
        *effect = effect.to_ascii_lowercase();
    }

    for key in STRING_SETS {
        if let Some(value) = statement.remove(key) {
            statement.insert(key.to_owned(), set(value, &|value| value));
        }
    }

    for key in PRINCIPALS {
        if let Some(value) = statement.remove(key) {
            statement.insert(key.to_owned(), members(value, &|value| set(value, &root_arn)));
        }
    }

    if let Some(operators @ Value::Object(_)) = statement.remove("Condition") {
        statement.insert("Condition".to_owned(), members(operators, &canonical_condition));
    }

    Value::Object(statement)
}

/// Makes condition values sets of strings, as in `{"aws:PrincipalOrgID": ["o-1"]}`; `true` becomes
/// "true".
fn canonical_condition(keys: Value) -> Value {
    let as_string = |value: Value| match value {
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        other => other,
    };
    members(keys, &|value| set(value, &as_string))
}

/// Converts the members of an object.
fn members(value: Value, canonical: &dyn Fn(Value) -> Value) -> Value {
    let Value::Object(members) = value else { return value };
    Value::Object(members.into_iter().map(|(key, value)| (key, canonical(value))).collect())
}

/// Turns a value or a list into a sorted list without duplicates.
fn set(value: Value, canonical: &dyn Fn(Value) -> Value) -> Value {
    let mut values = sorted(as_list(value).into_iter().map(canonical).collect());
    values.dedup();
    Value::Array(values)
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        one => vec![one],
    }
}

/// Turns `arn:aws:iam::123456789012:root`, which AWS stores for `123456789012`, back into the
/// account ID; in any partition.
fn root_arn(value: Value) -> Value {
    let account = value.as_str().and_then(|text| {
        let rest = text.strip_prefix("arn:")?;
        let (_partition, rest) = rest.split_once(':')?;
        rest.strip_prefix("iam::")?.strip_suffix(":root")
    });
    match account {
        Some(account) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
            Value::String(account.to_owned())
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::policy;
    use super::super::{Kind, Wanted, means_the_same};
    use super::*;

    fn wanted() -> Value {
        json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "Pull", "Effect": "Allow",
                "Principal": {"AWS": ["123456789012", "arn:aws:iam::210987654321:role/ci"]},
             "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]},
            {"Sid": "Deny", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository",
             "Condition": {"Bool": {"aws:SecureTransport": false}}}
        ]})
    }

    #[test]
    fn forms_that_aws_rewrites_are_equal() {
        let live = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "Deny", "Effect": "Deny", "Principal": "*", "Action": ["ecr:DeleteRepository"],
             "Condition": {"Bool": {"aws:SecureTransport": ["false"]}}},
            {"Sid": "Pull", "Effect": "Allow",
             "Principal": {"AWS": ["arn:aws:iam::210987654321:role/ci", "arn:aws:iam::123456789012:root"]},
             "Action": ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]}
        ]});
        assert!(means_the_same(Kind::Permission, &policy(wanted()), &live.to_string()));
    }

    #[test]
    fn every_real_change_is_a_difference() {
        let changes: [fn(&mut Value); 8] = [
            |p| p["Version"] = json!("2008-10-17"),
            |p| p["Statement"][0]["Sid"] = json!("pull"),
            |p| p["Statement"][0]["Effect"] = json!("Deny"),
            |p| p["Statement"][0]["Principal"]["AWS"] = json!("123456789012"),
            |p| p["Statement"][0]["Action"] = json!(["ecr:BatchGetImage"]),
            |p| p["Statement"][1]["Condition"]["Bool"]["aws:SecureTransport"] = json!(true),
            |p| p["Statement"][1]["Principal"] = json!({"AWS": "*"}),
            |p| p["Statement"][0]["Unknown"] = json!(1),
        ];

        for (index, change) in changes.into_iter().enumerate() {
            let mut live = wanted();
            change(&mut live);
            assert!(
                !means_the_same(Kind::Permission, &policy(wanted()), &live.to_string()),
                "change {index}"
            );
        }
    }

    #[test]
    fn an_unquoted_account_id_is_named_with_its_path() {
        let bad = policy(json!({"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": [12_345_678_901_u64]}, "Action": "ecr:BatchGetImage"}
        ]}));
        let violations = Wanted::read(Kind::Permission, Some(&bad)).unwrap_err();
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "permissionPolicy.Statement[0].Principal.AWS[0]: is the number 12345678901, not a string: quote it"
        );
    }

    #[test]
    fn missing_elements_are_named() {
        let bad = policy(json!({"Statement": {"Principal": "*"}}));
        let paths: Vec<_> = Wanted::read(Kind::Permission, Some(&bad))
            .unwrap_err()
            .into_iter()
            .map(|v| v.path)
            .collect();

        assert_eq!(
            paths,
            ["permissionPolicy.Statement.Effect", "permissionPolicy.Statement.Action"]
        );
        assert_eq!(
            Wanted::read(Kind::Permission, Some(&policy(json!({"Statement": []})))),
            Ok(Wanted::None)
        );
    }
}
