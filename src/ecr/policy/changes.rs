//! All differences between two policies, rule by rule, in words: for plans.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Kind;
use crate::text::shortened;

/// Longest value in a text, in characters.
const LONGEST: usize = 60;

/// Describes the changes from `old` to `new`, both canonical.
pub(super) fn between(kind: Kind, old: &Value, new: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    let old_rules = rules(kind, old);
    let new_rules = rules(kind, new);

    let names: BTreeSet<_> = old_rules.keys().chain(new_rules.keys()).collect();
    for name in names {
        match (old_rules.get(name), new_rules.get(name)) {
            (Some(old), Some(new)) => fields(&name.1, old, new, &mut changes),
            (None, Some(_)) => changes.push(format!("+ {}", name.1)),
            (Some(_), None) => changes.push(format!("- {}", name.1)),
            (None, None) => {}
        }
    }

    let rest = |document: &Value| {
        let mut rest = document.as_object().cloned().unwrap_or_default();
        rest.remove(kind.list());
        Value::Object(rest)
    };
    fields("", &rest(old), &rest(new), &mut changes);

    changes
}

/// Returns the rules by name. A lifecycle rule is named by its priority, a statement by its Sid or
/// else its position. The number comes first, so that rule 10 sorts after rule 2.
fn rules(kind: Kind, document: &Value) -> BTreeMap<(u64, String), &Value> {
    let list = document.get(kind.list()).and_then(Value::as_array);
    let rules = list.into_iter().flatten().enumerate();
    rules
        .map(|(index, rule)| {
            let position = index as u64 + 1;
            let name = match kind {
                Kind::Lifecycle => {
                    let priority =
                        rule.get("rulePriority").and_then(Value::as_u64).unwrap_or(position);
                    (priority, format!("rule {priority}"))
                }
                Kind::Permission => match rule.get("Sid").and_then(Value::as_str) {
                    Some(sid) => (0, format!("statement {sid}")),
                    None => (position, format!("statement {position}")),
                },
            };
            (name, rule)
        })
        .collect()
}

/// Appends the fields that differ, each named by its last key: the author of the policy knows the
/// rest of the path.
fn fields(name: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);

    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if name.is_empty() { key.clone() } else { format!("{name} {key}") };
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
                // The names `selection` and `action` add nothing; `Principal` and `Condition` do.
                let prefix =
                    if matches!(key.as_str(), "selection" | "action") { name } else { &path };
                fields(prefix, old, new, changes);
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                let added = new
                    .iter()
                    .filter(|value| !old.contains(value))
                    .map(|value| format!("+{}", shown(value)));
                let removed = old
                    .iter()
                    .filter(|value| !new.contains(value))
                    .map(|value| format!("-{}", shown(value)));
                changes
                    .push(format!("{path} {}", added.chain(removed).collect::<Vec<_>>().join(" ")));
            }
            (Some(old), Some(new)) => {
                changes.push(format!("{path} {} -> {}", shown(old), shown(new)))
            }
            (None, Some(new)) => changes.push(format!("{path} {} is new", shown(new))),
            (Some(old), None) => changes.push(format!("{path} {} is removed", shown(old))),
            (None, None) => {}
        }
    }
}

/// Returns a value on one line; strings without quotes.
fn shown(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), |text| format!("{text:?}").trim_matches('"').to_owned());
    shortened(&text, LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::changes;
    use super::*;

    fn texts(kind: Kind, live: &Value, wanted: Value) -> Vec<String> {
        let Value::Object(wanted) = wanted else { panic!("a policy is an object") };
        changes(kind, &wanted, &live.to_string())
    }

    fn rule(priority: u32, count: u32) -> Value {
        json!({"rulePriority": priority, "action": {"type": "expire"},
               "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": count}})
    }

    #[test]
    fn lifecycle_rules_are_compared_by_priority() {
        let live = json!({"rules": [rule(2, 10), rule(10, 1), rule(3, 5)]});
        let mut described = rule(2, 20);
        described["description"] = json!("Keep twenty");
        described["selection"]["tagStatus"] = json!("tagged");
        described["selection"]["tagPatternList"] = json!(["v*"]);

        assert_eq!(
            texts(Kind::Lifecycle, &live, json!({"rules": [rule(1, 7), described, rule(10, 1)]})),
            [
                "+ rule 1",
                "rule 2 description Keep twenty is new",
                "rule 2 countNumber 10 -> 20",
                "rule 2 tagPatternList [\"v*\"] is new",
                "rule 2 tagStatus any -> tagged",
                "- rule 3",
            ]
        );
    }

    #[test]
    fn statements_are_compared_by_sid() {
        let statement = |sid: Option<&str>, actions: &[&str], account: &str| {
            let mut statement =
                json!({"Effect": "Allow", "Action": actions, "Principal": {"AWS": account}});
            if let Some(sid) = sid {
                statement["Sid"] = json!(sid);
            }
            statement
        };
        let live = json!({"Version": "2008-10-17", "Statement": [
            statement(Some("Pull"), &["ecr:BatchGetImage", "ecr:ListImages"], "arn:aws:iam::111111111111:root"),
            statement(Some("Old"), &["ecr:*"], "111111111111"),
        ]});

        let wanted = json!({"Version": "2012-10-17", "Statement": [
            statement(Some("Pull"), &["ecr:BatchGetImage", "ecr:DescribeImages"], "222222222222"),
        ]});
        assert_eq!(
            texts(Kind::Permission, &live, wanted.clone()),
            [
                "- statement Old",
                "statement Pull Action +ecr:DescribeImages -ecr:ListImages",
                "statement Pull Principal AWS +222222222222 -111111111111",
                "Version 2008-10-17 -> 2012-10-17",
            ]
        );
        assert_eq!(texts(Kind::Permission, &wanted, wanted.clone()), [""; 0]);
    }

    #[test]
    fn long_values_are_cut_and_control_characters_do_not_reach_the_terminal() {
        let live = json!({"rules": [rule(1, 1)]});
        let mut wanted = rule(1, 1);
        wanted["description"] = json!(format!("\u{1b}[31m{}", "x".repeat(500)));
        let text = texts(Kind::Lifecycle, &live, json!({"rules": [wanted]})).remove(0);
        assert!(text.len() < 120 && !text.contains('\u{1b}'), "{text}");
    }
}
