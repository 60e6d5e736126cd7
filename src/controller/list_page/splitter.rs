//! Cuts the text of a list into the texts of its objects, as it arrives. What is inside of an object
//! is not judged here: its text is decoded afterwards, and so is the text around the objects.

/// The text that is around the objects is small. A longer one is cut, and then not valid.
const LONGEST_REST: usize = 1024 * 1024;

/// The state at the end of what has arrived.
#[derive(Default)]
pub(super) struct Splitter {
    /// Brackets that are open.
    depth: usize,
    /// Whether the end is inside of a string, and if so, whether after a backslash.
    string: Option<bool>,
    /// The last string directly in the list, with its quotes: a key, or a value.
    key: Vec<u8>,
    /// Whether the array of objects is open.
    in_items: bool,
    /// The object that has begun.
    object: Vec<u8>,
    /// The text without the objects.
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes bytes from the front of `chunk` until an object ends. Returns its text; `None` at the
    /// end of the chunk.
    pub(super) fn next(&mut self, chunk: &mut &[u8]) -> Option<Vec<u8>> {
        while let Some((&byte, others)) = chunk.split_first() {
            *chunk = others;
            if self.take(byte) {
                return Some(std::mem::take(&mut self.object));
            }
        }
        None
    }

    /// Returns the text without the objects.
    pub(super) fn rest(self) -> Vec<u8> {
        [self.rest, self.object].concat()
    }

    /// Takes one byte. Returns whether an object ends with it.
    fn take(&mut self, byte: u8) -> bool {
        let was_in_string = self.string.is_some();
        match self.string {
            Some(true) => self.string = Some(false),
            Some(false) if byte == b'\\' => self.string = Some(true),
            Some(false) if byte == b'"' => self.string = None,
            Some(false) => {}
            None => match byte {
                b'"' => self.string = Some(false),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            },
        }

        if self.in_items {
            return self.take_in_items(byte, was_in_string);
        }
        if self.depth == 1 && (was_in_string || self.string.is_some()) {
            if !was_in_string {
                self.key.clear();
            }
            // Longer keys are not compared.
            if self.key.len() < 16 {
                self.key.push(byte);
            }
        }
        if !was_in_string && byte == b'[' && self.depth == 2 {
            self.in_items = self.key == br#""items""#;
        }
        if self.rest.len() < LONGEST_REST {
            self.rest.push(byte);
        }
        false
    }

    fn take_in_items(&mut self, byte: u8, was_in_string: bool) -> bool {
        if self.depth < 2 {
            if !self.object.is_empty() {
                // A value that is no object: the rest must not be valid either.
                self.rest.push(b'!');
            }
            self.rest.push(byte);
            self.in_items = false;
            return false;
        }
        let is_between = !was_in_string
            && self.object.is_empty()
            && (byte == b',' || byte.is_ascii_whitespace());
        if is_between {
            return false;
        }
        self.object.push(byte);
        self.depth == 2 && !was_in_string && matches!(byte, b'}' | b']')
    }
}
