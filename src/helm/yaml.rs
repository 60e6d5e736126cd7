//! YAML as Helm reads it: the scalars of YAML 1.1, and numbers as text (`appVersion: 1.10`).
//!
//! Helm parses with go-yaml v2, which has the scalars of YAML 1.1, and turns numbers and booleans
//! into text for text fields: an unquoted `appVersion: 1.10` is `1.1` to Helm, and `helm push`
//! writes `"1.1"`. Our artifacts must be the same, so scalars are resolved here from the text, by
//! go-yaml's table (<https://github.com/yaml/go-yaml/blob/v2.4.2/resolve.go>), not by the parser's.

use std::collections::HashSet;

use serde_saphyr::{MessageFormatter, NonFiniteFloatPolicy, UserMessageFormatter};

use crate::nesting::{self, MAX_DEPTH};
use crate::yaml_tree::{Key, Node, Value as Tree, text_at};

/// A value like Go's `interface{}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// An integer in the range of Go's int64 or uint64.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Value {
    /// The text for a Go `string` field. `Ok(None)` leaves the field unchanged.
    pub(super) fn into_text(self) -> Result<Option<String>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(value) => Ok(Some(value.to_string())),
            Self::Integer(value) => Ok(Some(value.to_string())),
            Self::Float(value) => Ok(Some(format_float(value))),
            Self::Text(text) => Ok(Some(text)),
            Self::List(_) => Err("a list, not text"),
            Self::Map(_) => Err("a mapping, not text"),
        }
    }

    /// The value of a key, in any case, as Go matches keys.
    #[cfg(test)]
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }
}

/// Bounds for the size of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The number of values.
    pub(super) nodes: usize,
    /// The number of parser events from aliases.
    pub(super) replayed: usize,
    /// The number of parser events that are kept for aliases. Each takes some hundred bytes.
    pub(super) recorded: usize,
}

impl Bounds {
    /// Returns the bounds of an index, or of a chart in it.
    pub(super) fn of_index(text: &str) -> Self {
        let nodes = text.len() / 2 + 1000;
        // Aliases may expand the text to three times its length.
        Self { nodes, replayed: nodes, recorded: (200 + text.len() / 200).min(20_000) }
    }
}

/// Reads the first document of `text`.
pub(super) fn parse(text: &str, bounds: Bounds) -> Result<Value, String> {
    let tree: Node =
        serde_saphyr::from_str_with_options(text, options(bounds)).map_err(|e| message(&e))?;
    Ok(resolve(tree, text))
}

pub(super) fn options(bounds: Bounds) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: bounds.nodes,
            max_events: bounds.nodes.saturating_mul(3),
            max_total_scalar_bytes: 256 * 1024 * 1024,
            max_recorded_anchor_events: bounds.recorded,
            // A text that a thousand entries share is a normal use of anchors, not an attack;
            // alias_limits bounds the growth.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: bounds.replayed },
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // Like go-yaml's Unmarshal.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    }
}

pub(super) fn message(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let text = nesting::too_deep(error)
        .map_or_else(|| UserMessageFormatter.format_message(error), Into::into);
    let text = without_quotes(&text);
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    match error.location() {
        Some(at) if at.line() > 0 => format!("{text} (line {}, column {})", at.line(), at.column()),
        _ => text,
    }
}

/// Removes what a parser quotes of the document, which any server may have sent.
pub(super) fn without_quotes(text: &str) -> String {
    let mut short = String::new();
    let mut open = None;
    let mut before = ' ';
    for c in text.chars() {
        match open {
            None => {
                short.push(c);
                // An apostrophe inside of a word is no quote.
                if matches!(c, '"' | '`') || (c == '\'' && !before.is_alphanumeric()) {
                    open = Some(c);
                    short.push('…');
                }
            }
            Some(quote) if c == quote && before != '\\' => {
                short.push(c);
                open = None;
            }
            Some(_) => {}
        }
        before = c;
    }
    short
}

/// Resolves the scalars of a tree by their text in the document.
pub(super) fn resolve(node: Node, text: &str) -> Value {
    match node.value {
        Tree::String(value) => match plain(&node.defined, text) {
            Some(written) if written == value => resolve_plain(written),
            _ => Value::Text(value),
        },
        // Only plain scalars are not text to the parser.
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => {
            text_at(&node.defined, text).map_or(Value::Null, |(_, written)| resolve_plain(written))
        }
        Tree::List(nodes) => {
            Value::List(nodes.into_iter().map(|node| resolve(node, text)).collect())
        }
        Tree::Map(fields) => {
            let fields = fields.into_iter().map(|(key, value)| field(key, value, text));
            Value::Map(last_of_each(fields.collect()))
        }
    }
}

/// Leaves the last field of each name, as go-yaml does.
fn last_of_each(mut fields: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut names = HashSet::with_capacity(fields.len());
    let mut is_last: Vec<bool> =
        fields.iter().rev().map(|(name, _)| names.insert(name.as_str())).collect();
    fields.retain(|_| is_last.pop().unwrap_or(true));
    fields
}

fn field(key: Key, value: Node, text: &str) -> (String, Value) {
    // A block scalar as a key would need a `?`; so a key without quotes is plain.
    let written = text_at(&key.defined, text).filter(|(_, written)| *written == key.value);
    let key = match written.map(|(_, written)| resolve_plain(written)) {
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Integer(value)) => value.to_string(),
        Some(Value::Float(value)) => format_float(value),
        _ => key.value,
    };
    (key, resolve(value, text))
}

/// The text of a plain scalar in the document; `None` for other scalars. The text of a block scalar
/// is recognised because it is alone on its line.
fn plain<'t>(location: &serde_saphyr::Location, text: &'t str) -> Option<&'t str> {
    let (start, written) = text_at(location, text)?;
    let before = text[..start].rsplit('\n').next().unwrap_or_default();
    let is_quoted = matches!(written.as_bytes().first()?, b'"' | b'\'' | b'|' | b'>' | b'!');
    (!is_quoted && (start == 0 || before.bytes().any(|byte| byte != b' ') || before.is_empty()))
        .then_some(written)
}

/// go-yaml's `resolve` for a scalar without tag.
fn resolve_plain(text: &str) -> Value {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }

    let first = text.as_bytes().first().copied().unwrap_or_default();
    if first.is_ascii_digit() || matches!(first, b'+' | b'-') {
        let plain = text.replace('_', "");
        if let Some(value) = integer(&plain) {
            return Value::Integer(value);
        }
        if let Some(value) = float(&plain) {
            return Value::Float(value);
        }
    } else if first == b'.'
        && let Some(value) = float(text)
    {
        return Value::Float(value);
    }

    Value::Text(text.to_owned())
}

/// Go's `ParseInt(text, 0, 64)`, then `ParseUint`: `0x`, `0o`, `0b` and a leading `0` for octal.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };

    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }

    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    let unsigned = !negative && !text.starts_with('+') && value <= i128::from(u64::MAX);
    (i64::try_from(value).is_ok() || unsigned).then_some(value)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`, which Rust parses like Go.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
        }
        None => (unsigned, None),
    };

    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shaped = digits(whole)
        && digits(fraction)
        && (!whole.is_empty() || !fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    let value: f64 = shaped.then(|| text.parse().ok()).flatten()?;
    // An overflow is an error in Go, and the scalar becomes text.
    value.is_finite().then_some(value)
}

/// Go's `strconv.FormatFloat(value, 'g', -1, 32)`, which sigs.k8s.io/yaml uses for text fields.
pub(super) fn format_float(value: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // like Go
    let value = value as f32;
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }

    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();

    // For exponents from -4 to 5 Go writes all digits: the shortest form counts as precision 6
    // (internal/strconv/ftoa.go).
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_of_the_document_are_not_shown() {
        for (text, short) in [
            (
                "invalid type: string \"hunter2\", expected a map",
                "invalid type: string \"…\", expected a map",
            ),
            ("unknown field `hunter2`", "unknown field `…`"),
            ("found 'hunter2' here", "found '…' here"),
            ("it doesn't fit", "it doesn't fit"),
            ("string \"a\\\"hunter2\" end", "string \"…\" end"),
            ("open \"hunter2", "open \"…"),
        ] {
            assert_eq!(super::without_quotes(text), short);
        }
    }

    use super::*;

    const BOUNDS: Bounds = Bounds { nodes: 10_000, replayed: 10_000, recorded: 1000 };

    #[test]
    fn scalars_are_resolved_as_by_go_yaml() {
        for (written, text) in [
            ("1.10", Some("1.1")),
            ("1.0", Some("1")),
            ("\"1.10\"", Some("1.10")),
            ("'1.10'", Some("1.10")),
            ("1.2.3", Some("1.2.3")),
            ("v1", Some("v1")),
            ("7", Some("7")),
            ("007", Some("7")),
            ("010", Some("8")),
            ("08", Some("8")),
            ("0x1F", Some("31")),
            ("0b11", Some("3")),
            ("1_000", Some("1000")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("18446744073709551616", Some("1.8446744e+19")),
            ("1e3", Some("1000")),
            ("1234567.0", Some("1.234567e+06")),
            ("12345678", Some("12345678")),
            ("0.00001", Some("1e-05")),
            ("yes", Some("true")),
            ("Off", Some("false")),
            ("y", Some("true")),
            ("nope", Some("nope")),
            ("~", None),
            ("", None),
            ("null", None),
            ("2024-01-05", Some("2024-01-05")),
            ("1.10 # why", Some("1.1")),
            (">-\n  1.10", Some("1.10")),
            ("12e45678", Some("12e45678")),
            ("+1", Some("1")),
        ] {
            let value = parse(&format!("a: {written}\n"), BOUNDS).unwrap();
            assert_eq!(
                value.get("a").unwrap().clone().into_text().unwrap().as_deref(),
                text,
                "{written}"
            );
        }
    }

    #[test]
    fn aliases_and_merges_are_followed_and_bounded() {
        let value =
            parse("x: &x 1.10\nu: *x\nz: {<<: &m {q: \"2.0\"}}\n\"y\": 1\n", BOUNDS).unwrap();
        assert_eq!(value.get("u"), Some(&Value::Float(1.1)));
        assert_eq!(value.get("y"), Some(&Value::Integer(1)), "a quoted key is text");
        assert_eq!(value.get("z").unwrap().get("q"), Some(&Value::Text("2.0".into())));

        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..9 {
            let last = n - 1;
            let uses = vec![format!("*a{last}"); 9].join(",");
            bomb.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
        }
        assert!(parse(&bomb, BOUNDS).is_err());
    }
}
