//! A scanner for the lines of a YAML document in block style: which ones are structure, and which
//! are inside of a text.
//!
//! It is not a parser. It finds the keys, and returns [`Line::Unknown`] for lines that need a
//! parser.

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// An empty line, a comment, or a line inside of a scalar or flow collection.
    Inside,
    /// `---` or `...`, and the rest of the line.
    Marker(&'l [u8]),
    /// `- …` at this indentation.
    Element { indent: usize },
    /// `key: value` at this indentation.
    Key { indent: usize, key: &'l [u8], value: &'l [u8] },
    /// A scalar on a line of its own.
    Scalar { indent: usize },
    /// A line that needs a parser.
    Unknown,
}

/// The construct that is open at the end of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// `|` or `>` of a key or element at `parent`, and the indentation of its text, once known.
    Block { parent: usize, text: Option<usize> },
    /// A quoted scalar.
    Quoted(u8),
    /// `[` or `{` at this depth, possibly inside of a quoted scalar.
    Flow { depth: usize, quote: Option<u8> },
    /// A plain scalar of a key or element at `parent`: deeper lines continue it.
    Plain { parent: usize },
}

/// Reads line after line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Open,
    /// Whether an alias was used: then lines cannot be cut out of the document.
    pub(super) alias: bool,
}

impl Lines {
    /// Classifies the next line, with or without its line break.
    pub(super) fn read<'l>(&mut self, line: &'l [u8]) -> Line<'l> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\r') {
            // A line break of its own in YAML.
            return Line::Unknown;
        }
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        let rest = &line[indent..];
        if self.continues(indent, rest) || rest.is_empty() || rest[0] == b'#' {
            return Line::Inside;
        }

        if rest[0] == b'\t' {
            // A line of only white space is harmless; YAML does not allow tabs for indentation.
            return if rest.iter().all(u8::is_ascii_whitespace) {
                Line::Inside
            } else {
                Line::Unknown
            };
        }

        if indent == 0 && (is_marker(rest, b"---") || is_marker(rest, b"...")) {
            return Line::Marker(&rest[3..]);
        }
        self.structure(indent, rest)
    }

    /// Whether the line continues the open construct; closes it otherwise.
    fn continues(&mut self, indent: usize, rest: &[u8]) -> bool {
        match self.open {
            Open::Nothing => return false,
            Open::Block { parent, text } => {
                if rest.is_empty() {
                    return true;
                }
                if indent >= text.unwrap_or(parent + 1) {
                    self.open = Open::Block { parent, text: Some(text.unwrap_or(indent)) };
                    return true;
                }
            }
            Open::Quoted(quote) => {
                if closing(rest, quote).is_some() {
                    self.open = Open::Nothing;
                }
                return true;
            }
            Open::Flow { depth, quote } => {
                self.alias |= rest.contains(&b'*');
                self.open = flow(rest, depth, quote);
                return true;
            }
            Open::Plain { parent } => {
                if rest.is_empty() || indent > parent {
                    return true;
                }
            }
        }
        self.open = Open::Nothing;

        false
    }

    /// Whether a quoted scalar or a flow collection was not closed.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.open, Open::Quoted(_) | Open::Flow { .. })
    }

    fn structure<'l>(&mut self, indent: usize, mut rest: &'l [u8]) -> Line<'l> {
        let (mut column, mut parent) = (indent, indent);
        let mut element = false;
        while rest == b"-" || rest.starts_with(b"- ") {
            (element, parent) = (true, column);
            let blanks = rest[1..].iter().take_while(|byte| **byte == b' ').count();
            rest = &rest[1 + blanks..];
            column += 1 + blanks;
        }

        if rest.is_empty() || rest[0] == b'#' {
            return Line::Element { indent };
        }
        if rest[0] == b'?' && rest.get(1).is_none_or(|byte| *byte == b' ') {
            return Line::Unknown;
        }

        if element {
            // `- &a key: …`
            let bare = without_properties(rest);
            column += rest.len() - bare.len();
            rest = bare;
            if rest.is_empty() {
                // `- &a`, with the value on the next lines.
                return Line::Element { indent };
            }
        }

        let Some((key, value)) = split_key(rest) else {
            self.value(rest, if element { parent } else { indent.saturating_sub(1) });
            return if element { Line::Element { indent } } else { Line::Scalar { indent } };
        };
        let value = self.value(value, column);
        if element { Line::Element { indent } } else { Line::Key { indent, key, value } }
    }

    /// Scans the value after a key or a dash at `parent`, notes which construct it opens, and
    /// returns it.
    fn value<'l>(&mut self, value: &'l [u8], parent: usize) -> &'l [u8] {
        let value = without_properties(value);
        match value.first() {
            None => {}
            Some(b'*') => self.alias = true,
            Some(quote @ (b'"' | b'\'')) => {
                let closed = closing(&value[1..], *quote).is_some();
                self.open = if closed { Open::Nothing } else { Open::Quoted(*quote) };
            }
            Some(b'[' | b'{') => self.open = flow(value, 0, None),
            Some(b'|' | b'>') => {
                let explicit = value.iter().skip(1).take(2).find(|byte| byte.is_ascii_digit());
                let text = explicit.map(|digit| parent + usize::from(digit - b'0'));
                self.open = Open::Block { parent, text };
            }
            Some(_) => self.open = Open::Plain { parent },
        }

        // Possibly an alias inside of a flow collection. If it is only text, the whole index is
        // parsed without need.
        if matches!(value.first(), Some(b'[' | b'{')) && value.contains(&b'*') {
            self.alias = true;
        }

        value
    }
}

fn is_marker(rest: &[u8], marker: &[u8]) -> bool {
    rest.strip_prefix(marker).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Removes white space, comments, anchors and tags at the beginning.
fn without_properties(value: &[u8]) -> &[u8] {
    let mut value = value.trim_ascii();
    while matches!(value.first(), Some(b'&' | b'!')) {
        let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
        value = value[end..].trim_ascii_start();
    }
    if value.first() == Some(&b'#') { &[] } else { value }
}

/// Splits `key: value`, also with a quoted key. The key keeps its quotes.
fn split_key(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends_key = |at: usize| rest.get(at + 1).is_none_or(u8::is_ascii_whitespace);
    match rest[0] {
        quote @ (b'"' | b'\'') => {
            let end = 1 + closing(&rest[1..], quote)?;
            let colon = end + rest[end..].iter().take_while(|byte| **byte == b' ').count();
            (rest.get(colon) == Some(&b':') && ends_key(colon))
                .then(|| (&rest[..end], &rest[colon + 1..]))
        }
        b'[' | b'{' | b'|' | b'>' | b'*' | b'%' | b'@' | b'`' => None,
        _ => {
            for (at, byte) in rest.iter().enumerate() {
                match byte {
                    b':' if ends_key(at) => {
                        return Some((rest[..at].trim_ascii_end(), &rest[at + 1..]));
                    }
                    b'#' if at > 0 && rest[at - 1] == b' ' => return None,
                    _ => {}
                }
            }
            None
        }
    }
}

/// The position after the closing quote.
fn closing(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            byte if *byte == quote => {
                if quote == b'\'' && text.get(at + 1) == Some(&quote) {
                    at += 1;
                } else {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The construct that is open after a line in a flow collection.
fn flow(line: &[u8], mut depth: usize, mut quote: Option<u8>) -> Open {
    let mut at = 0;
    while at < line.len() {
        if let Some(open) = quote {
            match closing(&line[at..], open) {
                Some(length) => at += length,
                None => return Open::Flow { depth, quote },
            }
            quote = None;
            continue;
        }
        let begins = at == 0 || matches!(line[at - 1], b' ' | b'[' | b'{' | b',' | b':');
        match line[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Open::Nothing;
                }
            }
            b'#' if at == 0 || line[at - 1] == b' ' => break,
            b @ (b'"' | b'\'') if begins => quote = Some(b),
            _ => {}
        }
        at += 1;
    }

    Open::Flow { depth, quote: None }
}
