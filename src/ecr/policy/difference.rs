//! The first difference between two policies, in words: for conditions.

use serde_json::Value;

use crate::text::shortened;

/// Longest value in a text, in characters.
const LONGEST: usize = 120;

/// Describes the first difference of `live` from `wanted`, both canonical; `None` if they are
/// equal.
pub(super) fn first(wanted: &Value, live: &Value) -> Option<String> {
    find("", wanted, live)
}

fn find(path: &str, wanted: &Value, live: &Value) -> Option<String> {
    match (wanted, live) {
        (wanted, live) if wanted == live => None,
        (Value::Object(wanted), Value::Object(live)) => {
            let keys: std::collections::BTreeSet<_> = wanted.keys().chain(live.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (wanted.get(key), live.get(key)) {
                    (Some(wanted), Some(live)) => find(&path, wanted, live),
                    (Some(wanted), None) => Some(format!("{path}: {} is missing", shown(wanted))),
                    (None, Some(live)) => {
                        Some(format!("{path}: {} exists in ECR but is not wanted", shown(live)))
                    }
                    (None, None) => None,
                }
            })
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            let mut pairs = wanted.iter().zip(live).enumerate();
            pairs
                .find_map(|(index, (wanted, live))| find(&format!("{path}[{index}]"), wanted, live))
        }
        (wanted, live) => Some(format!("{path}: is {}, not {}", shown(live), shown(wanted))),
    }
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string(), LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let wanted = json!({"rules": [{"rulePriority": 1, "selection": {"countNumber": 5}}, {"rulePriority": 2}]});
        let table = [
            (
                json!({"rules": [{"rulePriority": 1, "selection": {"countNumber": 7}}, {"rulePriority": 2}]}),
                "rules[0].selection.countNumber: is 7, not 5",
            ),
            (
                json!({"rules": [{"rulePriority": 1, "selection": {"countNumber": 5}}, {}]}),
                "rules[1].rulePriority: 2 is missing",
            ),
            (
                json!({"rules": [
                    {"rulePriority": 1, "selection": {"countNumber": 5}},
                    {"rulePriority": 2, "x": true},
                ]}),
                "rules[1].x: true exists in ECR but is not wanted",
            ),
            (
                json!({}),
                "rules: [{\"rulePriority\":1,\"selection\":{\"countNumber\":5}},{\"rulePriority\":2}] is missing",
            ),
        ];
        for (live, text) in table {
            assert_eq!(first(&wanted, &live).as_deref(), Some(text));
        }

        assert_eq!(first(&wanted, &wanted), None);
        let long = json!({"a": "x".repeat(1000)});
        assert!(first(&json!({}), &long).is_some_and(|text| text.chars().count() < 200));
    }
}
