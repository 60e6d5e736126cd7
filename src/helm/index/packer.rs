//! A chart's entries, deflated as JSON while they are parsed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value as Json;

use super::super::yaml::{self, Value};
use super::{CHART_BYTES, Form, Packed};
use crate::memory_budget::{Results, Shortage};

/// Takes the entries of one chart after the other.
#[derive(Debug)]
pub(super) struct Packer {
    deflater: DeflateEncoder<Vec<u8>>,
    /// The length of the JSON of the chart.
    length: usize,
    /// The reserved bytes of the chart.
    reserved: usize,
}

impl Default for Packer {
    fn default() -> Self {
        let deflater = DeflateEncoder::new(Vec::new(), Compression::fast());
        Self { deflater, length: 0, reserved: 0 }
    }
}

impl Packer {
    /// Adds an entry.
    ///
    /// # Errors
    /// When the memory budget does not allow it.
    pub(super) fn entry(&mut self, entry: &Value, memory: &mut Results) -> Result<(), Shortage> {
        let separator = if self.length == 0 { '[' } else { ',' };
        self.write(&format!("{separator}{}", to_json(entry)));

        // While it grows, the vector is copied to one of twice its length.
        let most = 3 * self.deflater.get_ref().len();
        if most > self.reserved {
            memory.add(most - self.reserved)?;
            self.reserved = most;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) {
        self.length += text.len();
        // Writing to a Vec cannot fail.
        let _ = self.deflater.write_all(text.as_bytes());
    }

    /// Ends the chart. `name` is the length of its name.
    ///
    /// # Errors
    /// When the memory budget does not allow it.
    pub(super) fn finish(
        &mut self,
        is_list: bool,
        is_duplicate: bool,
        name: usize,
        memory: &mut Results,
    ) -> Result<Packed, Shortage> {
        let is_empty = self.length == 0;
        let bytes = if is_empty {
            Box::default()
        } else {
            self.write("]");
            self.deflater.reset(Vec::new()).unwrap_or_default().into()
        };
        let form = match (is_list, is_empty) {
            (false, _) => Form::Other,
            (true, true) => Form::Empty,
            (true, false) => Form::Json,
        };
        let packed = Packed { bytes, length: self.length, form, is_duplicate };

        memory.add(CHART_BYTES + name + packed.bytes.len())?;
        memory.shrink_to(memory.bytes() - self.reserved);
        (self.length, self.reserved) = (0, 0);
        Ok(packed)
    }
}

/// Converts an entry to JSON.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        // Numbers are only read as text, so they are written as text.
        Value::Integer(value) => value.to_string().into(),
        Value::Float(value) => yaml::format_float(*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(fields) => {
            Json::Object(fields.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}
