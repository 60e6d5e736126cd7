//! Text of others in messages: cut to a length.

use std::borrow::Cow;

/// Returns the first `longest` characters of a text, with `…` if that is not all of it. Hostile
/// input does not flood a log.
pub(crate) fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("schön", 5), "schön");
        assert_eq!(shortened("schön", 4), "schö…");
        assert_eq!(shortened("", 0), "");
    }
}
