//! Versions as Masterminds/semver parses and orders them.

use std::cmp::Ordering;

/// Longest version: `MaxVersionLen` of Masterminds/semver.
pub(super) const LONGEST: usize = 256;

/// A version in Masterminds' loose form: a leading `v`, a missing minor or patch (`1.2` is 1.2.0)
/// and leading zeros are accepted. Borrows the text and takes 48 bytes, so lists of 100,000 tags
/// can be sorted.
///
/// *Caveat*: floating tags are versions too: `1.27` is 1.27.0, and `20240131` is 20240131.0.0.
///
/// [`Ord`] is total; only the same text is equal. It orders by [`precedence`](Self::precedence),
/// then strict semver above loose (1.2.3 above v1.2.3 and 1.2.0 above 1.2), then by text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    text: &'a str,
    numbers: [u64; 3],
    /// Range of the pre-release in `text`, without its hyphen. Empty for a release.
    pre: (u16, u16),
    strict: bool,
}

/// Parses the identifiers of a pre-release or of build metadata at `from`, joined by dots. Returns
/// their end; `None` if there are none.
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

/// Whether no numeric identifier has a leading zero, which semver forbids. Masterminds accepts one
/// in 01.2.3, but not in a pre-release.
pub(super) fn is_prerelease(pre: &str) -> bool {
    !pre.split('.').any(|id| {
        id.len() > 1 && id.starts_with('0') && id.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Compares two pre-releases, neither of them empty. A number that does not fit into 64 bits is a
/// word, as in Masterminds.
fn compare_prereleases(left: &str, right: &str) -> Ordering {
    // Numbers come before words.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Identifier<'a> {
        Number(u64),
        Word(&'a str),
    }

    // An identifier is never empty and has no sign, so only digits are parsed.
    let identifier = |id| str::parse(id).map_or(Identifier::Word(id), Identifier::Number);
    left.split('.').map(identifier).cmp(right.split('.').map(identifier))
}

impl<'a> Version<'a> {
    /// Parses a text; `None` if it is not a version.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = text.as_bytes();
        let mut at = usize::from(bytes.first() == Some(&b'v'));
        let mut strict = at == 0;
        let mut numbers = [0; 3];

        for (position, number) in numbers.iter_mut().enumerate() {
            if position > 0 {
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

    /// Returns the original text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Returns major, minor and patch; 0 for missing ones.
    pub(crate) fn numbers(&self) -> [u64; 3] {
        self.numbers
    }

    /// Returns the pre-release without its hyphen; empty for a release.
    pub(crate) fn prerelease(&self) -> &'a str {
        &self.text[usize::from(self.pre.0)..usize::from(self.pre.1)]
    }

    /// Whether the text is strict semver 2.0.0: no `v`, all three numbers, no leading zero. Helm
    /// and Flux accept only such tags of an OCI chart.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Compares by semver's precedence: ignores build metadata, a leading `v` and missing zeros.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        compare((self.numbers, self.prerelease()), (other.numbers, other.prerelease()))
    }
}

/// Compares versions, each given as numbers and pre-release.
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
