//! Lifecycle policies: the grammar that ECR checks, and how a policy reads back.
//!
//! User Guide, "Lifecycle policy properties in Amazon ECR".

use std::collections::HashSet;

use serde_json::{Value, json};

use super::errors::{Error, Result};
use super::policy::render;

const MOST_RULES: usize = 50;

/// The order in which ECR writes keys.
const KEYS: [&str; 15] = [
    "rules",
    "rulePriority",
    "description",
    "selection",
    "tagStatus",
    "tagPatternList",
    "tagPrefixList",
    "storageClass",
    "countType",
    "countUnit",
    "countNumber",
    "action",
    "type",
    "targetStorageClass",
    "",
];

/// Checks a policy text.
pub(crate) fn parse(text: &str) -> Result<Value> {
    let policy: Value = serde_json::from_str(text).map_err(|_| invalid("invalid JSON"))?;
    let rules = policy["rules"]
        .as_array()
        .ok_or_else(|| invalid("object has missing required properties ([\"rules\"])"))?;
    only_keys(&policy, &["rules"])?;
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Err(invalid(&format!("a policy has 1 to {MOST_RULES} rules")));
    }
    let mut priorities = HashSet::new();
    for rule in rules {
        let priority = check_rule(rule)?;
        if !priorities.insert(priority) {
            return Err(invalid(&format!("rulePriority {priority} is used more than once")));
        }
    }
    check_last(rules, "any")?;
    Ok(policy)
}

fn check_rule(rule: &Value) -> Result<u64> {
    only_keys(rule, &["rulePriority", "description", "selection", "action"])?;
    let priority = rule["rulePriority"].as_u64().filter(|priority| *priority >= 1);
    let priority =
        priority.ok_or_else(|| invalid("rulePriority must be an integer of at least 1"))?;
    if !rule["description"].is_null() && !rule["description"].is_string() {
        return Err(invalid("description must be a string"));
    }
    let selection = &rule["selection"];
    let keys = [
        "tagStatus",
        "tagPatternList",
        "tagPrefixList",
        "storageClass",
        "countType",
        "countUnit",
        "countNumber",
    ];
    only_keys(selection, &keys)?;
    check_tags(selection)?;
    let transition = check_action(&rule["action"])?;
    check_count(selection, transition)?;
    Ok(priority)
}

fn check_tags(selection: &Value) -> Result<()> {
    let list = |name: &str| match &selection[name] {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            Ok(list.iter().filter_map(Value::as_str).collect())
        }
        _ => Err(invalid(&format!("{name} must be a list of strings"))),
    };
    let (patterns, prefixes) = (list("tagPatternList")?, list("tagPrefixList")?);
    match selection["tagStatus"].as_str() {
        Some("tagged") if patterns.is_empty() == prefixes.is_empty() => {
            Err(invalid("tagStatus tagged needs exactly one of tagPatternList and tagPrefixList"))
        }
        Some("tagged") if patterns.iter().any(|pattern| pattern.matches('*').count() > 4) => {
            Err(invalid("a tag pattern has at most four wildcards"))
        }
        Some("tagged") => Ok(()),
        Some("untagged" | "any") if patterns.is_empty() && prefixes.is_empty() => Ok(()),
        Some("untagged" | "any") => Err(invalid("tag lists need tagStatus tagged")),
        _ => Err(invalid("tagStatus must be one of tagged, untagged, any")),
    }
}

/// Whether the action archives.
fn check_action(action: &Value) -> Result<bool> {
    only_keys(action, &["type", "targetStorageClass"])?;
    match (action["type"].as_str(), action["targetStorageClass"].as_str()) {
        (Some("expire"), None) => Ok(false),
        (Some("transition"), Some("archive")) => Ok(true),
        _ => Err(invalid("action must be expire, or transition with targetStorageClass archive")),
    }
}

/// `sinceImagePulled` only archives; `sinceImageTransitioned` only expires, from the archive, after
/// 90 days or more.
fn check_count(selection: &Value, transition: bool) -> Result<()> {
    let number = selection["countNumber"].as_u64().filter(|number| *number >= 1);
    let number = number.ok_or_else(|| invalid("countNumber must be an integer of at least 1"))?;
    let days = match selection["countUnit"].as_str() {
        None if selection["countUnit"].is_null() => false,
        Some("days") => true,
        _ => return Err(invalid("countUnit must be days")),
    };
    let archive = match selection["storageClass"].as_str() {
        None if selection["storageClass"].is_null() => false,
        Some("standard") => false,
        Some("archive") => true,
        _ => return Err(invalid("storageClass must be standard or archive")),
    };
    let fine = match selection["countType"].as_str() {
        Some("imageCountMoreThan") => !days && !archive,
        Some("sinceImagePushed") => days && !archive,
        Some("sinceImagePulled") => days && !archive && transition,
        Some("sinceImageTransitioned") => days && archive && !transition && number >= 90,
        _ => false,
    };
    if fine {
        Ok(())
    } else {
        Err(invalid("countType does not go with countUnit, countNumber, storageClass or action"))
    }
}

/// A rule for any tag comes last, one for each storage class.
fn check_last(rules: &[Value], status: &str) -> Result<()> {
    for class in ["standard", "archive"] {
        let in_class: Vec<_> = rules
            .iter()
            .filter(|rule| {
                rule["selection"]["storageClass"].as_str().unwrap_or("standard") == class
            })
            .collect();
        let priority = |rule: &&Value| rule["rulePriority"].as_u64().unwrap_or_default();
        let last = in_class.iter().map(priority).max();
        let any: Vec<_> =
            in_class.iter().filter(|rule| rule["selection"]["tagStatus"] == status).collect();
        if any.len() > 1 || any.first().is_some_and(|rule| Some(priority(rule)) != last) {
            return Err(invalid("a rule with tagStatus any must have the highest rulePriority"));
        }
        if in_class.iter().filter(|rule| rule["selection"]["tagStatus"] == "untagged").count() > 1 {
            return Err(invalid("only one rule may select untagged images"));
        }
    }
    Ok(())
}

fn only_keys(value: &Value, known: &[&str]) -> Result<()> {
    let object = value.as_object().ok_or_else(|| invalid("an object is missing"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(invalid(&format!(
            "object instance has properties which are not allowed by the schema: [\"{key}\"]"
        ))),
    }
}

fn invalid(why: &str) -> Error {
    Error::invalid(
        "LifecyclePolicyText",
        format_args!("Lifecycle policy validation failure: {why}"),
    )
}

/// Returns the policy as ECR does: rules by priority (hashicorp/terraform-provider-aws#22639), tag
/// lists in another order, other key order and white space. The default storage class is written
/// out (assumed: whether ECR does so is not known).
pub(crate) fn read_back(policy: &Value) -> String {
    let mut rules = policy["rules"].as_array().cloned().unwrap_or_default();
    rules.sort_by_key(|rule| rule["rulePriority"].as_u64());
    for rule in &mut rules {
        let selection = &mut rule["selection"];
        for list in ["tagPatternList", "tagPrefixList"] {
            if let Some(list) = selection[list].as_array_mut() {
                list.reverse();
            }
        }
        if let Some(selection) = selection.as_object_mut() {
            selection.retain(|_, value| !value.is_null());
            selection.entry("storageClass").or_insert_with(|| "standard".into());
        }
    }
    render(&json!({"rules": rules}), &KEYS, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u64, selection: &Value, action: &Value) -> Value {
        json!({"rulePriority": priority, "selection": selection, "action": action})
    }

    #[test]
    fn grammar_follows_the_user_guide() {
        let (expire, archive) = (
            json!({"type": "expire"}),
            json!({"type": "transition", "targetStorageClass": "archive"}),
        );
        let untagged =
            json!({"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1});
        let any = json!({"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days",
            "countNumber": 1});
        let pulled = json!({"tagStatus": "any", "countType": "sinceImagePulled",
            "countUnit": "days", "countNumber": 1});
        let moved = json!({"tagStatus": "any", "countType": "sinceImageTransitioned",
            "countUnit": "days", "countNumber": 90,
            "storageClass": "archive"});
        let prefix = json!({"tagStatus": "tagged", "tagPrefixList": ["v"],
            "countType": "imageCountMoreThan", "countNumber": 1});
        let bare =
            json!({"tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": 1});
        let cases = [
            (vec![rule(1, &untagged, &expire)], true),
            (vec![rule(2, &any, &expire), rule(1, &untagged, &expire)], true),
            (vec![rule(1, &any, &expire), rule(2, &untagged, &expire)], false),
            (vec![rule(1, &untagged, &expire), rule(1, &any, &expire)], false),
            (vec![rule(1, &pulled, &archive), rule(2, &moved, &expire)], true),
            (vec![rule(1, &pulled, &expire)], false),
            (vec![rule(1, &moved, &archive)], false),
            (vec![rule(1, &prefix, &expire)], true),
            (vec![rule(1, &bare, &expire)], false),
            (vec![rule(0, &untagged, &expire)], false),
            (Vec::new(), false),
        ];
        for (rules, fine) in cases {
            let text = json!({"rules": rules}).to_string();
            assert_eq!(parse(&text).is_ok(), fine, "{text}");
        }
    }
}
