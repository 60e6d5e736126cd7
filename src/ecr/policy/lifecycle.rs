//! Lifecycle policies: `{"rules": [{"rulePriority", "description", "selection", "action"}]}`.

use std::mem::take;

use serde_json::Value;

use super::Policy;
use super::{sorted, type_name};
use crate::violation::Violation;

/// Returns the problems that AWS would refuse, each with its path. Does not check the values of
/// enums: AWS adds some.
pub(super) fn check(policy: &Policy) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut wrong = |path: String, message: &str| {
        violations.push(Violation::new(format!("lifecyclePolicy.{path}"), message))
    };
    let Some(rules) = policy.get("rules").and_then(Value::as_array) else {
        wrong(
            "rules".to_owned(),
            "is not a list: write rules: [{rulePriority: 1, selection: {...}, action: {...}}]",
        );
        return violations;
    };
    if rules.len() > 50 {
        wrong("rules".to_owned(), &format!("{} rules: ECR takes at most 50", rules.len()));
    }

    let mut priorities = std::collections::BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut wrong = |field: &str, text: &str| wrong(format!("rules[{index}]{field}"), text);
        let Some(rule) = rule.as_object() else {
            wrong("", &format!("is {}, not an object", type_name(rule)));
            continue;
        };

        match rule.get("rulePriority").map(Value::as_u64) {
            None => wrong(".rulePriority", "is missing: write a whole number, lowest first"),
            Some(None | Some(0)) => wrong(".rulePriority", "is not a whole number of at least 1"),
            Some(Some(priority)) => {
                if let Some(other) = priorities.insert(priority, index) {
                    let text =
                        format!("{priority} is taken by rules[{other}]: each rule needs its own");
                    wrong(".rulePriority", &text);
                }
            }
        }

        match rule.get("selection").map(Value::as_object) {
            None => wrong(".selection", "is missing"),
            Some(None) => wrong(".selection", "is not an object"),
            Some(Some(selection)) => {
                for key in ["tagStatus", "countType"] {
                    if !selection.get(key).is_some_and(Value::is_string) {
                        wrong(&format!(".selection.{key}"), "is missing or not a string");
                    }
                }
                let number = selection.get("countNumber").and_then(Value::as_u64);
                if number.is_none_or(|number| number == 0) {
                    let text = "is missing or not a whole number of at least 1";
                    wrong(".selection.countNumber", text);
                }
            }
        }

        if !rule.get("action").and_then(|action| action.get("type")).is_some_and(Value::is_string) {
            wrong(".action.type", "is missing or not a string: write expire");
        }
    }

    violations
}

/// Sorts rules by priority and tag lists by text; drops empty lists and the default storage class.
pub(super) fn canonical(policy: &Policy) -> Value {
    let mut policy = policy.clone();
    if let Some(Value::Array(rules)) = policy.get_mut("rules") {
        for rule in rules.iter_mut() {
            let Some(selection) = rule.get_mut("selection").and_then(Value::as_object_mut) else {
                continue;
            };
            for key in ["tagPatternList", "tagPrefixList"] {
                match selection.get_mut(key) {
                    Some(Value::Array(list)) if !list.is_empty() => *list = sorted(take(list)),
                    Some(Value::Array(_) | Value::Null) => drop(selection.remove(key)),
                    _ => {}
                }
            }
            if selection.get("storageClass").and_then(Value::as_str) == Some("standard") {
                selection.remove("storageClass");
            }
        }
        rules.sort_by_key(|rule| {
            rule.get("rulePriority").and_then(Value::as_i64).unwrap_or(i64::MAX)
        });
    }

    Value::Object(policy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::policy;
    use super::super::{Kind, Wanted, means_the_same};
    use super::*;

    fn rule(priority: u32, change: impl FnOnce(&mut Value)) -> Value {
        let mut rule = json!({
            "rulePriority": priority,
            "selection": {"tagStatus": "tagged", "tagPatternList": ["v*", "1.*"],
                "countType": "imageCountMoreThan", "countNumber": 10},
            "action": {"type": "expire"}
        });
        change(&mut rule);
        rule
    }

    #[test]
    fn forms_that_ecr_rewrites_are_equal() {
        let wanted = policy(json!({"rules": [rule(2, |_| {}), rule(1, |_| {})]}));
        let live = json!({"rules": [
            rule(1, |r| {
                r["selection"]["tagPatternList"] = json!(["1.*", "v*"]);
                r["selection"]["tagPrefixList"] = json!([]);
            }),
            rule(2, |r| r["selection"]["storageClass"] = json!("standard")),
        ]});
        assert!(means_the_same(Kind::Lifecycle, &wanted, &live.to_string()));
    }

    #[test]
    fn every_real_change_is_a_difference() {
        let wanted = policy(json!({"rules": [rule(1, |_| {})]}));
        let changes: [fn(&mut Value); 7] = [
            |r| r["selection"]["tagPatternList"] = json!(["v*"]),
            |r| r["selection"]["countNumber"] = json!(11),
            |r| r["selection"]["countType"] = json!("sinceImagePushed"),
            |r| r["description"] = json!("new"),
            |r| r["selection"]["storageClass"] = json!("archive"),
            |r| r["action"] = json!({"type": "transition", "targetStorageClass": "archive"}),
            |r| r["unknown"] = json!(true),
        ];

        for (index, change) in changes.into_iter().enumerate() {
            let live = json!({"rules": [rule(1, change)]});
            assert!(!means_the_same(Kind::Lifecycle, &wanted, &live.to_string()), "change {index}");
        }

        assert!(!means_the_same(Kind::Lifecycle, &wanted, "not json"));
    }

    #[test]
    fn absent_empty_and_given_policies_differ() {
        assert_eq!(Wanted::read(Kind::Lifecycle, None), Ok(Wanted::Unmanaged));
        assert_eq!(
            Wanted::read(Kind::Lifecycle, Some(&policy(json!({"rules": []})))),
            Ok(Wanted::None)
        );
        let document = policy(json!({"rules": [rule(1, |_| {})]}));
        assert_eq!(
            Wanted::read(Kind::Lifecycle, Some(&document)),
            Ok(Wanted::Document(document.clone()))
        );
        assert!(Wanted::read(Kind::Lifecycle, Some(&policy(json!({"Rules": []})))).is_err());
    }

    #[test]
    fn each_problem_is_named_by_its_path() {
        let bad = policy(json!({"rules": [
            {"selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 0},
                "action": {"type": "expire"}},
            rule(3, |r| r["action"] = json!({})),
            rule(3, |_| {}),
            "text"
        ]}));
        let paths: Vec<_> = Wanted::read(Kind::Lifecycle, Some(&bad))
            .unwrap_err()
            .into_iter()
            .map(|v| v.path)
            .collect();

        assert_eq!(
            paths,
            [
                "lifecyclePolicy.rules[0].rulePriority",
                "lifecyclePolicy.rules[0].selection.countNumber",
                "lifecyclePolicy.rules[1].action.type",
                "lifecyclePolicy.rules[2].rulePriority",
                "lifecyclePolicy.rules[3]",
            ]
        );
    }
}
