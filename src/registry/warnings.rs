//! The `Warning` header of registries: `Warning: 299 - "this repository moves on Monday"`, logged
//! once per host.
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#warnings>

use std::collections::HashSet;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, WARNING};

use super::grammar::shortened;

/// The number of warnings after which no more are logged: a host that sends another text each time
/// must not flood the log.
const MAX: usize = 1_000;

/// The warnings that were already logged.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<HashSet<(String, String)>>);

impl Warnings {
    /// Logs the warnings of an answer, each text of a host once.
    pub(super) fn log(&self, host: &str, headers: &HeaderMap) {
        for warning in self.new_of(host, headers) {
            tracing::warn!(host, warning, "the registry warns");
        }
    }

    fn new_of(&self, host: &str, headers: &HeaderMap) -> Vec<String> {
        let texts = headers.get_all(WARNING).iter().filter_map(|value| text(value.to_str().ok()?));
        let is_new = |text: &String| {
            let mut logged = self.0.lock();
            logged.len() < MAX && logged.insert((host.to_owned(), text.clone()))
        };
        texts.filter(is_new).collect()
    }
}

/// Reads the text of a warning in the only form of the spec; other forms are those of HTTP caches.
pub(super) fn text(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 - \"")?;
    let mut text = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => text.push(chars.next()?),
            other => text.push(other),
        }
    }
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!text.trim().is_empty()).then(|| shortened(text.trim()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (WARNING, value.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_warning_is_logged_once_per_host() {
        let warnings = Warnings::default();
        let moved = headers(&[
            "299 - \"moved to \\\"new.example\\\"\"",
            "299 - \"old\" \"Mon, 01 Jan 2026 00:00:00 GMT\"",
        ]);
        assert_eq!(warnings.new_of("a", &moved), ["moved to \"new.example\"", "old"]);
        assert_eq!(warnings.new_of("a", &moved), Vec::<String>::new());
        assert_eq!(warnings.new_of("b", &moved).len(), 2);
        for other in
            ["110 cache \"stale\"", "299 - unquoted", "299 - \"no end", "299 - \"\"", "299", ""]
        {
            assert_eq!(warnings.new_of("a", &headers(&[other])), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn a_host_that_warns_of_something_else_each_time_fills_neither_memory_nor_log() {
        let warnings = Warnings::default();
        let logged = (0..2 * MAX)
            .filter(|n| !warnings.new_of("a", &headers(&[&format!("299 - \"{n}\"")])).is_empty());
        assert_eq!(logged.count(), MAX);
        let long = Warnings::default()
            .new_of("a", &headers(&[&format!("299 - \"{}\"", "x".repeat(5_000))]));
        assert!(long[0].len() < 310);
    }
}
