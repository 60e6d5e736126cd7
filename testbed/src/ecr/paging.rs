//! Pages and their opaque tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errors::{Error, Result};
use super::quantities::shuffle_key;

/// Returns one page of named `rows` after the row that `token` names, and the token of the next
/// page. The order is stable and not alphabetical, since ECR promises none.
///
/// A token names the last row of the page, so rows that appear or disappear between pages neither
/// repeat nor hide others.
pub(crate) fn page<T>(
    mut rows: Vec<(String, T)>,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>)> {
    rows.sort_by_cached_key(|row| {
        let (hash, name) = shuffle_key(&row.0);
        (hash, name.to_owned())
    });
    let after = token.map(decode).transpose()?;
    let start = after
        .map_or(0, |after| rows.partition_point(|row| shuffle_key(&row.0) <= shuffle_key(&after)));
    let more = rows.len() > start + size;
    let (names, page): (Vec<_>, Vec<_>) = rows.into_iter().skip(start).take(size).unzip();
    let next =
        names.last().filter(|_| more).map(|name| URL_SAFE_NO_PAD.encode(format!("after {name}")));
    Ok((page, next))
}

fn decode(token: &str) -> Result<String> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("after ").map(str::to_owned))
        .ok_or_else(|| Error::invalid("nextToken", "Invalid token"))
}
