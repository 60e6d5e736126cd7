//! The parser for an index that cannot be cut by lines: JSON, flow style, aliases. It parses the
//! whole text, but holds one entry of one chart at a time.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::super::yaml::{self, Bounds, Value};
use super::Packed;
use super::entries::too_many_keys;
use super::entries::{List, MAX_KEYS, Scalar, Skipped};
use super::packer::Packer;
use crate::memory_budget::{Results, Shortage};
use crate::nesting;
use crate::yaml_tree::{Number, Value as Tree};

type Charts = HashMap<Box<str>, Packed>;

/// The reason why a text cannot be read as an index.
#[derive(Debug)]
pub(super) enum Error {
    /// The reason why it is not an index.
    NotAnIndex(String),
    /// The memory budget does not allow it.
    Memory(Shortage),
}

/// Reads the charts of the document. `memory` gets what they need.
pub(super) fn read(text: &[u8], memory: &mut Results) -> Result<Charts, Error> {
    let not_utf8 = |_| Error::NotAnIndex("it is not UTF-8".to_owned());
    let text = std::str::from_utf8(text).map_err(not_utf8)?;
    let before = memory.bytes();

    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{')
        && nesting::check_json(text.as_bytes()).is_ok()
    {
        let mut reading = Reading::new(memory);
        let read = read_json(text, &mut reading);
        match (reading.shortage, read) {
            (Some(shortage), _) => return Err(Error::Memory(shortage)),
            (None, Ok(is_index)) => return reading.finish(is_index),
            // It may be YAML in flow style.
            (None, Err(_)) => memory.shrink_to(before),
        }
    }

    let options = yaml::options(Bounds::of_index(text));
    let convert = |node: Spanned<Scalar>| from_yaml(node, text);
    let mut reading = Reading::new(memory);
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            Document { convert: &convert, reading: &mut reading }.deserialize(deserializer)
        });
    match (reading.shortage, read) {
        (Some(shortage), _) => Err(Error::Memory(shortage)),
        (None, Ok(is_index)) => reading.finish(is_index),
        (None, Err(error)) => Err(Error::NotAnIndex(yaml::message(&error))),
    }
}

fn read_json(text: &str, reading: &mut Reading<'_>) -> Result<bool, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    let is_index = Document { convert: &from_json, reading }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(is_index)
}

/// Converts a scalar of a YAML document.
pub(super) fn from_yaml(node: Spanned<Scalar>, text: &str) -> Value {
    let Spanned { value: Scalar(value), referenced, defined } = node;
    yaml::resolve(Spanned { value, referenced, defined }, text)
}

/// Converts a scalar of a JSON document.
pub(super) fn from_json(Scalar(value): Scalar) -> Value {
    match value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(value),
        Tree::Number(Number::Negative(value)) => Value::Integer(value.into()),
        Tree::Number(Number::Positive(value)) => Value::Integer(value.into()),
        Tree::Number(Number::Float(value)) => Value::Float(value),
        Tree::String(text) => Value::Text(text),
        Tree::List(_) => Value::List(Vec::new()),
        Tree::Map(_) => Value::Map(Vec::new()),
    }
}

/// The charts that were read so far.
struct Reading<'m> {
    charts: Charts,
    packer: Packer,
    memory: &'m mut Results,
    shortage: Option<Shortage>,
}

impl<'m> Reading<'m> {
    fn new(memory: &'m mut Results) -> Self {
        Self { charts: Charts::new(), packer: Packer::default(), memory, shortage: None }
    }

    fn finish(self, is_index: bool) -> Result<Charts, Error> {
        match is_index {
            true => Ok(self.charts),
            false => Err(Error::NotAnIndex("it has no `entries`".into())),
        }
    }
}

/// The visitor of the document, which reads its `entries` with scalars of the form `N`. The result
/// is whether it is an index.
struct Document<'a, 'm, N> {
    convert: &'a dyn Fn(N) -> Value,
    reading: &'a mut Reading<'m>,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Document<'_, '_, N> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Document<'_, '_, N> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with `entries`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut is_index = false;
        let mut keys = 0;
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("entries") {
                map.next_value_seed(Entries { convert: self.convert, reading: self.reading })?;
                is_index = true;
            } else {
                is_index |= key.eq_ignore_ascii_case("apiVersion");
                map.next_value::<Skipped>()?;
            }
            keys += 1;
            if keys > MAX_KEYS {
                return Err(too_many_keys());
            }
        }
        Ok(is_index)
    }
}

struct Entries<'a, 'm, N> {
    convert: &'a dyn Fn(N) -> Value,
    reading: &'a mut Reading<'m>,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Entries<'_, '_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Entries<'_, '_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from chart names to lists of versions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { convert, reading: Reading { charts, packer, memory, shortage } } = self;
        let mut keep = |result: Result<(), Shortage>| match result {
            Ok(()) => true,
            Err(error) => {
                *shortage = Some(error);
                false
            }
        };
        let stopped = || serde::de::Error::custom("the memory budget is used up");

        while let Some(name) = map.next_key::<String>()? {
            let is_duplicate = charts.contains_key(name.as_str());
            let mut take = |entry: Value| keep(packer.entry(&entry, memory));
            let is_list = map.next_value_seed(List { convert, take: &mut take })?;
            match packer.finish(is_list, is_duplicate, name.len(), memory) {
                Ok(packed) => drop(charts.insert(name.into(), packed)),
                Err(error) => {
                    keep(Err(error));
                    return Err(stopped());
                }
            }
        }
        Ok(())
    }
}
