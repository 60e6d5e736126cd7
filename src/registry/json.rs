//! JSON documents from registries.

use serde::Deserialize;

use crate::nesting;

/// Parses an object. serde would also accept a list for a struct, with its fields in order.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    nesting::check_json(bytes)?;
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        _ => Err("it is not a JSON object".to_owned()),
    }
}
