//! JSON documents from registries.

use serde::Deserialize;

use crate::nesting;

/// Parses an object. serde would also accept a list for a struct, with its fields in order.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    checked(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| position(&error))
}

/// Checks that a document is an object, and not nested too deeply.
pub(super) fn checked(bytes: &[u8]) -> Result<(), String> {
    nesting::check_json(bytes)?;
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ => Err("it is not a JSON object".to_owned()),
    }
}

/// The place of an error. The words of the parser quote the document, which any server may have
/// sent.
pub(super) fn position(error: &serde_json::Error) -> String {
    let problem = if error.is_data() { "has another form" } else { "is not valid JSON" };
    format!("it {problem} (line {}, column {})", error.line(), error.column())
}
