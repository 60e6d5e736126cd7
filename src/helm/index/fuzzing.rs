//! The target of the fuzzer for the index of a chart repository.

use super::{ChartVersions, Index, Reader, whole};
use crate::fuzzing::assert_brief;
use crate::memory_budget::Budget;

const URL: &str = "https://charts.example/index.yaml";
/// The most charts of an index that are compared.
const MAX_CHARTS: usize = 8;

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Index, String> {
    let mut reader = Reader::new(URL, 1024 * 1024, Budget::default().results());
    let read = pieces.into_iter().try_for_each(|piece| reader.push(piece));
    read.and_then(|()| reader.finish()).map_err(|error| {
        assert_brief(&error);
        error.to_string()
    })
}

fn names(index: &Index) -> Vec<String> {
    let mut names: Vec<_> = index.charts.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    names
}

/// The versions of a chart, which the second call reads from the kept form.
fn chart(index: &Index, name: &str) -> Option<ChartVersions> {
    let [first, second] =
        [index.chart(name), index.chart(name)].map(|read| read.inspect_err(assert_brief).ok());
    assert_eq!(first, second, "{name}");
    first
}

/// An index means the same however it arrives. If it is cut by lines and could also be parsed
/// whole, both ways lead to the same charts. The first byte tells where it is split.
pub(in crate::helm) fn chart_index(data: &[u8]) {
    let Some((at, text)) = data.split_first() else { return };
    let (left, right) = text.split_at(usize::from(*at).min(text.len()));
    let (index, split) = (read([text]), read([left, right]));
    assert_eq!(index.as_ref().err(), split.as_ref().err());
    let (Ok(index), Ok(split)) = (index, split) else { return };
    assert_eq!(names(&index), names(&split));

    let mut memory = Budget::default().results();
    let parsed = whole::read(text, &mut memory).ok();
    let parsed = parsed.map(|charts| Index::new(URL.to_owned(), charts, memory));
    if let Some(parsed) = &parsed {
        assert_eq!(names(&index), names(parsed));
    }
    for name in names(&index).iter().take(MAX_CHARTS) {
        let versions = chart(&index, name);
        assert_eq!(versions, chart(&split, name));
        if let Some(parsed) = &parsed {
            assert_eq!(versions, chart(parsed, name));
        }
        for entry in versions.iter().flat_map(|versions| &versions.versions) {
            assert!(entry.chart == *name && !entry.urls.is_empty() && !entry.version.is_empty());
        }
    }
}
