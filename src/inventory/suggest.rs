//! Suggestions for misspelt field names: "did you mean".

use strsim::osa_distance;

/// Returns the message for an unknown field: the nearest known name, else all known names.
pub(super) fn unknown_field(unknown: &str, known: &[&str]) -> String {
    match nearest(unknown, known) {
        Some(name) => format!("unknown field `{unknown}`, did you mean `{name}`?"),
        None => format!("unknown field `{unknown}`: known fields are {}", known.join(", ")),
    }
}

/// Returns the known name that is at most two typing errors away, or of which one name is a prefix
/// of the other.
pub(super) fn nearest<'k>(unknown: &str, known: &[&'k str]) -> Option<&'k str> {
    let unknown = unknown.to_lowercase();
    let known = || known.iter().map(|name| (*name, name.to_lowercase()));

    let similar = known()
        .map(|(name, lower)| (osa_distance(&unknown, &lower), name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name);
    let shortened = || known().find(|(_, lower)| unknown.len() >= 3 && lower.starts_with(&unknown));
    let extended = || {
        known()
            .filter(|(_, lower)| lower.len() >= 3 && unknown.starts_with(lower))
            .max_by_key(|(name, _)| name.len())
    };

    similar.or_else(|| shortened().or_else(extended).map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_typing_errors_or_a_common_beginning_are_forgiven() {
        let known = [
            "name",
            "image",
            "tags",
            "tagStrategy",
            "lifecyclePolicy",
            "lifecycle_policy",
            "permissionPolicy",
        ];
        for (unknown, meant) in [
            ("imagee", Some("image")),
            ("nmae", Some("name")),
            ("tag", Some("tags")),
            ("tagStrat", Some("tagStrategy")),
            ("permission", Some("permissionPolicy")),
            ("lifecycle_polcy", Some("lifecycle_policy")),
            ("LifecyclePolicy", Some("lifecyclePolicy")),
            ("images_to_copy", Some("image")),
            ("owner", None),
            ("n", None),
            ("", None),
        ] {
            assert_eq!(nearest(unknown, &known), meant, "{unknown}");
        }
    }

    #[test]
    fn a_name_that_resembles_nothing_is_answered_with_the_names_there_are() {
        assert_eq!(
            unknown_field("imagee", &["name", "image"]),
            "unknown field `imagee`, did you mean `image`?"
        );
        assert_eq!(
            unknown_field("owner", &["name", "image"]),
            "unknown field `owner`: known fields are name, image"
        );
    }
}
