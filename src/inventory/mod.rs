//! Desired state from files: what `ecr-sync sync PATH…` reads.
//!
//! A PATH is a file, or a directory that is read recursively for `*.yml`, `*.yaml` and `*.json`. A
//! file holds any number of documents, each of them a list of repositories (the older tool's
//! format), the same list under `repositories:`, or `EcrRepositorySync` manifests:
//!
//! ```text
//! files      PATH      -> the files it stands for, their text
//! tree       text      -> values with line and column
//! document   tree      -> entries and manifests
//! entry      - name: … -> Draft, fields of the older tool under the resource's names
//! manifest   kind: …   -> Draft
//! typed      Draft's tree by the schema of the resource
//! draft      Draft     -> Entry, or what is wrong with it, at the field that is wrong
//! write      Entry     -> a manifest again
//! ```

mod document;
mod draft;
mod entry;
mod files;
mod manifest;
mod suggest;
mod tree;
mod typed;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;

use crate::api::v1alpha1::{EcrRepositorySyncSpec, TagStrategy, crd};
use document::Reader;
pub use write::{Manifest, manifests};

/// One repository that a file describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name of the resource, or of the repository where the file names no resource.
    /// [`Entry::repository`] is the name in ECR.
    pub name: String,
    /// What is wanted, valid and with the defaults of the resource.
    pub spec: EcrRepositorySyncSpec,
    /// Where it stands.
    pub place: Place,
    /// Warnings for the user, each a sentence.
    pub notes: Vec<String>,
}

impl Entry {
    /// Name of the repository in ECR.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.spec.repository(&self.name)
    }
}

/// A place in a file. Shown as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the user named it or as it was found below a directory.
    pub file: PathBuf,
    /// From 1. 0: the file as a whole, shown as its name alone.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
}

impl Place {
    /// A file as a whole.
    fn whole(file: &Path) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file.display()),
            (line, column) => write!(f, "{}:{line}:{column}", self.file.display()),
        }
    }
}

/// Something that is wrong in a file. Shown as `file:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { place: Place::whole(file), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// How files are read that leave something open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Of list entries whose image does not say it.
    pub tag_strategy: TagStrategy,
}

/// Reads all files that `paths` stand for, in their order.
///
/// Objects of Kubernetes that are none of ours are skipped; the first entry of their file, or of
/// all files, has a note of each.
///
/// # Errors
/// Everything that is wrong in any of the files, by file and line. Then nothing should be synced.
pub fn read(paths: &[PathBuf], options: &Options) -> Result<Vec<Entry>, Vec<Problem>> {
    let spec = spec_schema();
    let (mut entries, mut problems, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for file in files::find(paths, &mut problems) {
        let read = files::read(&file).and_then(|source| {
            let documents = source.documents()?;
            let mut reader = Reader::new(&source, &spec, options);
            documents.into_iter().for_each(|document| reader.document(document));
            let Reader { entries, problems, skipped, .. } = reader;
            Ok((entries, problems, skipped))
        });
        match read {
            Ok((mut found, mut wrong, passed_over)) => {
                // By line; what an alias repeats is said once.
                wrong.sort_by(|a, b| a.place.cmp(&b.place));
                wrong.dedup();
                problems.append(&mut wrong);
                skipped.extend(passed_over);
                // A file without entries leaves its notes to the next one.
                note(&mut found, &mut skipped);
                entries.append(&mut found);
            }
            Err(problem) => problems.push(problem),
        }
    }
    note(&mut entries, &mut skipped);
    problems.extend(duplicates(&entries));
    if problems.is_empty() {
        // Left over only if there is no entry at all: then the user meant something that was
        // skipped.
        problems = skipped;
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

/// Hands notes of what was skipped to the first entry.
fn note(entries: &mut [Entry], skipped: &mut Vec<Problem>) {
    if let Some(first) = entries.first_mut() {
        first.notes.extend(skipped.drain(..).map(|skipped| skipped.to_string()));
    }
}

/// Repositories that are described twice.
fn duplicates(entries: &[Entry]) -> Vec<Problem> {
    let mut first: BTreeMap<_, &Entry> = BTreeMap::new();
    let mut problems = Vec::new();
    for entry in entries {
        let registry = entry.spec.registry.clone().unwrap_or_default();
        let other = *first
            .entry((registry.account_id, registry.region, entry.repository()))
            .or_insert(entry);
        if !std::ptr::eq(other, entry) {
            let message = format!(
                "repository {} is described already at {}",
                entry.repository(),
                other.place
            );
            problems.push(Problem { place: entry.place.clone(), message });
        }
    }
    problems
}

/// The schema of `spec` as the cluster has it.
fn spec_schema() -> Schema {
    let root = crd()
        .spec
        .versions
        .into_iter()
        .next()
        .and_then(|version| version.schema?.open_api_v3_schema);
    root.and_then(|root| root.properties?.remove("spec")).unwrap_or_default()
}
