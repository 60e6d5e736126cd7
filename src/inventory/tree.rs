//! A YAML or JSON file of the inventory: its documents, positions and problems.

use std::path::PathBuf;

use serde_saphyr::{Location, MessageFormatter, NonFiniteFloatPolicy, UserMessageFormatter};

use super::{Position, Problem};
use crate::nesting::{self, MAX_DEPTH};
use crate::yaml_tree::text_at;
pub(super) use crate::yaml_tree::{Key, Node, Number, Value};

/// A file with its text.
#[derive(Debug)]
pub(super) struct Source {
    /// Path as the user gave it, or as found below a directory that the user gave.
    pub(super) file: PathBuf,
    /// The whole text.
    pub(super) text: String,
}

impl Source {
    /// Reads all documents; empty ones are left out.
    pub(super) fn documents(&self) -> Result<Vec<Node>, Problem> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_depth: MAX_DEPTH,
                // Files have at most 10 MiB: at 10 bytes per value, a million values.
                max_nodes: 1_000_000,
                max_events: 3_000_000,
                // A policy that a thousand entries share is a normal use of anchors, not an attack;
                // alias_limits bounds the growth.
                enforce_alias_anchor_ratio: false,
            },
            // About ten thousand uses of a shared policy.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 500_000 },
            // YAML reads a tag such as 12e4567 as an overflowing number; `typed` reports "quote
            // it".
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
        };
        serde_saphyr::from_multiple_with_options(&self.text, options).map_err(|error| {
            let error = error.without_snippet();

            let message = match error {
                // `Null` is an operator of IAM conditions.
                serde_saphyr::Error::NullIntoString { .. } => {
                    "quote this key, YAML reads it as null".into()
                }
                _ => nesting::too_deep(error)
                    .map_or_else(|| UserMessageFormatter.format_message(error), Into::into),
            };
            let position = error
                .location()
                .map_or_else(|| Position::whole(&self.file), |location| self.position(&location));
            Problem { position, message: printable(&format!("cannot be read: {message}")) }
        })
    }

    /// Returns a location as the user reads it.
    pub(super) fn position(&self, location: &Location) -> Position {
        Position { file: self.file.clone(), line: location.line(), column: location.column() }
    }

    /// Returns a problem with the value at `location`.
    pub(super) fn problem(&self, location: &Location, message: impl AsRef<str>) -> Problem {
        Problem { position: self.position(location), message: printable(message.as_ref()) }
    }

    /// Returns the text of the file at `location`, without quotes.
    pub(super) fn written(&self, location: &Location) -> Option<&str> {
        text_at(location, &self.text).map(|(_, text)| text.trim_matches(['"', '\'']))
    }
}

/// The problems of one file.
#[derive(Debug)]
pub(super) struct Problems<'s> {
    /// The file.
    pub(super) source: &'s Source,
    /// All problems so far.
    pub(super) list: Vec<Problem>,
}

impl Problems<'_> {
    /// Adds a problem with the value at `location`.
    pub(super) fn push(&mut self, location: &Location, message: impl AsRef<str>) {
        self.list.push(self.source.problem(location, message));
    }
}

/// Escapes control characters: messages quote files, and a terminal must not interpret them.
fn printable(message: &str) -> String {
    message.chars().fold(String::with_capacity(message.len()), |mut text, c| {
        if c.is_control() {
            text.extend(c.escape_debug())
        } else {
            text.push(c)
        }
        text
    })
}
