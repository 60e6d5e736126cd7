//! A version as Masterminds/semver reads it.

use std::cmp::Ordering;

/// Longest text that is read as a version: `MaxVersionLen` of Masterminds/semver.
pub(super) const LONGEST: usize = 256;

/// A version in Masterminds' loose reading: a leading `v`, a missing minor or patch (`1.2` is
/// 1.2.0) and leading zeros are taken. It borrows the text and is 48 bytes, so that lists of
/// 100,000 tags can be ranked.
///
/// *Caveat*: floating tags are versions too: `1.27` is 1.27.0, and `20240131` is 20240131.0.0.
///
/// [`Ord`] is total and tells every two different texts apart: by [`precedence`](Self::precedence),
/// then strict semver above loose (1.2.3 above v1.2.3 and 1.2.0 above 1.2), then by text.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    text: &'a str,
    numbers: [u64; 3],
    /// Where the pre-release is in `text`, without its hyphen. Empty: a release.
    pre: (u16, u16),
    strict: bool,
}

/// The identifiers of a pre-release or of build metadata at `from`, joined by dots; the end of what
/// was read. Nothing is read of `-.` or of an empty text.
pub(super) fn identifiers(text: &[u8], from: usize) -> Option<usize> {
    let word = |from: usize| {
        let length = text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-')
            .count();
        (length > 0).then_some(from + length)
    };
    let mut end = word(from)?;
    while text.get(end) == Some(&b'.') {
        let Some(next) = word(end + 1) else { break };
        end = next;
    }
    Some(end)
}

/// Semver allows no leading zero in a numeric identifier. Masterminds coerces it in 01.2.3 and
/// refuses it here.
pub(super) fn is_prerelease(pre: &str) -> bool {
    !pre.split('.').any(|id| {
        id.len() > 1 && id.starts_with('0') && id.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Orders pre-releases, neither of them empty. A number that does not fit into 64 bits is a word,
/// as Masterminds has it.
pub(super) fn compare_prereleases(left: &str, right: &str) -> Ordering {
    // An identifier is never empty and has no sign, so that this takes digits only.
    let key = |id: &str| id.parse::<u64>().ok();
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let (one, other) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => (one, other),
        };
        let order = match (key(one), key(other)) {
            (Some(one), Some(other)) => one.cmp(&other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

impl<'a> Version<'a> {
    /// Reads the whole text; `None` when it is no version.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = text.as_bytes();
        let mut at = usize::from(bytes.first() == Some(&b'v'));
        let mut strict = at == 0;
        let mut numbers = [0; 3];
        for (place, number) in numbers.iter_mut().enumerate() {
            if place > 0 {
                if bytes.get(at) != Some(&b'.') {
                    strict = false;
                    break;
                }
                at += 1;
            }
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            *number = text[at..at + digits].parse().ok()?;
            strict &= digits == 1 || bytes[at] != b'0';
            at += digits;
        }
        let mut pre = (0, 0);
        if bytes.get(at) == Some(&b'-') {
            let end = identifiers(bytes, at + 1)?;
            if !is_prerelease(&text[at + 1..end]) {
                return None;
            }
            pre = (u16::try_from(at + 1).ok()?, u16::try_from(end).ok()?);
            at = end;
        }
        if bytes.get(at) == Some(&b'+') {
            at = identifiers(bytes, at + 1)?;
        }
        (at == bytes.len()).then_some(Self { text, numbers, pre, strict })
    }

    /// The text as it was given.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Major, minor and patch; 0 where the text has none.
    pub fn numbers(&self) -> [u64; 3] {
        self.numbers
    }

    /// The pre-release without its hyphen; empty for a release.
    pub fn prerelease(&self) -> &'a str {
        &self.text[usize::from(self.pre.0)..usize::from(self.pre.1)]
    }

    /// Whether the text is semver 2.0.0 to the letter: no `v`, all three numbers, no leading zero.
    /// It is what Helm and Flux take from the tags of an OCI chart.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Semver's precedence: build metadata, a leading `v` and missing zeros make no difference.
    pub fn precedence(&self, other: &Self) -> Ordering {
        compare((self.numbers, self.prerelease()), (other.numbers, other.prerelease()))
    }
}

/// Orders versions given as numbers and pre-release.
pub(super) fn compare(left: ([u64; 3], &str), right: ([u64; 3], &str)) -> Ordering {
    left.0.cmp(&right.0).then_with(|| match (left.1, right.1) {
        ("", "") => Ordering::Equal,
        ("", _) => Ordering::Greater,
        (_, "") => Ordering::Less,
        (left, right) => compare_prereleases(left, right),
    })
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence(other)
            .then(self.strict.cmp(&other.strict))
            .then_with(|| self.text.cmp(other.text))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Version<'_> {}
