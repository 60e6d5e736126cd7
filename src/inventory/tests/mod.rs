//! Tests of the inventory: the text of files, and the entries or problems read from it.

mod entries;
mod manifests;
mod shapes;

use std::fs;

use super::{Entry, Options, Position, read};

/// Reads files with these names and texts in one directory, as `sync DIRECTORY` does.
fn read_files(files: &[(&str, &str)]) -> Result<Vec<Entry>, Vec<String>> {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let relative = |text: String| text.replace(&format!("{}/", root.path().display()), "");
    match read(&[root.path().to_owned()], &Options::default()) {
        Ok(mut entries) => {
            for entry in &mut entries {
                let file = entry.position.file.strip_prefix(root.path()).unwrap().to_owned();
                entry.position = Position { file, ..entry.position.clone() };
                entry.notes = std::mem::take(&mut entry.notes).into_iter().map(relative).collect();
            }
            Ok(entries)
        }
        Err(problems) => {
            Err(problems.iter().map(|problem| relative(problem.to_string())).collect())
        }
    }
}

/// Returns the entries of one file.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    read_files(&[("a.yml", text)]).unwrap()
}

/// Returns the problems of one file.
fn problems(text: &str) -> Vec<String> {
    read_files(&[("a.yml", text)]).unwrap_err()
}

pub(super) fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}
