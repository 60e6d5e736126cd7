//! The parser for an index that cannot be cut by lines: JSON, flow style, aliases. It parses the
//! whole text, but holds the values of one chart at a time.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

use super::super::yaml::{self, Bounds, Value};
use super::{Form, Packed};
use crate::nesting;
use crate::yaml_tree::Node;

type Charts = HashMap<Box<str>, Packed>;

/// Reads the charts of the document, or the reason why it is not an index.
pub(super) fn read(text: &[u8]) -> Result<Charts, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{')
        && nesting::check_json(text.as_bytes()).is_ok()
        && let Ok(document) = read_json(text)
    {
        return document;
    }
    let nodes = text.len() / 2 + 1000;
    // Aliases may expand the text to three times its length.
    let options = yaml::options(Bounds { nodes, replayed: nodes });
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            Document(&|node: Node| yaml::resolve(node, text)).deserialize(deserializer)
        });
    read.map_err(|e| yaml::message(&e))?
}

fn read_json(text: &str) -> Result<Result<Charts, String>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    let read = Document(&from_json).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(read)
}

/// Converts a chart's value from JSON.
pub(super) fn from_json(value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i128() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(list) => Value::List(list.into_iter().map(from_json).collect()),
        Json::Object(fields) => {
            Value::Map(fields.into_iter().map(|(key, value)| (key, from_json(value))).collect())
        }
    }
}

/// Converts a chart's value to JSON, with only the fields that are read later.
fn to_json(value: &Value) -> Json {
    const USED: [&str; 7] =
        ["name", "version", "urls", "digest", "deprecated", "appVersion", "type"];
    let entry = |value: &Value| match value {
        Value::Map(fields) => {
            let used = fields.iter().filter(|(key, _)| USED.contains(&key.as_str()));
            Json::Object(used.map(|(key, value)| (key.clone(), to_json_any(value))).collect())
        }
        other => to_json_any(other),
    };
    match value {
        Value::List(list) => Json::Array(list.iter().map(entry).collect()),
        other => to_json_any(other),
    }
}

fn to_json_any(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        // Numbers are only read as text, so they are written as text.
        Value::Integer(value) => value.to_string().into(),
        Value::Float(value) => yaml::format_float(*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(to_json_any).collect(),
        Value::Map(fields) => {
            Json::Object(fields.iter().map(|(k, v)| (k.clone(), to_json_any(v))).collect())
        }
    }
}

/// Deflates the fields of the entries that are read later.
pub(super) fn pack(value: &Value, is_duplicate: bool) -> Packed {
    let json = to_json(value).to_string();
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = packer.write_all(json.as_bytes());
    let bytes = packer.finish().unwrap_or_default().into();
    Packed { bytes, length: json.len(), form: Form::Json, is_duplicate }
}

/// The visitor of the document, which reads its `entries` as nodes `N` and converts them.
struct Document<'a, N>(&'a dyn Fn(N) -> Value);

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Document<'_, N> {
    type Value = Result<Charts, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Document<'_, N> {
    type Value = Result<Charts, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with `entries`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut charts = Charts::new();
        let mut is_index = false;

        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("entries") {
                map.next_value_seed(Entries { convert: self.0, charts: &mut charts })?;
                is_index = true;
            } else {
                is_index |= key.eq_ignore_ascii_case("apiVersion");
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(if is_index { Ok(charts) } else { Err("it has no `entries`".into()) })
    }
}

struct Entries<'a, N> {
    convert: &'a dyn Fn(N) -> Value,
    charts: &'a mut Charts,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Entries<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Entries<'_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from chart names to lists of versions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = (self.convert)(map.next_value()?);
            let is_duplicate = self.charts.contains_key(name.as_str());
            self.charts.insert(name.into(), pack(&value, is_duplicate));
        }
        Ok(())
    }
}
