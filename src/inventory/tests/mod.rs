//! Tests of the inventory: the text of files, and the entries or problems read from it.

mod entries;
mod manifests;
mod shapes;

use std::fs;

use super::{Position, Written, read};
use crate::api::v1alpha1::TagStrategy;

/// Reads files with these names and texts in one directory, as `sync DIRECTORY` does.
fn read_files(files: &[(&str, &str)]) -> Result<Vec<Written>, Vec<String>> {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let relative = |text: String| text.replace(&format!("{}/", root.path().display()), "");
    match read(&[root.path().to_owned()], TagStrategy::default()) {
        Ok(entries) => {
            let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.written).collect();
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
pub(super) fn entries(text: &str) -> Vec<Written> {
    read_files(&[("a.yml", text)]).unwrap()
}

/// Returns the problems of one file.
fn problems(text: &str) -> Vec<String> {
    read_files(&[("a.yml", text)]).unwrap_err()
}

pub(super) fn names(entries: &[Written]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}
