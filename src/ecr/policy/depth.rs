//! Depth of a policy.

use serde_json::Value;

use super::{Kind, Policy};
use crate::text::shortened;
use crate::violation::Violation;

/// Levels of lists and objects in a document. The deepest policies that AWS accepts have six: the
/// document, Statement, a statement, Condition, an operator, and the values of a key.
///
/// The schema of the resource cannot have this bound. A structural schema either names all fields
/// of an object, and the API server then drops the other ones without a word, or it accepts any
/// JSON in them. A dropped field could make a lifecycle rule expire more images than was meant.
const DEEPEST: usize = 16;

/// Longest path in a message, in characters.
const LONGEST_PATH: usize = 120;

/// Returns the violation of a document that is too deep.
pub(super) fn check(kind: Kind, policy: &Policy) -> Option<Violation> {
    let path = policy.iter().find_map(|(name, value)| too_deep(value, DEEPEST - 1, name))?;
    let path = format!("{}.{}", kind.field(), shortened(&path, LONGEST_PATH));
    let advice = "no policy that AWS accepts is as deep; correct its structure";
    Some(Violation::new(path, format!("nested more than {DEEPEST} levels deep: {advice}")))
}

/// Returns the path of the first value below which more than `left` levels follow.
fn too_deep(value: &Value, left: usize, path: &str) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) if left == 0 => Some(path.to_owned()),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| too_deep(value, left - 1, &format!("{path}[{index}]"))),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(name, value)| too_deep(value, left - 1, &format!("{path}.{name}"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Wanted;
    use super::super::tests::policy;
    use super::*;

    /// A document of this depth, whose deepest value is in a list.
    fn document(list: &str, depth: usize) -> Policy {
        let inner = (3..depth).fold(json!([]), |inner, _| json!({"a": inner}));
        policy(json!({list: [inner]}))
    }

    #[test]
    fn a_document_of_16_levels_is_accepted_and_one_of_17_names_the_field() {
        for (kind, list) in [(Kind::Lifecycle, "rules"), (Kind::Permission, "Statement")] {
            assert_eq!(check(kind, &document(list, 3)), None);
            assert_eq!(check(kind, &document(list, DEEPEST)), None);

            for depth in [DEEPEST + 1, 110] {
                let deep = document(list, depth);
                let violation = check(kind, &deep).expect("too deep");
                let path = format!("{}.{list}[0]{}", kind.field(), ".a".repeat(DEEPEST - 2));
                assert_eq!(violation.path, path);
                assert_eq!(Wanted::read(kind, Some(&deep)), Err(vec![violation]));
            }
        }
    }

    #[test]
    fn a_path_of_long_names_is_cut() {
        let deep = (0..20).fold(json!({}), |inner, _| json!({"a".repeat(50): inner}));
        let violation = check(Kind::Permission, &policy(json!({"Statement": deep}))).expect("deep");
        assert!(violation.path.chars().count() < 160, "{}", violation.path);
    }
}
