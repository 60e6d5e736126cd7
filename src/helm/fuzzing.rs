//! Targets of the fuzzer: the index of a chart repository, and charts.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::version::is_version;
use super::{Metadata, archive, index};
use crate::fuzzing::{Target, assert_brief};

pub(crate) const TARGETS: [Target; 3] =
    [("archive", chart_archive), ("chart_index", index::chart_index), ("chart_yaml", chart_yaml)];

/// `Chart.yaml`, and after a NUL `requirements.yaml`.
fn chart_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (chart, requirements) = match text.split_once('\0') {
        Some((chart, requirements)) => (chart, Some(requirements)),
        None => (text, None),
    };
    match Metadata::parse(chart, requirements) {
        Ok(metadata) => check(&metadata),
        Err(error) => assert_brief(&error),
    }
}

fn check(metadata: &Metadata) {
    assert!(!metadata.name.is_empty() && is_version(&metadata.version));
    let Ok(json) = metadata.to_json() else { panic!("metadata is JSON") };
    assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    // JSON is YAML: the config of the artifact is read as the same chart.
    let again = std::str::from_utf8(&json).ok().and_then(|json| Metadata::parse(json, None).ok());
    if let Some(again) = again {
        assert_eq!(again.to_json().ok(), Some(json));
    }
}

/// A tar, which is compressed here: a changed byte of a gzip would only break its checksum. If the
/// first byte is odd, the rest is the gzip itself.
fn chart_archive(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let mut gzip = bytes.to_vec();
    if first % 2 == 0 {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
        let Ok(compressed) = written else { panic!("a Vec can be written to") };
        gzip = compressed;
    }
    match archive::read(&gzip) {
        Ok(metadata) => check(&metadata),
        Err(error) => assert_brief(&error),
    }
}
