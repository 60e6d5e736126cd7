//! The bound for the nesting of documents that others write.
//!
//! Parsers recurse: each level of a YAML document takes about 35 KB of stack in a debug build, and
//! a stack that overflows aborts the process. No document that is read here has a use for more than
//! ten levels.

use serde::de::DeserializeOwned;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

/// The most lists and mappings inside each other.
pub(crate) const MAX_DEPTH: usize = 16;

/// Checks the depth of a JSON document before it is parsed. Other errors are left to the parser.
///
/// # Errors
/// A sentence for a document that is nested more deeply than [`MAX_DEPTH`].
pub(crate) fn check_json(bytes: &[u8]) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut bytes = bytes.iter();

    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(sentence());
        }
    }
    Ok(())
}

/// Parses a YAML file of the operator's own settings.
///
/// # Errors
/// Text for people.
pub(crate) fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| too_deep(&error).unwrap_or_else(|| error.to_string()))
}

/// Returns the sentence for a YAML document that is nested too deeply; `None` for other errors.
pub(crate) fn too_deep(error: &Error) -> Option<String> {
    match error.without_snippet() {
        Error::AliasError { error, .. } => too_deep(error),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => Some(sentence()),
        _ => None,
    }
}

fn sentence() -> String {
    format!("it is nested more than {MAX_DEPTH} levels deep")
}

fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of what the threads of the process have: the rest is for what calls the parser.
    const STACK: usize = 1024 * 1024;

    fn nested(depth: usize) -> String {
        format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn lists_and_mappings_count_and_text_does_not() {
        let refused = Err("it is nested more than 16 levels deep".to_owned());
        for (json, result) in [
            (nested(MAX_DEPTH), Ok(())),
            (nested(MAX_DEPTH + 1), refused.clone()),
            (nested(1_000_000), refused.clone()),
            (format!("{{\"a\": {}}}", nested(MAX_DEPTH - 1)), Ok(())),
            (format!("{{\"a\": {}}}", nested(MAX_DEPTH)), refused),
            (format!("[{}]", vec![nested(MAX_DEPTH - 1); 1000].join(",")), Ok(())),
            (format!("[{:?}, {:?}]", nested(100), "\"".repeat(100)), Ok(())),
            ("]]]]".to_owned() + &nested(MAX_DEPTH), Ok(())),
            ("[\"never closed [[[[[[[[[[[[[[[[[[[[\\".to_owned(), Ok(())),
        ] {
            assert_eq!(check_json(json.as_bytes()), result, "{json:.60}");
        }
    }

    /// `a: {a: {a: 1}}` in block style.
    fn block(depth: usize) -> String {
        (0..depth).map(|level| format!("\n{}a:", " ".repeat(level))).collect::<String>() + " 1\n"
    }

    /// Each list contains the one before, by its anchor.
    fn aliases(depth: usize) -> String {
        let lists = (2..depth).map(|n| format!("- &a{n} [*a{}]\n", n - 1));
        format!("- &a1 [1]\n{}", lists.collect::<String>())
    }

    #[test]
    fn yaml_is_read_up_to_the_bound_with_half_a_stack() {
        let read = || {
            for document in [block, nested, aliases] {
                let parse = |depth| yaml::<serde_json::Value>(&document(depth)).map(drop);
                assert_eq!(parse(MAX_DEPTH), Ok(()), "{}", document(MAX_DEPTH));
                for depth in [MAX_DEPTH + 1, 50, 1000] {
                    let refused = parse(depth).unwrap_err();
                    // The parser's own bound for brackets comes before ours.
                    let is_deep = refused == sentence() || refused.contains("recursion limit");
                    assert!(is_deep, "{depth}: {refused}");
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(read);
        thread.expect("a thread").join().expect("no panic");
    }
}
