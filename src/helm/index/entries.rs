//! The entries of a chart, parsed one by one. Of each, only the fields that are used are kept, so
//! that the memory for a list does not depend on what else its entries contain.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::yaml::Value;
use crate::yaml_tree::{Number, Value as Tree};

/// The fields of an entry that are read.
const USED: [&str; 7] = ["name", "version", "urls", "digest", "deprecated", "appVersion", "type"];
/// The most URLs of an entry that are read. Two or three are mirrors of each other.
const MAX_URLS: usize = 16;

/// The most keys of a mapping that is not the list of charts. The YAML parser keeps the keys of each
/// open mapping, to find duplicates.
pub(super) const MAX_KEYS: usize = 1000;

/// The methods of a visitor to which every scalar but `null` is the same.
macro_rules! every_scalar_is {
    ($value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// The error for a mapping with more keys than [`MAX_KEYS`].
pub(super) fn too_many_keys<E: de::Error>() -> E {
    E::custom(format!("it has a mapping with more than {MAX_KEYS} keys"))
}

fn skip_map<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    for _ in 0..MAX_KEYS {
        if map.next_entry::<Skipped, Skipped>()?.is_none() {
            return Ok(());
        }
    }
    match map.next_key::<Skipped>()? {
        Some(_) => Err(too_many_keys()),
        None => Ok(()),
    }
}

/// A value that is not used. Other than serde's `IgnoredAny`, it bounds the keys of mappings.
pub(super) struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Skip)
    }
}

struct Skip;

impl<'de> Visitor<'de> for Skip {
    type Value = Skipped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    every_scalar_is!(Skipped);

    fn visit_i128<E>(self, _: i128) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Skipped, A::Error> {
        while seq.next_element::<Skipped>()?.is_some() {}
        Ok(Skipped)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
        skip_map(&mut map)?;
        Ok(Skipped)
    }
}

/// A scalar. A list or mapping is read as an empty one: where it stands, only a scalar is valid.
#[derive(Debug)]
pub(super) struct Scalar(pub(super) Tree);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar).map(Self)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(Number::Negative(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(Number::Positive(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        while seq.next_element::<Skipped>()?.is_some() {}
        Ok(Tree::List(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        skip_map(&mut map)?;
        Ok(Tree::Map(Vec::new()))
    }
}

/// The reader of a chart's list, which gives each entry to `take`. `N` is the form of a scalar in
/// the document. The result is whether the value is a list; `null` is an empty one.
pub(super) struct List<'a, N> {
    pub(super) convert: &'a dyn Fn(N) -> Value,
    /// Returns whether to go on.
    pub(super) take: &'a mut dyn FnMut(Value) -> bool,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for List<'_, N> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for List<'_, N> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of versions")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    every_scalar_is!(false);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while let Some(entry) = seq.next_element_seed(Entry(self.convert))? {
            if !(self.take)(entry) {
                return Err(de::Error::custom("no entry is taken any more"));
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        skip_map(&mut map)?;
        Ok(false)
    }
}

/// One entry; `null` if it is not a mapping.
struct Entry<'a, N>(&'a dyn Fn(N) -> Value);

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Entry<'_, N> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Entry<'_, N> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    every_scalar_is!(Value::Null);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<Skipped>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut keys = 0;
        while let Some(key) = map.next_key::<String>()? {
            keys += 1;
            if keys > MAX_KEYS {
                return Err(too_many_keys());
            }
            if !USED.contains(&key.as_str()) {
                map.next_value::<Skipped>()?;
                continue;
            }

            let value = match key.as_str() {
                "urls" => map.next_value_seed(Urls(self.0))?,
                _ => (self.0)(map.next_value()?),
            };
            match fields.iter_mut().find(|(name, _)| *name == key) {
                Some((_, earlier)) => *earlier = value,
                None => fields.push((key, value)),
            }
        }
        Ok(Value::Map(fields))
    }
}

/// The URLs of an entry. A value that is not a list is read as `false`.
struct Urls<'a, N>(&'a dyn Fn(N) -> Value);

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Urls<'_, N> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Urls<'_, N> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of URLs")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    every_scalar_is!(Value::Bool(false));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut urls = Vec::new();
        while urls.len() < MAX_URLS {
            let Some(url) = seq.next_element()? else { return Ok(Value::List(urls)) };
            urls.push((self.0)(url));
        }
        while seq.next_element::<Skipped>()?.is_some() {}
        Ok(Value::List(urls))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        skip_map(&mut map)?;
        Ok(Value::Map(Vec::new()))
    }
}
