//! `index.yaml` of a chart repository: the versions of each chart, and the URLs of their archives.
//!
//! Indexes are large (Bitnami's has 26 MB) and few of their charts are wanted. So the text is cut
//! into charts while it arrives ([`Reader`]), the lines of each chart are kept deflated, and only
//! the wanted charts are parsed. A text that cannot be cut safely (JSON, flow style, aliases) is
//! put together at the end and parsed whole, chart by chart.

mod entry;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod lines;
mod reader;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::HashMap;
use std::io::Read as _;

pub use entry::{ChartVersions, Entry, Problem};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use fuzzing::chart_index;
pub(super) use reader::Reader;

use super::Error;
use super::yaml::{self, Bounds, Value};
use parking_lot::Mutex;

/// An index, with its charts deflated and not yet parsed.
pub struct Index {
    url: String,
    charts: HashMap<Box<str>, Mutex<Packed>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("url", &self.url).field("charts", &self.charts.len()).finish()
    }
}

/// One chart's part of the index, deflated.
struct Packed {
    bytes: Box<[u8]>,
    length: usize,
    form: Form,
    /// Whether the key occurs more than once: YAML forbids that, and either could be meant.
    is_duplicate: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The lines of the index, from the chart's key on.
    Yaml,
    /// The chart's value as JSON.
    Json,
}

impl Index {
    fn new(url: String, charts: HashMap<Box<str>, Packed>) -> Self {
        Self {
            url,
            charts: charts.into_iter().map(|(name, packed)| (name, Mutex::new(packed))).collect(),
        }
    }

    /// Reads the versions of a chart. The first call for a chart parses its lines, 5 ms for 200
    /// versions: run it on a thread that may block. The result is kept as JSON, which later calls
    /// read in a tenth of the time.
    ///
    /// # Errors
    /// [`Error::NoSuchChart`], and [`Error::Chart`] if the chart's part of the index cannot be read
    /// at all. Single unusable versions are in [`ChartVersions::problems`].
    pub fn chart(&self, name: &str) -> Result<ChartVersions, Error> {
        let Some(packed) = self.charts.get(name) else {
            return Err(Error::NoSuchChart { url: self.url.clone(), chart: name.to_owned() });
        };
        let unreadable =
            |why: String| Error::Chart { url: self.url.clone(), chart: name.to_owned(), why };
        let list = {
            let mut packed = packed.lock();
            if packed.is_duplicate {
                return Err(unreadable("the index lists the chart twice".into()));
            }
            let list = packed.value().map_err(unreadable)?;
            if packed.form == Form::Yaml {
                *packed = whole::pack(&list, false);
            }
            list
        };
        entry::read(name, list).map_err(|why| unreadable(why.into()))
    }

    /// The size in memory, in bytes, approximately.
    pub(super) fn size(&self) -> usize {
        let size = |packed: &Mutex<Packed>| packed.lock().bytes.len();
        self.charts.iter().map(|(name, packed)| name.len() + size(packed) + 100).sum()
    }
}

impl Packed {
    /// Parses the list of versions, without its entries.
    fn value(&self) -> Result<Value, String> {
        let mut text = String::with_capacity(self.length);
        flate2::read::DeflateDecoder::new(&self.bytes[..])
            .read_to_string(&mut text)
            .map_err(|e| e.to_string())?;

        match self.form {
            Form::Json => serde_json::from_str(&text)
                .map(whole::from_json)
                .map_err(|e| yaml::without_quotes(&e.to_string())),
            Form::Yaml => {
                let bounds =
                    Bounds { nodes: text.len() / 2 + 1000, replayed: text.len() / 2 + 1000 };
                match yaml::parse(&text, bounds)? {
                    Value::Map(mut fields) if fields.len() == 1 => Ok(fields.remove(0).1),
                    _ => Err("it is not a list of versions".into()),
                }
            }
        }
    }
}
