//! Wildcard patterns with `*`: exclusion filters, lifecycle rules, selectors, tables of tenants and
//! roles.

/// Whether one of the patterns matches `text`.
pub(crate) fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// Whether `pattern` matches all of `text`; `*` matches any number of characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) =
        rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
    let Some(mut text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else {
        return false;
    };

    // Between the ends, the leftmost match of each part leaves the most room for the next: no
    // backtracking is needed.
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }

    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_matches_any_number_of_characters() {
        let table = [
            ("latest", "latest", true),
            ("latest", "latest1", false),
            ("", "", true),
            ("*", "", true),
            ("*", "1.27", true),
            ("1.*", "1.", true),
            ("1.*", "11", false),
            ("lat*st", "latest", true),
            ("aba*aba", "aba", false),
            ("aba*aba", "abaaba", true),
            ("*-dev*", "1.0-dev.3", true),
            ("*-dev*", "1.0-de", false),
            ("a*b*c*d", "a-b-bb-c-cd", true),
            ("a*b*c*d", "a-c-b-d", false),
            ("**1**", "1", true),
            ("*ö*", "schön", true),
        ];
        for (pattern, text, wanted) in table {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        assert!(!matches(&"*a".repeat(64), &format!("{}b", "a".repeat(300))));
        assert!(!matches(&format!("{}b*", "*a".repeat(62)), &"a".repeat(300)));
    }
}
