//! The selector: `latest`, `semver`, `include`, `exclude` and `sortBy` applied to a source's tags.

use regex::bytes::{Regex, RegexBuilder};

use super::constraint::Constraint;
use super::number::Number;
use super::version::Version;
use crate::api::v1alpha1::{LONGEST_PATTERN, MAX_PATTERNS, SortBy, TagSelector};
use crate::violation::Violation;

/// Most memory of a compiled expression. `^v?[0-9]+\.[0-9]+\.[0-9]+$` takes about 5 kB; the limit
/// stops nested repetitions.
const COMPILED: usize = 256 << 10;
/// Least capacity of the list of candidates.
const ROOM: usize = 1024;
/// Most candidates to allocate for at once: the length of the longest common lists of tags.
const EXPECTED: usize = 100_000;

/// A valid selector.
///
/// Regular expressions have RE2 syntax without Unicode classes, as in Go and Flux: `\d` is `[0-9]`.
/// Matching takes time linear in the tag's length.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    latest: usize,
    semver: Option<Constraint>,
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    sort_by: SortBy,
}

impl Selector {
    /// Compiles the selector of a spec.
    ///
    /// # Errors
    /// The first field that is not valid, as a path from the selector: `semver`, `include[3]`.
    pub(crate) fn new(selector: &TagSelector) -> Result<Self, Violation> {
        let TagSelector { latest, semver, include, exclude, sort_by } = selector;
        let latest = usize::try_from(*latest).map_err(|_| {
            let advice = "is not a number of tags: write 5, or 0 for all that match";
            Violation::new("latest", format!("{latest} {advice}"))
        })?;
        let semver = semver.as_deref().map(str::parse::<Constraint>).transpose();

        Ok(Self {
            latest,
            semver: semver.map_err(|error| Violation::new("semver", error.to_string()))?,
            include: patterns("include", include)?,
            exclude: patterns("exclude", exclude)?,
            sort_by: *sort_by,
        })
    }

    /// Returns the wanted tags, newest first, each once. Order and duplicates of the input do not
    /// matter.
    ///
    /// Different tags of one version all count: 1.2.3 comes before v1.2.3, and 1.2.0 before 1.2
    /// (see [`Version`]). A greater `latest` selects the same tags first, and then older ones.
    ///
    /// Costs O(n log n) comparisons and 48 bytes per candidate. Holds at most twice `latest`
    /// candidates, or 1,024, at a time; all that match if `latest` is 0.
    pub(crate) fn select<'a>(&self, tags: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let wanted = tags.filter(|tag| self.is_wanted(tag));
        let versions = |tag: &'a str| {
            let version = Version::parse(tag)?;
            self.semver
                .as_ref()
                .is_none_or(|constraint| constraint.matches(&version))
                .then_some(version)
        };

        // With a constraint, every order drops tags that are not versions.
        let is_version = |tag: &&'a str| self.semver.is_none() || versions(tag).is_some();
        match self.sort_by {
            // Includes pre-releases, unless a constraint excludes them.
            SortBy::Semver => {
                texts(&newest(wanted.filter_map(versions), self.latest), Version::text)
            }
            SortBy::Numeric => texts(
                &newest(wanted.filter(is_version).filter_map(Number::parse), self.latest),
                Number::text,
            ),
            // By bytes: `9` is newer than `10`, and `a` newer than `Z`.
            SortBy::Alphabetical => {
                texts(&newest(wanted.filter(is_version), self.latest), |tag| tag)
            }
        }
    }

    fn is_wanted(&self, tag: &str) -> bool {
        let matches = |pattern: &Regex| pattern.is_match(tag.as_bytes());
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}

fn patterns(field: &str, texts: &[String]) -> Result<Vec<Regex>, Violation> {
    if texts.len() > MAX_PATTERNS {
        let message = format!(
            "has {} regular expressions: write at most {MAX_PATTERNS}, or join some with |",
            texts.len()
        );
        return Err(Violation::new(field, message));
    }
    let pattern = |(place, text): (usize, &String)| {
        pattern(text).map_err(|message| Violation::new(format!("{field}[{place}]"), message))
    };
    texts.iter().enumerate().map(pattern).collect()
}

fn pattern(text: &str) -> Result<Regex, String> {
    let length = text.chars().count();
    if length > LONGEST_PATTERN {
        return Err(format!(
            "the regular expression has {length} characters: write at most {LONGEST_PATTERN}"
        ));
    }

    // Tags are ASCII. Unicode's classes are a hundred times larger.
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(COMPILED).dfa_size_limit(COMPILED);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!(
            "the regular expression {text:?} is too complex: write smaller repetitions than those \
             in {{}}"
        ),
        // The parser shows the position over several lines; the last line is the reason.
        error => {
            let lines = error.to_string();
            let reason = lines.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!(
                "cannot read the regular expression {text:?}: {reason}: write one in RE2 syntax, \
                 such as ^1\\.[0-9]+$"
            )
        }
    })
}

/// Returns the greatest `latest` keys (0 means all), each once, greatest first.
fn newest<K: Ord>(keys: impl Iterator<Item = K>, latest: usize) -> Vec<K> {
    let settle = |best: &mut Vec<K>| {
        best.sort_unstable_by(|one, other| other.cmp(one));
        best.dedup_by(|one, other| one.cmp(&other).is_eq());
        if latest > 0 {
            best.truncate(latest);
        }
    };

    // Settling frees half of the room, so n keys cost O(n log room).
    let room = if latest == 0 { usize::MAX } else { latest.saturating_mul(2).max(ROOM) };
    // Growth by doubling would use up to three times as much memory.
    let expected = keys.size_hint().1.unwrap_or(0);
    let mut best = Vec::with_capacity(expected.min(EXPECTED).min(room));

    for key in keys {
        if best.len() == room {
            settle(&mut best);
        }
        best.push(key);
    }

    settle(&mut best);
    best
}

/// Collects into a new list: collecting in place would keep the memory of the keys.
fn texts<'a, K>(keys: &[K], text: impl Fn(&K) -> &'a str) -> Vec<&'a str> {
    let mut texts = Vec::with_capacity(keys.len());
    texts.extend(keys.iter().map(text));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(selector: &TagSelector, tags: &[&'static str]) -> Vec<&'static str> {
        Selector::new(selector).unwrap().select(tags.iter().copied())
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_latest_versions_in_a_range_without_candidates_and_noise() {
        let selector = TagSelector {
            latest: 3,
            semver: Some(">=1.25 <2".to_owned()),
            include: strings(&[r"^1\."]),
            exclude: strings(&["-rc", r"\.sig$"]),
            ..TagSelector::default()
        };

        let tags = [
            "latest",
            "1.25.0",
            "1.27.1",
            "1.27.10",
            "1.28.0-rc.1",
            "v1.27.9",
            "2.0.0",
            "1.24.9",
            "1.27.10",
            "1.26",
        ];

        assert_eq!(select(&selector, &tags), ["1.27.10", "1.27.1", "1.26"]);
    }

    #[test]
    fn tags_of_one_version_are_all_kept_strict_semver_first() {
        let tags = ["1.2", "v1.2.0", "1.2.0", "v1.2.3", "1.2.3", "1.2.3-rc.1", "1.2.3", "01.2.3"];
        let expected = ["1.2.3", "v1.2.3", "01.2.3", "1.2.3-rc.1", "1.2.0", "v1.2.0", "1.2"];
        assert_eq!(select(&TagSelector::default(), &tags), expected);
        let one = TagSelector { latest: 1, ..TagSelector::default() };
        assert_eq!(select(&one, &tags), ["1.2.3"]);
    }

    #[test]
    fn numeric_selects_numbers_and_alphabetical_selects_all() {
        let tags = ["9", "10", "main-20240131", "20240131120000", "007"];
        let numeric = TagSelector { sort_by: SortBy::Numeric, ..TagSelector::default() };
        assert_eq!(select(&numeric, &tags), ["20240131120000", "10", "9", "007"]);
        let alphabetical =
            TagSelector { latest: 2, sort_by: SortBy::Alphabetical, ..TagSelector::default() };
        assert_eq!(select(&alphabetical, &tags), ["main-20240131", "9"]);
    }

    #[test]
    fn a_constraint_drops_tags_that_are_not_versions_in_every_order() {
        let selector = |sort_by| TagSelector {
            semver: Some(">=2".to_owned()),
            sort_by,
            ..TagSelector::default()
        };
        let tags = ["main", "1", "2.5", "2.10", "3.0.0"];
        assert_eq!(select(&selector(SortBy::Alphabetical), &tags), ["3.0.0", "2.5", "2.10"]);
        assert_eq!(select(&selector(SortBy::Numeric), &tags), ["2.5", "2.10"]);
    }

    #[test]
    fn problems_name_the_field_and_what_to_write() {
        let problem = |selector: TagSelector| Selector::new(&selector).unwrap_err().to_string();
        let latest = problem(TagSelector { latest: -1, ..TagSelector::default() });
        assert_eq!(latest, "latest: -1 is not a number of tags: write 5, or 0 for all that match");
        let semver = Some(">=1.2<2".to_owned());
        let semver = problem(TagSelector { semver, ..TagSelector::default() });
        assert!(
            semver.starts_with(
                r#"semver: cannot read the version constraint ">=1.2<2", at character 6: "#
            ),
            "{semver}"
        );

        for (text, path, part) in [
            ("a(", "include[1]", "unclosed group"),
            ("(?=a)", "include[1]", "look-around"),
            (r"(a)\1", "include[1]", "backreferences"),
            ("((a{99}){99}){99}", "include[1]", "too complex"),
            (&"é".repeat(257), "include[1]", "257 characters: write at most 256"),
        ] {
            let include = strings(&["fine", text]);
            let message = problem(TagSelector { include, ..TagSelector::default() });
            assert!(
                message.starts_with(&format!("{path}: ")) && message.contains(part),
                "{message}"
            );
        }

        let exclude = strings(&["a"; 26]);
        let message = problem(TagSelector { exclude, ..TagSelector::default() });
        assert_eq!(
            message,
            "exclude: has 26 regular expressions: write at most 25, or join some with |"
        );
    }

    #[test]
    fn a_nested_repetition_takes_linear_time() {
        let include = strings(&["^(a+)+$", "^(a|aa)+$", "(x+x+)+y"]);
        let selector = Selector::new(&TagSelector { include, ..TagSelector::default() }).unwrap();
        let tag = format!("{}!{}", "a".repeat(60), "x".repeat(60));
        assert!(selector.select(std::iter::repeat_n(tag.as_str(), 1000)).is_empty());
    }
}
