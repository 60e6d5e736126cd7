//! A YAML or JSON file as a tree of values, each with its line and column.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Location, MessageFormatter, NonFiniteFloatPolicy, Spanned, UserMessageFormatter,
};

use super::{Position, Problem};

/// A value with two locations: of its use and, for an alias or a merge, of its definition.
pub(super) type Node = Spanned<Value>;

/// A key of a mapping.
pub(super) type Key = Spanned<String>;

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` and, as in YAML 1.1, `yes` and `on`.
    Bool(bool),
    /// A number. Its text is in the file: `1.20` is 1.2 here.
    Number(Number),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A number as YAML reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Below zero.
    Negative(i64),
    /// Zero or more.
    Positive(u64),
    /// With a fraction or exponent, or too large for the others.
    Float(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative(number) => number.fmt(f),
            Self::Positive(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

impl Value {
    /// Returns the value of `key` in a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(fields) = self else { return None };
        fields.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
    }

    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(Number::Negative(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(Number::Positive(value)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Number(Number::Float(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::String(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(Value::String(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = seq.next_element()? {
                    nodes.push(node);
                }
                Ok(Value::List(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Value::Map(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A file with its text.
#[derive(Debug)]
pub(super) struct Source {
    /// Path as the user gave it, or as found below a directory that the user gave.
    pub(super) file: PathBuf,
    /// The whole text.
    pub(super) text: String,
}

impl Source {
    /// Reads all documents; empty ones are left out.
    pub(super) fn documents(&self) -> Result<Vec<Node>, Problem> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                // Files have at most 10 MiB: at 10 bytes per value, a million values.
                max_nodes: 1_000_000,
                max_events: 3_000_000,
                // A policy that a thousand entries share is a normal use of anchors, not an attack;
                // alias_limits bounds the growth.
                enforce_alias_anchor_ratio: false,
            },
            // About ten thousand uses of a shared policy.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 500_000 },
            // YAML reads a tag such as 12e4567 as an overflowing number; `typed` reports "quote
            // it".
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
        };
        serde_saphyr::from_multiple_with_options(&self.text, options).map_err(|error| {
            let error = error.without_snippet();

            let message = match error {
                // `Null` is an operator of IAM conditions.
                serde_saphyr::Error::NullIntoString { .. } => {
                    "quote this key, YAML reads it as null".into()
                }
                _ => UserMessageFormatter.format_message(error),
            };
            let position = error
                .location()
                .map_or_else(|| Position::whole(&self.file), |location| self.position(&location));
            Problem { position, message: printable(&format!("cannot be read: {message}")) }
        })
    }

    /// Returns a location as the user reads it.
    pub(super) fn position(&self, location: &Location) -> Position {
        Position { file: self.file.clone(), line: location.line(), column: location.column() }
    }

    /// Returns a problem with the value at `location`.
    pub(super) fn problem(&self, location: &Location, message: impl AsRef<str>) -> Problem {
        Problem { position: self.position(location), message: printable(message.as_ref()) }
    }

    /// Returns the text of the file at `location`, without quotes.
    pub(super) fn written(&self, location: &Location) -> Option<&str> {
        let span = location.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        let text = self.text.get(start..end)?.trim();
        Some(text.trim_matches(['"', '\'']))
    }
}

/// Escapes control characters: messages quote files, and a terminal must not interpret them.
fn printable(message: &str) -> String {
    message.chars().fold(String::with_capacity(message.len()), |mut text, c| {
        if c.is_control() {
            text.extend(c.escape_debug())
        } else {
            text.push(c)
        }
        text
    })
}
