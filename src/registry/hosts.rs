//! Hosts that may be asked.

use crate::wildcard;

/// Patterns of hosts that may be asked, and where they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    /// Host names, with a port where it is not the usual one; `*` stands for any number of
    /// characters.
    pub patterns: Vec<String>,
    /// Where a person can change them.
    pub written_in: String,
}

impl AllowedHosts {
    /// Whether `host` (with its port, if it is not the usual one) may be asked.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.patterns.iter().any(|pattern| wildcard::matches(&pattern.to_ascii_lowercase(), &host))
    }
}
