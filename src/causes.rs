//! Errors in words.

use std::error::Error;

/// An error's text and those of its causes on one line, each said once: some have their cause's
/// words in their own.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::with_causes;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let told = |text, source| Told { text, source };
        let root = told("refused", None);
        let middle = told("cannot connect: refused", Some(Box::new(root)));
        assert_eq!(
            with_causes(&told("no answer", Some(Box::new(middle)))),
            "no answer: cannot connect: refused"
        );
        assert_eq!(with_causes(&told("alone", None)), "alone");
    }
}
