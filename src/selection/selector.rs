//! The selector: `latest`, `semver`, `include`, `exclude` and `sortBy` applied to a source's tags.

use regex::bytes::{Regex, RegexBuilder};

use super::constraint::Constraint;
use super::number::Number;
use super::version::Version;

/// Most regular expressions in `include`, and in `exclude`.
pub(crate) const MOST_PATTERNS: usize = 25;
/// Longest regular expression, in characters.
pub(crate) const LONGEST_PATTERN: usize = 256;
/// Most memory of a compiled expression. `^v?[0-9]+\.[0-9]+\.[0-9]+$` takes about 5 kB; the limit
/// stops nested repetitions.
const COMPILED: usize = 256 << 10;
/// Least capacity of the list of candidates.
const ROOM: usize = 1024;
/// Most candidates to allocate for at once: the length of the longest common lists of tags.
const EXPECTED: usize = 100_000;

/// The order that defines "newest".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// Versions by semver's precedence; drops tags that are not versions. Includes pre-releases,
    /// unless a constraint excludes them.
    #[default]
    Semver,
    /// Numbers by value; drops tags that are not numbers.
    Numeric,
    /// Text by bytes: `9` is newer than `10`, `a` newer than `Z`.
    Alphabetical,
}

/// A selector as in the spec, not yet validated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spec<'a> {
    /// Number of newest tags; 0 means all. Required.
    pub latest: Option<usize>,
    /// A version constraint.
    pub semver: Option<&'a str>,
    /// Regular expressions, one of which must match somewhere in the tag. Empty: every tag.
    pub include: &'a [String],
    /// Regular expressions, none of which may match.
    pub exclude: &'a [String],
    /// The order that defines "newest".
    pub sort_by: SortBy,
}

/// A problem of a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub(crate) struct Problem {
    /// The field, as a path from the selector: `latest`, `semver`, `include[3]`.
    pub path: String,
    /// The problem and what to write instead.
    pub message: String,
}

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
    /// # Errors
    /// The first field that is missing or not valid.
    pub(crate) fn new(spec: Spec<'_>) -> Result<Self, Problem> {
        let Spec { latest, semver, include, exclude, sort_by } = spec;
        let latest = latest.ok_or_else(|| Problem {
            path: "latest".to_owned(),
            message:
                "is required: write how many of the newest are wanted, or 0 for all that match"
                    .to_owned(),
        })?;
        let semver = semver.map(str::parse).transpose().map_err(|e: super::ConstraintError| {
            Problem { path: "semver".to_owned(), message: e.to_string() }
        })?;

        Ok(Self {
            latest,
            semver,
            include: patterns("include", include)?,
            exclude: patterns("exclude", exclude)?,
            sort_by,
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
            SortBy::Semver => {
                texts(&newest(wanted.filter_map(versions), self.latest), Version::text)
            }
            SortBy::Numeric => texts(
                &newest(wanted.filter(is_version).filter_map(Number::parse), self.latest),
                Number::text,
            ),
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

fn patterns(field: &str, texts: &[String]) -> Result<Vec<Regex>, Problem> {
    if texts.len() > MOST_PATTERNS {
        let message = format!(
            "has {} regular expressions: write at most {MOST_PATTERNS}, or join some with |",
            texts.len()
        );
        return Err(Problem { path: field.to_owned(), message });
    }
    let pattern = |(place, text): (usize, &String)| {
        pattern(text).map_err(|message| Problem { path: format!("{field}[{place}]"), message })
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

    fn select(spec: Spec<'_>, tags: &[&'static str]) -> Vec<&'static str> {
        Selector::new(spec).unwrap().select(tags.iter().copied())
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_latest_versions_in_a_range_without_candidates_and_noise() {
        let exclude = strings(&["-rc", r"\.sig$"]);
        let include = strings(&[r"^1\."]);
        let spec = Spec {
            latest: Some(3),
            semver: Some(">=1.25 <2"),
            include: &include,
            exclude: &exclude,
            ..Spec::default()
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

        assert_eq!(select(spec, &tags), ["1.27.10", "1.27.1", "1.26"]);
    }

    #[test]
    fn tags_of_one_version_are_all_kept_strict_semver_first() {
        let all = Spec { latest: Some(0), ..Spec::default() };
        let tags = ["1.2", "v1.2.0", "1.2.0", "v1.2.3", "1.2.3", "1.2.3-rc.1", "1.2.3", "01.2.3"];
        let expected = ["1.2.3", "v1.2.3", "01.2.3", "1.2.3-rc.1", "1.2.0", "v1.2.0", "1.2"];
        assert_eq!(select(all, &tags), expected);
        let one = Spec { latest: Some(1), ..Spec::default() };
        assert_eq!(select(one, &tags), ["1.2.3"]);
    }

    #[test]
    fn numeric_selects_numbers_and_alphabetical_selects_all() {
        let tags = ["9", "10", "main-20240131", "20240131120000", "007"];
        let numeric = Spec { latest: Some(0), sort_by: SortBy::Numeric, ..Spec::default() };
        assert_eq!(select(numeric, &tags), ["20240131120000", "10", "9", "007"]);
        let alphabetical =
            Spec { latest: Some(2), sort_by: SortBy::Alphabetical, ..Spec::default() };
        assert_eq!(select(alphabetical, &tags), ["main-20240131", "9"]);
    }

    #[test]
    fn a_constraint_drops_tags_that_are_not_versions_in_every_order() {
        let spec =
            |sort_by| Spec { latest: Some(0), semver: Some(">=2"), sort_by, ..Spec::default() };
        let tags = ["main", "1", "2.5", "2.10", "3.0.0"];
        assert_eq!(select(spec(SortBy::Alphabetical), &tags), ["3.0.0", "2.5", "2.10"]);
        assert_eq!(select(spec(SortBy::Numeric), &tags), ["2.5", "2.10"]);
    }

    #[test]
    fn problems_name_the_field_and_what_to_write() {
        let problem = |spec: Spec<'_>| Selector::new(spec).unwrap_err().to_string();
        assert!(problem(Spec::default()).starts_with("latest: is required: write how many"));
        let semver = problem(Spec { latest: Some(1), semver: Some(">=1.2<2"), ..Spec::default() });
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
            let message = problem(Spec { latest: Some(1), include: &include, ..Spec::default() });
            assert!(
                message.starts_with(&format!("{path}: ")) && message.contains(part),
                "{message}"
            );
        }

        let exclude = strings(&["a"; 26]);
        let message = problem(Spec { latest: Some(1), exclude: &exclude, ..Spec::default() });
        assert_eq!(
            message,
            "exclude: has 26 regular expressions: write at most 25, or join some with |"
        );
    }

    #[test]
    fn a_nested_repetition_takes_linear_time() {
        let include = strings(&["^(a+)+$", "^(a|aa)+$", "(x+x+)+y"]);
        let selector =
            Selector::new(Spec { latest: Some(1), include: &include, ..Spec::default() }).unwrap();
        let tag = format!("{}!{}", "a".repeat(60), "x".repeat(60));
        assert!(selector.select(std::iter::repeat_n(tag.as_str(), 1000)).is_empty());
    }
}
