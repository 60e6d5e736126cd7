//! What somebody meant by a name that nothing has.

/// `unknown field `imagee`, did you mean `image`?`, or the names there are.
pub(super) fn unknown_field(unknown: &str, known: &[&str]) -> String {
    match nearest(unknown, known) {
        Some(name) => format!("unknown field `{unknown}`, did you mean `{name}`?"),
        None => format!("unknown field `{unknown}`: known here are {}", known.join(", ")),
    }
}

/// The known name that is at most two typing errors away, or that one starts the other of.
pub(super) fn nearest<'k>(unknown: &str, known: &[&'k str]) -> Option<&'k str> {
    let unknown = unknown.to_lowercase();
    let close = known
        .iter()
        .map(|name| (distance(&unknown, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min_by_key(|(distance, _)| *distance);
    let shortened = || {
        known
            .iter()
            .copied()
            .find(|name| unknown.len() >= 3 && name.to_lowercase().starts_with(&unknown))
    };
    let extended = || {
        let begins = known
            .iter()
            .copied()
            .filter(|name| name.len() >= 3 && unknown.starts_with(&name.to_lowercase()));
        begins.max_by_key(|name| name.len())
    };
    close.map(|(_, name)| name).or_else(shortened).or_else(extended)
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
            "unknown field `owner`: known here are name, image"
        );
    }
}
