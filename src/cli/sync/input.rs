//! Input of a run: the files, the entries that --selector matches, and the report of problems.

use std::path::PathBuf;
use std::process::ExitCode;

use super::arguments::Arguments;
use crate::cli::screen::Screen;
use crate::cli::{self};
use crate::inventory::{self, Entry};
use crate::units::counted;
use crate::wildcard;

/// Folder that the older tool reads by default.
const DEFAULT_FOLDER: &str = "./repositories";

/// Reports all problems of the files.
pub(in crate::cli) fn report_problems(
    problems: &[impl std::fmt::Display],
    screen: &Screen,
) -> ExitCode {
    problems.iter().for_each(|problem| screen.err(&format!("error: {problem}\n")));
    let count = counted(problems.len(), "problem");
    screen.err(&format!("{count} in the input; nothing was done\n"));
    ExitCode::from(cli::WRONG_INPUT)
}

/// Returns the entries to sync.
///
/// # Errors
/// All problems of the files, or that no repository matches --selector.
pub(super) fn entries(arguments: &Arguments) -> Result<Vec<Entry>, Vec<String>> {
    let Arguments { paths, config, selector, tag_strategy, .. } = arguments;
    let default = if paths.is_empty() { vec![folder(config.clone())] } else { Vec::new() };
    let paths = if paths.is_empty() { &default } else { paths };
    let mut entries = inventory::read(paths, (*tag_strategy).into())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if selector.is_empty() {
        return Ok(entries);
    }

    let total = counted(entries.len(), "repository");
    entries.retain(|entry| wildcard::matches_any(selector, entry.repository()));
    if entries.is_empty() {
        let globs = selector.join(", ");
        return Err(vec![format!("--selector {globs}: matches none of {total}")]);
    }
    Ok(entries)
}

fn folder(config: Option<PathBuf>) -> PathBuf {
    let variable = std::env::var_os("REPOSITORIES_DIR").filter(|value| !value.is_empty());
    config.or(variable.map(PathBuf::from)).unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER))
}
