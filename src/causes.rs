//! An error with its causes, as one line.

use std::error::Error;

/// Returns the text of an error and of its causes on one line. Leaves out a cause whose text is
/// already part of the line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text_of_cause = error.to_string();
        if !text.contains(&text_of_cause) {
            text.push_str(": ");
            text.push_str(&text_of_cause);
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
    struct Failed {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn each_cause_appears_once() {
        let failed = |text, source| Failed { text, source };
        let root = failed("refused", None);
        let middle = failed("cannot connect: refused", Some(Box::new(root)));
        assert_eq!(
            with_causes(&failed("no answer", Some(Box::new(middle)))),
            "no answer: cannot connect: refused"
        );
        assert_eq!(with_causes(&failed("alone", None)), "alone");
    }
}
