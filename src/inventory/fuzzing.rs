//! The target of the fuzzer for files of `ecr-sync sync`.

use std::path::PathBuf;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;

use super::document::Reader;
use super::tree::Source;
use super::{Problem, Written, manifests, spec_schema};
use crate::api::v1alpha1::TagStrategy;
use crate::fuzzing::Target;

pub(crate) const TARGETS: [Target; 1] = [("inventory", inventory)];

static SCHEMA: LazyLock<Schema> = LazyLock::new(spec_schema);

fn read(text: &str) -> Result<Vec<Written>, Vec<Problem>> {
    let source = Source { file: PathBuf::from("a.yml"), text: text.to_owned() };
    let documents = source.documents().map_err(|problem| vec![problem])?;
    let mut reader = Reader::new(&source, &SCHEMA, TagStrategy::default());
    documents.into_iter().for_each(|document| reader.document(document));
    match reader.problems.list {
        problems if problems.is_empty() => {
            Ok(reader.entries.into_iter().map(|entry| entry.written).collect())
        }
        problems => Err(problems),
    }
}

/// A file is read or refused with positions inside of it. Its repositories, written as manifests,
/// are read as the same.
fn inventory(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let entries = match read(text) {
        Ok(entries) => entries,
        Err(problems) => {
            let lines = text.split(['\n', '\r']).count() as u64 + 1;
            for problem in problems {
                assert!(problem.position.line <= lines, "{problem}");
                assert!(!problem.message.contains(char::is_control), "{:?}", problem.message);
            }
            return;
        }
    };

    let again = read(&manifests(&entries, Some("team")));
    let Ok(again) = again else { panic!("{again:?}") };
    assert_eq!(entries.len(), again.len());
    for (entry, mut other) in entries.into_iter().zip(again) {
        assert_eq!(entry.repository(), other.repository());
        other.spec.repository_name.clone_from(&entry.spec.repository_name);
        assert_eq!(entry.spec, other.spec);
    }
}
