//! JSON as Go writes it: like serde's, with `<`, `>`, `&`, U+2028 and U+2029 escaped.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

struct Go(CompactFormatter);

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

/// Go's `json.Marshal(value)`.
pub(super) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Go(CompactFormatter)))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn characters_special_to_html_are_escaped() {
        let text = "a<b>&\u{2028}\"\\/\u{8}\u{1f}\u{7f}é<";
        let json = super::to_vec(&text).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\\\\/\\b\\u001f\u{7f}é\\u003c\""
        );
    }
}
