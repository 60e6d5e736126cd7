//! JSON documents that others send.

use serde::Deserialize;

/// Reads an object. serde would also take a list for a struct, its fields in order; no registry
/// means that.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        _ => Err("it is not a JSON object".to_owned()),
    }
}
