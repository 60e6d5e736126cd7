//! Desired state from files: what `ecr-sync sync PATH…` reads.
//!
//! A PATH is a file, or a directory that is read recursively for `*.yml`, `*.yaml` and `*.json`. A
//! file holds any number of documents, each of them a list of repositories (the older tool's
//! format), the same list under `repositories:`, or `EcrRepositorySync` manifests:
//!
//! ```text
//! files      PATH      -> files, their text
//! tree       text      -> values with line and column
//! document   tree      -> entries and manifests
//! entry      - name: … -> Draft, the older tool's fields renamed to the resource's
//! manifest   kind: …   -> Draft
//! typed      types of the Draft's values, by the schema of the resource
//! draft      Draft     -> Entry, or problems at the invalid fields
//! suggest    an unknown field -> the field that was meant
//! export     Entry     -> a manifest again (`convert`, `import`)
//! ```

mod document;
mod draft;
mod entry;
mod export;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod manifest;
mod suggest;
mod tree;
mod typed;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;

use crate::api::v1alpha1::{EcrRepositorySyncSpec, TagStrategy, crd};
use crate::spec::Spec;
use document::Reader;
pub(crate) use export::manifests;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::TARGETS as FUZZING;

/// One repository that a file describes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The repository as it is written.
    pub written: Written,
    /// The parsed spec.
    pub spec: Spec,
}

impl Entry {
    /// Name of the repository in ECR.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.spec.repository
    }
}

/// One repository as it is written, in a file or in ECR.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Name of the resource; of the repository, if the file names no resource.
    /// [`Written::repository`] is the name in ECR.
    pub name: String,
    /// The spec with the defaults of the resource.
    pub spec: EcrRepositorySyncSpec,
    /// Position in the file.
    pub position: Position,
    /// Warnings for the user, each a sentence.
    pub notes: Vec<String>,
}

impl Written {
    /// Name of the repository in ECR.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.spec.repository(&self.name)
    }
}

/// A position in a file. Shown as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file, as the user named it or as it was found below a directory.
    pub file: PathBuf,
    /// From 1. 0 stands for the file as a whole, shown as its name alone.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
}

impl Position {
    /// A file as a whole.
    fn whole(file: &Path) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file.display()),
            (line, column) => write!(f, "{}:{line}:{column}", self.file.display()),
        }
    }
}

/// An error in a file. Shown as `file:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Position of the invalid value.
    pub position: Position,
    /// The error, and what to write instead.
    pub message: String,
}

impl Problem {
    fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { position: Position::whole(file), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)
    }
}

/// Reads all files of `paths`, in their order.
///
/// Kubernetes objects of other kinds are skipped; the first entry of their file, or of all files,
/// has a note about each.
///
/// # Errors
/// All problems of all files, by file and line. Nothing should be synced then.
pub fn read(paths: &[PathBuf], tag_strategy: TagStrategy) -> Result<Vec<Entry>, Vec<Problem>> {
    let spec = spec_schema();
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    let mut skipped = Vec::new();

    for file in files::find(paths, &mut problems) {
        match read_file(&file, &spec, tag_strategy) {
            Ok(mut content) => {
                problems.append(&mut content.problems);
                skipped.append(&mut content.skipped);
                // Without entries in this file, the notes wait for the next one.
                note(&mut content.entries, &mut skipped);
                entries.append(&mut content.entries);
            }
            Err(problem) => problems.push(problem),
        }
    }
    note(&mut entries, &mut skipped);
    problems.extend(duplicates(&entries));

    if problems.is_empty() {
        // Notes are left only if there is no entry at all: then everything was skipped.
        problems = skipped;
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

/// The content of one file.
struct Content {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    skipped: Vec<Problem>,
}

fn read_file(file: &Path, spec: &Schema, tag_strategy: TagStrategy) -> Result<Content, Problem> {
    let source = files::read(file)?;
    let documents = source.documents()?;
    let mut reader = Reader::new(&source, spec, tag_strategy);
    documents.into_iter().for_each(|document| reader.document(document));

    let Reader { entries, problems, skipped, .. } = reader;
    let mut problems = problems.list;
    problems.sort_by(|a, b| a.position.cmp(&b.position));
    // A problem in an anchor is reported once, not for each alias.
    problems.dedup();
    Ok(Content { entries, problems, skipped })
}

/// Moves the notes about skipped objects to the first entry.
fn note(entries: &mut [Entry], skipped: &mut Vec<Problem>) {
    if let Some(first) = entries.first_mut() {
        first.written.notes.extend(skipped.drain(..).map(|skipped| skipped.to_string()));
    }
}

/// Repositories that are described twice.
fn duplicates(entries: &[Entry]) -> Vec<Problem> {
    let mut first: BTreeMap<_, &Entry> = BTreeMap::new();
    let mut problems = Vec::new();

    for entry in entries {
        let location = &entry.spec.registry.location;
        let repository = &entry.spec.repository;
        let other =
            *first.entry((&location.account, &location.region, repository)).or_insert(entry);
        if !std::ptr::eq(other, entry) {
            let message = format!(
                "repository {repository} is already described at {}",
                other.written.position
            );
            problems.push(Problem { position: entry.written.position.clone(), message });
        }
    }

    problems
}

/// Returns the schema of `spec` in the CustomResourceDefinition.
fn spec_schema() -> Schema {
    let root = crd()
        .spec
        .versions
        .into_iter()
        .next()
        .and_then(|version| version.schema?.open_api_v3_schema);
    root.and_then(|root| root.properties?.remove("spec")).unwrap_or_default()
}
