//! A failure of the work on a repository.

use std::time::Duration;

use crate::causes::with_causes;
use crate::class::Class;
use crate::violation::Violation;

/// A failure as it is reported: its kind, and a text that names the object and the correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub class: Class,
    /// The text. The same failure has the same text in every pass: no durations, no request IDs.
    pub message: String,
    /// Time that the other side asked us to wait.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None }
    }

    /// Work that is no longer wanted.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Class::Cancelled, "stopped before it was done")
    }

    /// A spec with violations.
    #[must_use]
    pub fn invalid(violations: &[Violation]) -> Self {
        let text: Vec<_> = violations.iter().map(ToString::to_string).collect();
        Self::new(Class::InvalidSpec, text.join("; "))
    }

    /// The same failure at the target: a 404 there says nothing about the source.
    #[must_use]
    pub fn at_target(mut self) -> Self {
        if matches!(self.class, Class::SourceNotFound | Class::SourceInvalid) {
            self.class = Class::RegistryUnavailable;
        }
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl From<crate::ecr::Error> for Failure {
    fn from(error: crate::ecr::Error) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

impl From<crate::registry::Error> for Failure {
    fn from(error: crate::registry::Error) -> Self {
        Self {
            class: error.class(),
            message: with_causes(&error),
            retry_after: error.retry_after(),
        }
    }
}

impl From<crate::helm::Error> for Failure {
    fn from(error: crate::helm::Error) -> Self {
        Self {
            class: error.class(),
            message: with_causes(&error),
            retry_after: error.retry_after(),
        }
    }
}

impl From<crate::registry::ParseError> for Failure {
    fn from(error: crate::registry::ParseError) -> Self {
        Self::new(Class::InvalidSpec, error.to_string())
    }
}
