//! `index.yaml` of a chart repository: which versions a chart has, and where their archives are.
//!
//! Indexes are large (Bitnami's has 26 MB) and few of their charts are wanted. So the text is cut
//! into charts while it arrives ([`Reader`]), each chart's lines are kept deflated, and only the
//! charts that somebody asks for are ever parsed. What cannot be cut safely (JSON, flow style,
//! aliases) is put together again at the end and parsed whole, chart by chart.

mod entry;
mod lines;
mod reader;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::HashMap;
use std::io::Read as _;

pub use entry::{ChartVersions, Entry, Problem};
pub(super) use reader::Reader;

use super::Error;
use super::yaml::{self, Bounds, Value};
use parking_lot::Mutex;

/// An index, ready to be asked for charts.
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
    /// The key occurs more than once: YAML forbids it, and either could be meant.
    twice: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The lines of the index, from the chart's key on.
    Yaml,
    /// The chart's value as JSON.
    Json,
}

impl Index {
    /// Reads an index that is in memory. `url` is for messages.
    ///
    /// # Errors
    /// Class `SourceInvalid`.
    pub fn parse(url: &str, text: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(url, usize::MAX);
        reader.push(text)?;
        reader.finish()
    }

    /// The names of all charts, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.charts.keys().map(AsRef::as_ref)
    }

    fn new(url: String, charts: HashMap<Box<str>, Packed>) -> Self {
        Self {
            url,
            charts: charts.into_iter().map(|(name, packed)| (name, Mutex::new(packed))).collect(),
        }
    }

    /// The versions of a chart. The first call for a chart parses its lines, 5 ms for 200 versions:
    /// on a thread that may block. What it finds is kept in a form that later calls read in a tenth
    /// of that.
    ///
    /// # Errors
    /// [`Error::NoSuchChart`], and [`Error::Chart`] if the chart's part of the index cannot be read
    /// at all. Single versions that cannot be used are [`ChartVersions::problems`].
    pub fn chart(&self, name: &str) -> Result<ChartVersions, Error> {
        let Some(packed) = self.charts.get(name) else {
            return Err(Error::NoSuchChart { url: self.url.clone(), chart: name.to_owned() });
        };
        let unreadable =
            |why: String| Error::Chart { url: self.url.clone(), chart: name.to_owned(), why };
        let list = {
            let mut packed = packed.lock();
            if packed.twice {
                return Err(unreadable("the index lists it twice".into()));
            }
            let list = packed.value().map_err(unreadable)?;
            if packed.form == Form::Yaml {
                *packed = whole::pack(&list, false);
            }
            list
        };
        entry::read(name, list).map_err(|why| unreadable(why.into()))
    }

    /// Bytes held, about.
    pub(super) fn held(&self) -> usize {
        let size = |packed: &Mutex<Packed>| packed.lock().bytes.len();
        self.charts.iter().map(|(name, packed)| name.len() + size(packed) + 100).sum()
    }
}

impl Packed {
    /// The list of versions, not yet looked at.
    fn value(&self) -> Result<Value, String> {
        let mut text = String::with_capacity(self.length);
        flate2::read::DeflateDecoder::new(&self.bytes[..])
            .read_to_string(&mut text)
            .map_err(|e| e.to_string())?;
        match self.form {
            Form::Json => {
                serde_json::from_str(&text).map(whole::from_json).map_err(|e| e.to_string())
            }
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
