//! Version constraints (`semver`) in the dialect of Masterminds/semver v3, which Helm and Flux use.

use std::borrow::Cow;
use std::str::FromStr;

use super::comparator::{Comparator, Operand, Operator};
use super::version::Version;

/// Longest constraint in bytes: `MaxConstraintLen` of Masterminds/semver.
const LONGEST: usize = 512;
/// Most alternatives between `||`: `MaxConstraintGroups` of Masterminds/semver.
const MOST_GROUPS: usize = 32;
/// Most characters of a constraint in an error.
const SHOWN: usize = 80;

/// A version constraint: `>=1.25 <2`, `~1.2 || ^2.1`, `1.2 - 2.0`, `!=1.x`, `*`.
///
/// Accepts and matches exactly as Masterminds/semver v3; the tests compare it with a table that
/// Masterminds/semver wrote. Surprising rules:
/// - A pre-release matches only in a group (between `||`) that names a pre-release: `>=1-0` matches
///   them all.
/// - Without an operator, or with `=`, a missing or wildcard part means a range: `1.2` is `~1.2`.
/// - `^*` and `<=*` do not match everything: the wildcard is 0 there.
/// - The empty text is an error; `*` matches everything.
/// - A range `a - b` needs a comma before it in a group, and white space before it after `||`:
///   Masterminds rewrites it as text, so `1||2 - 3` is `>=1 || 2, <=3`.
#[derive(Clone, Debug)]
pub(crate) struct Constraint {
    groups: Vec<Vec<Comparator>>,
}

/// A constraint that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the version constraint {}, at character {position}: {advice}", quoted(.text))]
pub(crate) struct ConstraintError {
    /// The constraint.
    pub text: String,
    /// The first character that does not fit, counted from 1.
    pub position: usize,
    /// Advice on what to write instead.
    pub advice: Cow<'static, str>,
}

/// Quotes a constraint, cut to [`SHOWN`] characters.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Whether Go's `\s` matches the byte.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

fn skip_spaces(text: &str, from: usize) -> usize {
    from + text.as_bytes()[from..].iter().take_while(|byte| is_space(**byte)).count()
}

impl Constraint {
    /// Whether the version matches.
    pub(crate) fn matches(&self, version: &Version<'_>) -> bool {
        let is_release = version.prerelease().is_empty();
        self.groups.iter().any(|group| {
            (is_release || group.iter().any(Comparator::names_prerelease))
                && group.iter().all(|comparator| comparator.matches(version))
        })
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |byte: usize, advice: Cow<'static, str>| {
            let position = text.char_indices().take_while(|(at, _)| *at < byte).count() + 1;
            ConstraintError { text: text.to_owned(), position, advice }
        };

        if text.len() > LONGEST {
            let advice = format!("write at most {LONGEST} bytes; these are {}", text.len());
            return Err(error(LONGEST, advice.into()));
        }

        let rewritten = Rewritten::new(text);
        let mut groups = Vec::new();
        let mut start = 0;

        for part in rewritten.text.split("||") {
            if groups.len() == MOST_GROUPS {
                let advice = format!("write at most {MOST_GROUPS} alternatives between ||");
                return Err(error(rewritten.origins[start], advice.into()));
            }
            let group = group(part)
                .map_err(|(at, advice)| error(rewritten.origins[start + at], advice.into()))?;
            groups.push(group);
            start += part.len() + 2;
        }

        Ok(Self { groups })
    }
}

/// Parses the text between `||`. An error has the byte and the advice.
fn group(text: &str) -> Result<Vec<Comparator>, (usize, &'static str)> {
    let mut comparators = Vec::new();
    let mut at = skip_spaces(text, 0);
    loop {
        let start = at;
        at += text[at..]
            .bytes()
            .take_while(|byte| matches!(byte, b'=' | b'!' | b'<' | b'>' | b'~' | b'^'))
            .count();
        let Some(operator) = Operator::parse(&text[start..at]) else {
            return Err((
                start,
                "write one of = != > < >= <= ~ ^ before a version, and none before a range \
                 1.2 - 2.0",
            ));
        };
        at = skip_spaces(text, at);
        let Some(operand) = Operand::read(text, at) else {
            return Err((
                at,
                match text[at..].bytes().next() {
                    None if comparators.is_empty() && start == at => {
                        "write a constraint such as >=1.25 <2, or * for every version"
                    }
                    None => "write a version here, such as 1.2.3, or remove the operator or comma",
                    Some(b'-') => {
                        "write a range as 1.2 - 2.0, with a version and white space on both sides \
                         of the hyphen"
                    }
                    Some(_) => {
                        "write versions such as >=1.25 or 1.x, joined by a comma, white space or ||"
                    }
                },
            ));
        };
        comparators.push(Comparator::new(operator, operand).map_err(|advice| (at, advice))?);
        let end = at + operand.text.len();
        at = skip_spaces(text, end);
        if at == text.len() {
            return Ok(comparators);
        }
        if text.as_bytes()[at] == b',' {
            at = skip_spaces(text, at + 1);
        } else if at == end {
            return Err((
                at,
                match text.as_bytes()[at] {
                    b'=' | b'!' | b'<' | b'>' | b'~' | b'^' => {
                        "write a comma between two comparisons"
                    }
                    b'.' => {
                        "write versions of at most three numbers, such as 1.2.3, with no dot at \
                         the end"
                    }
                    _ => "write versions such as 1.2.3, 1.2.x or 1.2.3-rc.1",
                },
            ));
        }
    }
}

/// The constraint with each range `1.2 - 2.0` written as `>= 1.2, <= 2.0 `.
///
/// Masterminds rewrites the text before it parses it, and so must we: which ranges are errors, and
/// what some odd ones mean, follows from that.
struct Rewritten {
    text: String,
    /// The position in the original text of each byte of `text`, and of its end.
    origins: Vec<usize>,
}

/// A range in the original text.
struct Range<'a> {
    /// The range with the white space around it.
    text: &'a str,
    from: &'a str,
    to: &'a str,
}

impl<'a> Range<'a> {
    fn read(text: &'a str, start: usize) -> Option<Self> {
        let first = skip_spaces(text, start);
        let from = Operand::read(text, first)?.text;
        let spaces = first + from.len();
        let hyphen = skip_spaces(text, spaces);
        if hyphen == spaces || text.as_bytes().get(hyphen) != Some(&b'-') {
            return None;
        }

        let second = skip_spaces(text, hyphen + 1);
        if second == hyphen + 1 {
            return None;
        }

        let to = Operand::read(text, second)?.text;
        let end = skip_spaces(text, second + to.len());
        Some(Self { text: &text[start..end], from, to })
    }
}

impl Rewritten {
    fn new(original: &str) -> Self {
        let mut rewritten =
            Self { text: original.to_owned(), origins: (0..=original.len()).collect() };
        let mut at = 0;

        while at < original.len() {
            match original.is_char_boundary(at).then(|| Range::read(original, at)).flatten() {
                Some(range) => {
                    rewritten.replace(&range);
                    at += range.text.len();
                }
                None => at += 1,
            }
        }

        rewritten
    }

    /// Replaces the first occurrence of the range's text, as Masterminds does. That need not be
    /// where the range was found.
    fn replace(&mut self, range: &Range<'_>) {
        let Some(start) = self.text.find(range.text) else { return };
        let end = start + range.text.len();
        let new = format!(">= {}, <= {} ", range.from, range.to);
        let origin = self.origins[start];
        self.origins.splice(start..end, std::iter::repeat_n(origin, new.len()));
        self.text.replace_range(start..end, &new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Constraint>().unwrap_err().to_string()
    }

    fn matches(constraint: &str, version: &str) -> bool {
        constraint.parse::<Constraint>().unwrap().matches(&Version::parse(version).unwrap())
    }

    #[test]
    fn errors_name_the_text_the_position_and_what_to_write() {
        for (text, position, advice) in [
            ("", 1, "* for every version"),
            (">=1.2 <", 8, "write a version here"),
            (">=1.2 foo", 7, "joined by a comma"),
            ("1.2 || latest", 8, "such as >=1.25"),
            (">=1.2<2", 6, "a comma between"),
            ("==1.2", 1, "write one of ="),
            (">=1 - 2", 1, "none before a range"),
            ("1.2.3.4", 6, "at most three numbers"),
            ("^1 1.5 - 2", 3, "a comma between"),
            ("1.2 -2", 5, "a range as 1.2 - 2.0"),
            ("1|2", 1, "|| between alternatives"),
            ("1.2.3-01", 1, "without leading zeros"),
            (">1.99999999999999999999", 2, "at most 18446744073709551615"),
            ("≥1.2", 1, "such as >=1.25"),
            ("é || ≥", 1, "such as >=1.25"),
        ] {
            let message = error(text);
            assert!(message.contains(&format!("{text:?}, at character {position}: ")), "{message}");
            assert!(message.contains(advice), "{message}");
        }
    }

    #[test]
    fn a_long_constraint_is_refused_and_cut_in_the_error() {
        let message = error(&"é".repeat(300));
        assert!(
            message.len() < 300 && message.contains("at most 512 bytes; these are 600"),
            "{message}"
        );
        assert!(error(&["1"; 33].join("||")).contains("at most 32 alternatives"));
    }

    #[test]
    fn a_prerelease_matches_only_where_one_is_named() {
        assert!(!matches(">=1.2 <2", "1.3.0-rc.1"));
        assert!(matches(">=1.2-0 <2", "1.3.0-rc.1"));
        assert!(!matches(">=1.2-0 <1.3 || >=1.3", "1.3.1-rc.1"));
    }

    #[test]
    fn build_metadata_makes_no_difference() {
        assert!(matches("=1.2.3+a", "1.2.3+b"));
        assert!(matches("^1.2.3", "v1.2.3+b"));
    }
}
