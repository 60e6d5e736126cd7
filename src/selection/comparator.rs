//! One comparison of a constraint, such as `>=1.2.x`.

use std::cmp::Ordering;

use super::version::{LONGEST, Version, compare, identifiers, is_prerelease};

/// The operator before a version in a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// No operator, or `=`. With a missing or wildcard part, the same as `~`.
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Tilde,
    Caret,
}

impl Operator {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "=" => Self::Equal,
            "!=" => Self::NotEqual,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" | "=>" => Self::GreaterOrEqual,
            "<=" | "=<" => Self::LessOrEqual,
            "~" | "~>" => Self::Tilde,
            "^" => Self::Caret,
            _ => return None,
        })
    }
}

/// The text of a version in a constraint, in parts. Any part may be a wildcard, and the last ones
/// may be missing.
///
/// A part is any text that Masterminds' pattern accepts, which mixes digits, wildcards and `|`;
/// [`Comparator::new`] validates it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand<'a> {
    /// The whole text, with a leading `v` and build metadata.
    pub(super) text: &'a str,
    numbers: [&'a str; 3],
    pre: &'a str,
}

impl<'a> Operand<'a> {
    /// Parses the longest operand at `from`, which contains neither white space nor a comma.
    pub(super) fn read(text: &'a str, from: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let part = |from: usize| {
            let wild =
                |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'x' | b'X' | b'*' | b'|');
            let length = bytes.get(from..)?.iter().take_while(|byte| wild(byte)).count();
            (length > 0).then_some(from + length)
        };
        let mut at = from + usize::from(bytes.get(from) == Some(&b'v'));
        let mut numbers = [""; 3];

        for (position, number) in numbers.iter_mut().enumerate() {
            let start = match position {
                0 => at,
                _ if bytes.get(at) == Some(&b'.') => at + 1,
                _ => break,
            };
            match part(start) {
                Some(end) => (*number, at) = (&text[start..end], end),
                None if position == 0 => return None,
                None => break,
            }
        }

        let mut tail = |sign: u8| {
            let end =
                (bytes.get(at) == Some(&sign)).then(|| identifiers(bytes, at + 1)).flatten()?;
            let read = &text[at + 1..end];
            at = end;
            Some(read)
        };
        let pre = tail(b'-').unwrap_or_default();
        tail(b'+');

        Some(Self { text: &text[from..at], numbers, pre })
    }
}

/// The first part of a comparator's version that is missing or a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// `1.2.3`
    No,
    /// `1.2`, `1.2.x`
    Patch,
    /// `1`, `1.x`
    Minor,
    /// `*`
    Major,
}

/// An operator and a version. Matches as Masterminds' functions do, oddities included.
#[derive(Clone, Debug)]
pub(super) struct Comparator {
    operator: Operator,
    numbers: [u64; 3],
    pre: Box<str>,
    open: Open,
}

impl Comparator {
    /// # Errors
    /// Text that says what to write instead.
    pub(super) fn new(operator: Operator, operand: Operand<'_>) -> Result<Self, &'static str> {
        let is_open = |part: &str| matches!(part, "" | "x" | "X" | "*");
        let [major, minor, _] = operand.numbers;
        let given = operand.numbers.iter().take_while(|part| !is_open(part)).count();
        let open = match given {
            0 => Open::Major,
            1 => Open::Minor,
            2 => Open::Patch,
            _ => Open::No,
        };

        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(operand.numbers).take(given) {
            if !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(
                    "write a part of a version as a number, or as one x or * alone, and || \
                     between alternatives",
                );
            }
            *number = part.parse().map_err(|_| "write numbers of at most 18446744073709551615")?;
        }

        if !is_prerelease(operand.pre) {
            return Err("write the numbers of a pre-release without leading zeros");
        }

        // Masterminds replaces missing parts by zeros and drops the build metadata, and then limits
        // the length of the result.
        let tail = if operand.pre.is_empty() { 0 } else { operand.pre.len() + 1 };
        let length = match open {
            Open::No => operand.text.len(),
            Open::Patch => major.len() + 1 + minor.len() + 2 + tail,
            Open::Minor => major.len() + 4 + tail,
            Open::Major => 5 + tail,
        };
        if length > LONGEST {
            return Err("write a version of at most 256 characters");
        }

        Ok(Self { operator, numbers, pre: operand.pre.into(), open })
    }

    /// Whether it names a pre-release. Then its whole AND group may match pre-releases.
    pub(super) fn names_prerelease(&self) -> bool {
        !self.pre.is_empty()
    }

    fn order(&self, version: &Version<'_>) -> Ordering {
        compare((version.numbers(), version.prerelease()), (self.numbers, &self.pre))
    }

    /// Whether the version matches. [`super::Constraint`] decides for the whole group whether it
    /// may be a pre-release.
    pub(super) fn matches(&self, version: &Version<'_>) -> bool {
        match self.operator {
            Operator::Equal if self.open == Open::No => self.order(version).is_eq(),
            Operator::Equal | Operator::Tilde => self.tilde(version),
            Operator::NotEqual => self.not_equal(version),
            Operator::Greater => self.greater(version),
            Operator::GreaterOrEqual => self.order(version).is_ge(),
            Operator::Less => self.order(version).is_lt(),
            Operator::LessOrEqual => self.less_or_equal(version),
            Operator::Caret => self.caret(version),
        }
    }

    /// As in `!=1.2`, which excludes all of 1.2.
    fn not_equal(&self, version: &Version<'_>) -> bool {
        let [major, minor, _] = version.numbers();
        match self.open {
            Open::No | Open::Major => self.order(version).is_ne(),
            Open::Minor => major != self.numbers[0],
            Open::Patch if (major, minor) != (self.numbers[0], self.numbers[1]) => true,
            // Without leading zeros, equal pre-releases have equal texts.
            Open::Patch => version.prerelease() != &*self.pre,
        }
    }

    /// As in `>11`, which begins at 12, and `>11.1`, which begins at 11.2.
    fn greater(&self, version: &Version<'_>) -> bool {
        let [major, minor, _] = version.numbers();
        match self.open {
            Open::No | Open::Major => self.order(version).is_gt(),
            Open::Minor => major > self.numbers[0],
            Open::Patch => (major, minor) > (self.numbers[0], self.numbers[1]),
        }
    }

    /// As in `<=11`, which includes all of 11. In `<=*` the major is 0, as in Masterminds.
    fn less_or_equal(&self, version: &Version<'_>) -> bool {
        let [major, minor, _] = version.numbers();
        match self.open {
            Open::No => self.order(version).is_le(),
            Open::Minor => major <= self.numbers[0],
            Open::Patch | Open::Major => (major, minor) <= (self.numbers[0], self.numbers[1]),
        }
    }

    /// As in `~1`, within 1, and `~1.2` and `~1.2.3`, within 1.2. `~*` and `~0.0.0` match
    /// everything.
    fn tilde(&self, version: &Version<'_>) -> bool {
        if self.order(version).is_lt() {
            return false;
        }
        if self.numbers == [0, 0, 0] && matches!(self.open, Open::No | Open::Major) {
            return true;
        }
        let [major, minor, _] = version.numbers();
        major == self.numbers[0] && (minor == self.numbers[1] || self.open == Open::Minor)
    }

    /// As in `^1.2.3`, within 1, `^0.2.3`, within 0.2, and `^0.0.3`, which is 0.0.3: the first
    /// number that is not zero is fixed.
    fn caret(&self, version: &Version<'_>) -> bool {
        if self.order(version).is_lt() {
            return false;
        }
        let [major, minor, patch] = version.numbers();

        if self.numbers[0] > 0 || self.open == Open::Minor {
            major == self.numbers[0]
        } else if major > 0 {
            false
        } else if self.numbers[1] > 0 || self.open == Open::Patch {
            minor == self.numbers[1]
        } else {
            minor == 0 && patch == self.numbers[2]
        }
    }
}
