//! Tags that are numbers (`sortBy: Numeric`).

use std::cmp::Ordering;

/// A tag that is a decimal number, such as `42`, `20240131120000` or `3.14`, ordered by its exact
/// value: any number of digits, without rounding.
///
/// Flux's numerical policy parses tags as 64-bit floats. It accepts `1e5`, `0x1p4`, `inf` and
/// `nan`, which are not numbers here, and cannot tell 9007199254740992 from 9007199254740993. As
/// there, `1.10` is 1.1.
///
/// [`Ord`] is total: equal values (`7`, `007`, `7.0`) are ordered by text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<'a>(&'a str);

impl<'a> Number<'a> {
    /// Returns `None` unless the text is digits, with at most one dot after the first.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        (!whole.is_empty() && digits(whole) && digits(fraction)).then_some(Self(text))
    }

    /// Returns the original text.
    pub(crate) fn text(&self) -> &'a str {
        self.0
    }

    /// Returns the parts that decide the order: the digits before and after the dot, without
    /// insignificant zeros, and then the text.
    fn key(&self) -> (usize, &'a str, &'a str, &'a str) {
        let (whole, fraction) = self.0.split_once('.').unwrap_or((self.0, ""));
        let whole = whole.trim_start_matches('0');
        // More digits are more. The same number of digits compare as text, and so do fractions.
        (whole.len(), whole, fraction.trim_end_matches('0'), self.0)
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value_and_then_by_text() {
        let ascending = [
            "0",
            "00",
            "0.5",
            "1.09",
            "1.1",
            "1.10",
            "1.9",
            "2",
            "007",
            "7",
            "7.",
            "7.0",
            "10",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999999999999999998",
            "99999999999999999999999999999999999999999",
        ];
        for (left, right) in ascending.iter().zip(&ascending[1..]) {
            assert!(Number::parse(left) < Number::parse(right), "{left} < {right}");
        }
    }

    #[test]
    fn only_a_whole_decimal_number_counts() {
        for text in [
            "", ".", ".5", "1.2.3", "v1", "1e5", "0x10", "inf", "nan", "-1", "+1", "1_000", "1-2",
            "٣", " 1",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }
}
