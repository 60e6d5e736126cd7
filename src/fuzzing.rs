//! Targets of the fuzzer, one for each parser of what others write.
//!
//! A target takes any bytes, gives them to its parser, and asserts what holds for every input: no
//! panic, errors of bounded length, and the relations that the callers rely on. `fuzz/` runs one
//! target with coverage guidance (`make fuzz`). The tests here run all of them on the seeds and on
//! simple changes of the seeds. The module is not part of the program: it needs the feature
//! `fuzzing`, or a build of the tests.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::nesting::{self, MAX_DEPTH};
use crate::{ecr, helm, inventory, registry, selection, spec, wildcard};

#[cfg(test)]
mod tests;

/// A target: its name, which is also the name of its seeds and dictionary below `fuzz/`, and the
/// function that panics if an assertion fails.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this module.
const OWN: [Target; 3] = [("nesting", depth), ("resource", resource), ("wildcard", pattern)];

/// Returns all targets, by name.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut targets = [
        &OWN[..],
        &ecr::policy::FUZZING,
        &helm::FUZZING,
        &inventory::FUZZING,
        &registry::FUZZING,
        &selection::FUZZING,
    ]
    .concat();
    targets.sort_unstable_by_key(|(name, _)| *name);
    targets
}

/// Asserts that an error is short enough for a condition and a log line.
pub(crate) fn assert_brief(error: &impl std::fmt::Display) {
    let length = error.to_string().len();
    assert!(length < 4000, "the error has {length} bytes: {error:.200}");
}

/// The lines of an input, as text.
pub(crate) fn lines(data: &[u8]) -> impl Iterator<Item = &str> {
    data.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).unwrap_or_default())
}

/// The bound of the depth counts exactly the lists and mappings of a JSON document.
fn depth(data: &[u8]) {
    fn of(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(of).max().unwrap_or_default(),
            Value::Object(fields) => 1 + fields.values().map(of).max().unwrap_or_default(),
            _ => 0,
        }
    }
    let checked = nesting::check_json(data);
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        assert_eq!(checked.is_ok(), of(&value) <= MAX_DEPTH);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(value) = nesting::yaml::<Value>(text)
    {
        assert!(of(&value) <= MAX_DEPTH);
    }
}

/// A spec of any content is parsed or refused, and the two ways to parse it agree.
fn resource(data: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<EcrRepositorySyncSpec>(data) else { return };
    let strict = spec::parse_strictly("team/app", &spec);
    let parsed = spec::parse("team/app", &spec);
    assert!(strict.is_err() || parsed.is_ok());
    if parsed.is_ok() {
        assert!(spec::parse_for_deletion("team/app", &spec).is_ok());
    }
    for violation in parsed.err().into_iter().chain(strict.err()).flatten() {
        assert!(!violation.path.is_empty() && !violation.message.is_empty());
    }

    // The spec comes back from the form in which the API server keeps it.
    let Ok(text) = serde_json::to_vec(&spec) else { panic!("a spec is JSON") };
    assert_eq!(serde_json::from_slice(&text).ok(), Some(spec));
}

/// The matcher of wildcards agrees with the definition.
fn pattern(data: &[u8]) {
    fn matches(pattern: &str, text: &str) -> bool {
        // The prefixes of `text` that the pattern read so far can match.
        let mut reached = BTreeSet::from([0]);
        for c in pattern.chars() {
            reached = match c {
                '*' => (reached.first().copied().unwrap_or(text.len() + 1)..=text.len())
                    .filter(|at| text.is_char_boundary(*at))
                    .collect(),
                _ => reached
                    .into_iter()
                    .filter(|at| text[*at..].starts_with(c))
                    .map(|at| at + c.len_utf8())
                    .collect(),
            };
        }
        reached.contains(&text.len())
    }
    let mut lines = lines(data).filter(|line| line.len() <= 64);
    if let (Some(pattern), Some(text)) = (lines.next(), lines.next()) {
        let expected = matches(pattern, text);
        assert_eq!(wildcard::matches(pattern, text), expected, "{pattern:?} {text:?}");
    }
}
