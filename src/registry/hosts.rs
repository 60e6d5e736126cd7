//! Allowlists of hosts.

use crate::wildcard;

/// The hosts that may be asked, and the place of their configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    /// Host names, with the port unless it is the default; `*` stands for any number of characters.
    pub patterns: Vec<String>,
    /// The flag, file or field to change them, for messages.
    pub written_in: String,
}

impl AllowedHosts {
    /// Whether `host` (with its port, unless it is the default) may be asked.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.patterns.iter().any(|pattern| wildcard::matches(&pattern.to_ascii_lowercase(), &host))
    }
}
