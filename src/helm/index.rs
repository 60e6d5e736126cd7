//! `index.yaml` of a chart repository: the versions of each chart, and the URLs of their archives.
//!
//! Indexes are large (Bitnami's has 26 MB) and few of their charts are wanted. So the text is cut
//! into charts while it arrives ([`Reader`]), the lines of each chart are kept deflated, and only
//! the wanted charts are parsed. A text that cannot be cut safely (JSON, flow style, aliases) is
//! put together at the end and parsed whole. Both are parsed entry by entry.

mod entries;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod lines;
mod packer;
mod reader;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::HashMap;
use std::fmt;
use std::io::{BufReader, Read as _};

use flate2::read::DeflateDecoder;
use parking_lot::Mutex;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

pub use entry::{ChartVersions, Entry, Problem};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use fuzzing::chart_index;
pub(super) use reader::Reader;

use self::entries::{List, Scalar};
use self::entry::Collector;
use self::packer::Packer;
use super::Error;
use super::yaml::{self, Bounds, Value};
use crate::memory_budget::{Need, Results, Shortage};

/// Memory of a chart in an index, besides its name and its text: its place in the map, and in the
/// list of sections before.
const CHART_BYTES: usize = 512;
/// The memory to parse the lines of a chart, or a whole index: the text, the parser's copies of the
/// longest scalar, and the events that are kept for aliases. The entries are reserved one by one.
const PARSE_NEED: Need = Need { fixed: 512 * 1024, per_byte: 5, parsed: (4, 16 * 1024 * 1024) };

/// An index, with its charts deflated and not yet parsed.
pub struct Index {
    url: String,
    charts: HashMap<Box<str>, Mutex<Packed>>,
    /// The memory of the charts.
    memory: Results,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("url", &self.url).field("charts", &self.charts.len()).finish()
    }
}

/// One chart's part of the index, deflated.
#[derive(Debug)]
struct Packed {
    bytes: Box<[u8]>,
    /// The length of the text.
    length: usize,
    form: Form,
    /// Whether the key occurs more than once: YAML forbids that, and either could be meant.
    is_duplicate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The lines of the index, from the chart's key on.
    Yaml,
    /// The entries as JSON.
    Json,
    /// No entries.
    Empty,
    /// A value that is not a list of versions.
    Other,
}

impl Index {
    fn new(url: String, charts: HashMap<Box<str>, Packed>, memory: Results) -> Self {
        let charts = charts.into_iter().map(|(name, packed)| (name, Mutex::new(packed)));
        Self { url, charts: charts.collect(), memory }
    }

    /// Reads the versions of a chart. The first call for a chart parses its lines, 5 ms for 200
    /// versions: run it on a thread that may block. The result is kept as JSON, which later calls
    /// read in a tenth of the time.
    ///
    /// # Errors
    /// [`Error::NoSuchChart`], [`Error::Chart`] if the chart's part of the index cannot be read at
    /// all, and [`Error::Memory`]. Single unusable versions are in [`ChartVersions::problems`].
    pub fn chart(&self, name: &str) -> Result<ChartVersions, Error> {
        self.chart_within(name, &mut |_| Ok(()))
    }

    /// [`Self::chart`] with a function that reserves the memory of the parser, in all, before it is
    /// used.
    ///
    /// # Errors
    /// As [`Self::chart`].
    pub(super) fn chart_within(
        &self,
        name: &str,
        reserve: &mut dyn FnMut(usize) -> Result<(), Shortage>,
    ) -> Result<ChartVersions, Error> {
        let Some(packed) = self.charts.get(name) else {
            return Err(Error::NoSuchChart { url: self.url.clone(), chart: name.to_owned() });
        };
        let unreadable =
            |why: String| Error::Chart { url: self.url.clone(), chart: name.to_owned(), why };
        let mut packed = packed.lock();
        if packed.is_duplicate {
            return Err(unreadable("the index lists the chart twice".into()));
        }

        let no_memory = |source| {
            let subject = format!("the versions of chart {name} in {}", self.url);
            Error::Memory { subject, source }
        };
        if packed.form == Form::Yaml {
            reserve(PARSE_NEED.of(packed.length)).map_err(no_memory)?;
        }

        let mut versions = Collector::new(name, self.memory.budget().results());
        let mut repacked = self.memory.budget().results();
        let mut packer = (packed.form == Form::Yaml).then(Packer::default);
        let mut shortage = None;
        let mut take = |entry: Value| {
            let taken = match &mut packer {
                Some(packer) => packer.entry(&entry, &mut repacked),
                None => Ok(()),
            };
            let taken = taken.and_then(|()| versions.push(entry));
            shortage = taken.err();
            shortage.is_none()
        };
        let is_list = packed.entries(&mut take);

        if let Some(source) = shortage {
            return Err(no_memory(source));
        }
        let is_list = is_list.map_err(unreadable)?;
        if let Some(mut packer) = packer
            && let Ok(as_json) = packer.finish(is_list, false, 0, &mut repacked)
        {
            *packed = as_json;
        }
        if !is_list {
            return Err(unreadable("it is not a list of versions".into()));
        }
        Ok(versions.finish())
    }

    /// The size in memory, in bytes, approximately.
    pub(super) const fn size(&self) -> usize {
        self.memory.bytes()
    }
}

impl Packed {
    /// Parses the entries one by one. Returns whether the value is a list.
    fn entries(&self, take: &mut dyn FnMut(Value) -> bool) -> Result<bool, String> {
        let text = DeflateDecoder::new(&self.bytes[..]);
        match self.form {
            Form::Empty => Ok(true),
            Form::Other => Ok(false),
            Form::Json => {
                let mut document = serde_json::Deserializer::from_reader(BufReader::new(text));
                let list = List { convert: &whole::from_json, take };
                let is_list = list.deserialize(&mut document);
                is_list.map_err(|error| yaml::without_quotes(&error.to_string()))
            }
            Form::Yaml => Self::lines(text, self.length, take),
        }
    }

    fn lines(
        mut deflated: DeflateDecoder<&[u8]>,
        length: usize,
        take: &mut dyn FnMut(Value) -> bool,
    ) -> Result<bool, String> {
        let mut text = String::with_capacity(length);
        deflated.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let convert = |node: Spanned<Scalar>| whole::from_yaml(node, &text);

        let read = serde_saphyr::with_deserializer_from_str_with_options(
            &text,
            yaml::options(Bounds::of_index(&text)),
            |deserializer| OneChart(List { convert: &convert, take }).deserialize(deserializer),
        );
        read.map_err(|error| yaml::message(&error))
    }
}

/// The lines of a chart: a mapping with one key.
struct OneChart<'a, N>(List<'a, N>);

impl<'de, N: serde::Deserialize<'de>> DeserializeSeed<'de> for OneChart<'_, N> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, N: serde::Deserialize<'de>> Visitor<'de> for OneChart<'_, N> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of versions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        if map.next_key::<String>()?.is_none() {
            return Ok(false);
        }
        let is_list = map.next_value_seed(self.0)?;
        Ok(is_list && map.next_key::<String>()?.is_none())
    }
}
