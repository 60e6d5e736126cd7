//! The reader that cuts an index into charts while it arrives, line by line.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::super::Error;
use super::lines::{Line, Lines};
use super::{CHART_BYTES, Form, Index, PARSE_NEED, Packed, whole};
use crate::memory_budget::{Results, Shortage};

/// A longer line is JSON, or an attack: the text is then parsed whole.
const MAX_LINE: usize = 256 * 1024;
/// The mark that programs on Windows write at the beginning of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes of text between two reservations of memory.
const PIECE: usize = 4 * 1024;

/// A reader that takes an index piece by piece.
///
/// # Guarantees
/// It holds the deflated text and one line, whatever the index contains.
#[derive(Debug)]
pub(in crate::helm) struct Reader {
    url: String,
    /// The number of bytes that may still arrive.
    room: usize,
    limit: usize,
    /// The first bytes, until they are more or other than a byte order mark.
    head: Vec<u8>,
    line: Vec<u8>,
    lines: Lines,
    sections: Sections,
    cursor: Cursor,
    /// Whether anything but white space has arrived.
    begun: bool,
    /// Whether the first document has ended; like Helm, a second one is not read.
    ended: bool,
    /// Whether the text must be parsed whole.
    whole: bool,
    has_api_version: bool,
    /// The memory of the deflated text.
    memory: Results,
}

/// The current position in the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cursor {
    /// Before the first key.
    #[default]
    Head,
    /// Below `entries:`, with the indentation of the charts' keys, once known.
    Entries(Option<usize>),
    /// Below another key.
    Elsewhere { had_entries: bool },
}

impl Reader {
    /// Creates a reader of at most `limit` bytes of text.
    pub(in crate::helm) fn new(url: &str, limit: usize, memory: Results) -> Self {
        Self {
            url: url.to_owned(),
            room: limit,
            limit,
            head: Vec::new(),
            line: Vec::new(),
            lines: Lines::default(),
            sections: Sections::default(),
            cursor: Cursor::default(),
            begun: false,
            ended: false,
            whole: false,
            has_api_version: false,
            memory,
        }
    }

    /// Takes the next bytes of the text.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`], [`Error::WebPage`] and [`Error::Memory`].
    pub(in crate::helm) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // A line may be one chart, so memory is reserved for a few of them at a time.
        for piece in bytes.chunks(PIECE) {
            self.take_piece(piece)?;
            self.sections.reserve(&mut self.memory).map_err(|source| self.no_memory(source))?;
        }
        Ok(())
    }

    fn no_memory(&self, source: Shortage) -> Error {
        Error::Memory { subject: self.url.clone(), source }
    }

    fn take_piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.room {
            return Err(self.refuse(format!("it has more than {} bytes", self.limit)));
        }
        let is_head = self.room + self.head.len() == self.limit;
        self.room -= bytes.len();

        if !is_head {
            return self.read(bytes);
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.head) {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        self.read(head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head))
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if !self.begun {
            self.begin(bytes)?;
        }

        while !bytes.is_empty() && !self.ended {
            if self.whole {
                // White space before the first byte of JSON, if that arrived later.
                self.sections.append(&std::mem::take(&mut self.line));
                self.sections.append(bytes);
                return Ok(());
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > MAX_LINE {
                    self.whole = true;
                    self.sections.append(&self.line);
                    self.line = Vec::new();
                }
                return Ok(());
            };

            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.take(line);
            } else {
                let mut complete = std::mem::take(&mut self.line);
                complete.extend_from_slice(line);
                self.take(&complete);
                complete.clear();
                self.line = complete;
            }
        }

        Ok(())
    }

    /// Tells HTML and JSON from YAML by the first byte that is not white space.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else {
            return Ok(());
        };
        self.begun = true;
        if *first == b'<' {
            return Err(Error::WebPage { url: self.url.clone() });
        }
        self.whole = *first == b'{';
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        if !self.whole {
            self.whole = !self.scan(line);
        }
        if !self.ended {
            self.sections.append(line);
        }
    }

    /// Starts a section if one begins at this line. Returns `false` if the text must be parsed
    /// whole.
    fn scan(&mut self, line: &[u8]) -> bool {
        if self.cursor == Cursor::Head && line.first() == Some(&b'%') {
            return true;
        }

        let read = self.lines.read(line);
        if self.lines.alias {
            return false;
        }

        match read {
            Line::Inside => true,
            Line::Unknown => false,
            Line::Marker(rest) => {
                let rest = rest.trim_ascii();
                self.ended = self.cursor != Cursor::Head;
                self.ended || rest.is_empty() || rest[0] == b'#'
            }
            Line::Key { indent: 0, key, value } => self.top_level(key, value),
            Line::Element { indent: 0 } => match self.cursor {
                Cursor::Elsewhere { .. } => true,
                Cursor::Head | Cursor::Entries(_) => false,
            },
            Line::Scalar { indent: 0 } => false,
            Line::Key { indent, key, .. } => self.below(indent, Some(key)),
            // A list may stand at the indentation of its key.
            Line::Element { indent } => match self.cursor {
                Cursor::Entries(Some(charts)) => indent >= charts && self.sections.in_chart(),
                Cursor::Entries(None) | Cursor::Head => false,
                Cursor::Elsewhere { .. } => true,
            },
            Line::Scalar { indent } => self.below(indent, None),
        }
    }

    fn top_level(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(key) = unquoted(key) else { return false };
        let had_entries = match self.cursor {
            Cursor::Head => false,
            Cursor::Entries(_) => true,
            Cursor::Elsewhere { had_entries } => had_entries,
        };
        self.sections.begin(None);
        if key.eq_ignore_ascii_case("entries") {
            self.cursor = Cursor::Entries(None);
            return !had_entries && value.is_empty();
        }
        self.has_api_version |= key.eq_ignore_ascii_case("apiVersion");
        self.cursor = Cursor::Elsewhere { had_entries };
        key != "<<"
    }

    /// Handles an indented line; `key` is the key that it begins with.
    fn below(&mut self, indent: usize, key: Option<&[u8]>) -> bool {
        match (self.cursor, key) {
            (Cursor::Elsewhere { .. }, _) => true,
            (Cursor::Head, _) | (Cursor::Entries(None), None) => false,
            (Cursor::Entries(Some(charts)), _) if indent > charts => self.sections.in_chart(),
            (Cursor::Entries(charts), Some(key)) => {
                let Some(name) = unquoted(key).filter(|name| name != "<<") else { return false };
                self.cursor = Cursor::Entries(Some(indent));
                self.sections.begin(Some(name));
                charts.is_none_or(|charts| charts == indent)
            }
            (Cursor::Entries(Some(_)), None) => false,
        }
    }

    /// Ends the text. Returns the memory that [`Self::finish`] needs.
    pub(in crate::helm) fn end(&mut self) -> usize {
        if !self.line.is_empty() && !self.ended {
            let line = std::mem::take(&mut self.line);
            self.take(&line);
        }
        PARSE_NEED.of(if self.is_parsed_whole() { self.sections.total } else { 0 })
    }

    /// Whether the text must be parsed whole. With an open quote, the parser tells where it begins.
    fn is_parsed_whole(&self) -> bool {
        self.whole || self.lines.is_open()
    }

    /// Builds the index, after [`Self::end`].
    ///
    /// # Errors
    /// [`Error::NotAnIndex`] and [`Error::Memory`].
    pub(in crate::helm) fn finish(mut self) -> Result<Index, Error> {
        self.end();
        if !self.begun {
            return Err(self.refuse("it is empty".into()));
        }

        if self.is_parsed_whole() {
            let text = self.sections.text();
            self.memory.shrink_to(0);
            let charts = whole::read(&text, &mut self.memory).map_err(|error| match error {
                whole::Error::NotAnIndex(why) => self.refuse(why),
                whole::Error::Memory(source) => self.no_memory(source),
            })?;
            return Ok(Index::new(self.url, charts, self.memory));
        }

        let is_index = match self.cursor {
            Cursor::Head => false,
            Cursor::Entries(_) => true,
            Cursor::Elsewhere { had_entries } => had_entries || self.has_api_version,
        };
        if !is_index {
            return Err(self.refuse("it has no `entries`".into()));
        }
        let charts = self.sections.charts();
        let bytes = charts.iter().map(|(name, packed)| name.len() + packed.bytes.len());
        self.memory.shrink_to(bytes.sum::<usize>() + charts.len() * CHART_BYTES);
        Ok(Index::new(self.url, charts, self.memory))
    }

    pub(in crate::helm) fn refuse(&self, why: String) -> Error {
        Error::NotAnIndex { url: self.url.clone(), why }
    }
}

/// The text of a key; `None` if it needs a parser.
fn unquoted(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    match key.as_bytes().first()? {
        b'"' => {
            let inner = key.strip_prefix('"')?.strip_suffix('"')?;
            (!inner.contains('\\')).then(|| inner.to_owned())
        }
        b'\'' => Some(key.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'")),
        b'&' | b'!' => None,
        _ => Some(key.to_owned()),
    }
}

/// A piece of the text.
#[derive(Debug)]
struct Section {
    /// The chart that the lines belong to.
    chart: Option<Box<str>>,
    /// The deflated text.
    packed: Box<[u8]>,
    length: usize,
}

/// Pieces of the text in order, each deflated separately.
#[derive(Debug)]
struct Sections {
    done: Vec<Section>,
    name: Option<Box<str>>,
    packer: DeflateEncoder<Vec<u8>>,
    length: usize,
    /// The length of the whole text.
    total: usize,
    /// The memory of the sections that are done.
    bytes: usize,
}

impl Default for Sections {
    fn default() -> Self {
        // Level 1 makes 2 MB of 26 MB in 0.1 s; level 6 saves a third and takes four times as long.
        let packer = DeflateEncoder::new(Vec::new(), Compression::fast());
        Self { done: Vec::new(), name: None, packer, length: 0, total: 0, bytes: 0 }
    }
}

impl Sections {
    fn in_chart(&self) -> bool {
        self.name.is_some()
    }

    fn append(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.total += bytes.len();
        // Writing to a Vec cannot fail.
        let _ = self.packer.write_all(bytes);
    }

    /// Ends the section and starts another one.
    fn begin(&mut self, name: Option<String>) {
        let packed = self.packer.reset(Vec::new()).unwrap_or_default();
        let chart = std::mem::replace(&mut self.name, name.map(Into::into));
        if self.length > 0 {
            // A list is up to three times as large while it grows.
            let name = chart.as_ref().map_or(0, |chart| chart.len());
            self.bytes += packed.len() + name + CHART_BYTES + 3 * size_of::<Section>();
            self.done.push(Section { chart, packed: packed.into(), length: self.length });
        }
        self.length = 0;
    }

    /// Reserves the memory of all sections. The text of the open one is copied while it grows.
    fn reserve(&self, memory: &mut Results) -> Result<(), Shortage> {
        let bytes = self.bytes + 3 * self.packer.get_ref().len();
        match bytes.checked_sub(memory.bytes()) {
            Some(more) => memory.add(more),
            None => Ok(()),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        use std::io::Read as _;
        self.begin(None);
        let mut text = Vec::with_capacity(self.done.iter().map(|section| section.length).sum());
        for Section { packed, .. } in self.done.drain(..) {
            let _ = flate2::read::DeflateDecoder::new(&packed[..]).read_to_end(&mut text);
        }
        text
    }

    fn charts(mut self) -> HashMap<Box<str>, Packed> {
        self.begin(None);
        let mut charts = HashMap::<Box<str>, Packed>::new();
        for Section { chart, packed, length } in self.done {
            let Some(name) = chart else { continue };
            let packed = Packed { bytes: packed, length, form: Form::Yaml, is_duplicate: false };
            charts.entry(name).and_modify(|packed| packed.is_duplicate = true).or_insert(packed);
        }
        charts
    }
}
