//! The memory of an index, measured with texts that are made to need the most.

use allocation_counter::measure;

use super::*;
use crate::memory_budget::Shortage;

const MIB: usize = 1024 * 1024;
/// The states of inflating and deflating, and the longest line; see `READER_BYTES`.
const FIXED: usize = 2 * MIB;

/// `head` and as many `items` as have `size` bytes, each with its number in place of N.
fn text(head: &str, item: &str, tail: &str, size: usize) -> String {
    let mut text = head.to_owned();
    let mut number = 0;
    while text.len() < size {
        text.push_str(&item.replace('N', &number.to_string()));
        number += 1;
    }
    text + tail
}

/// Reads an index, and the versions of its chart `a`. Returns the most memory that was used, and
/// that was reserved.
fn used(text: &str) -> (usize, usize) {
    let budget = Budget::new(2 << 30);
    let mut need = 0;
    let measured = measure(|| {
        let mut reader = Reader::new(URL, usize::MAX, budget.results());
        for chunk in text.as_bytes().chunks(32 * 1024) {
            if reader.push(chunk).is_err() {
                return;
            }
        }
        need = reader.end();
        if let Ok(index) = reader.finish() {
            let mut reserve = |bytes| {
                need = need.max(bytes);
                Ok(())
            };
            drop(index.chart_within("a", &mut reserve));
        }
    });
    let (_, results) = budget.results_in_use();
    (usize::try_from(measured.bytes_max).unwrap(), need + results)
}

#[test]
fn an_index_needs_no_more_memory_than_is_reserved() {
    const ENTRY: &str = "{name: a, version: 1.0.N, urls: [x]}";
    let json_entry = r#"{"name":"a","version":"1.0.N","urls":["x"]},"#;
    let lines = format!("  - {ENTRY}\n");
    let flow = format!("{ENTRY},");
    let last = r#"{}]}}"#;

    let mut failures = Vec::new();
    for size in [50_000, MIB] {
        for (name, text) in [
            ("versions", text("entries:\n  a:\n", &lines, "", size)),
            ("charts", text("entries:\n", "  cN: []\n", "", size)),
            ("charts in JSON", text(r#"{"entries":{"#, r#""cN":[],"#, r#""c":[]}}"#, size)),
            ("charts with an entry", text("entries:\n", "  cN:\n  - x\n", "", size)),
            ("versions in JSON", text(r#"{"entries":{"a":["#, json_entry, last, size)),
            ("versions in flow style", text("entries: {a: [", &flow, "{}]}", size)),
            ("values", text("entries:\n  a:\n  - x: [", "a,", "]\n", size)),
            ("values in flow style", text("entries: {a: [{x: [", "a,", "a]}]}", size)),
            ("values in JSON", text(r#"{"entries":{"a":[{"x":["#, "0,", "0]}]}}", size)),
            ("URLs", text("entries:\n  a:\n  - urls: [", "a,", "]\n", size)),
            ("URLs in flow style", text("entries: {a: [{urls: [", "a,", "a]}]}", size)),
            ("entries that are none", text("entries: {a: [", "1,", "1]}", size)),
            ("mappings", text("entries:\n  a:\n  - x: {", "aN: b,", "}\n", size)),
            ("mappings in flow style", text("entries: {a: [{", "aN: b,", "}]}", size)),
            ("mappings in JSON", text(r#"{"entries":{"a":[{"#, r#""aN":1,"#, r#""a":1}]}}"#, size)),
            ("a long text", text("entries:\n  a:\n  - version: \"", "\\x41", "\"\n", size)),
            (
                "a long text in flow style",
                text("entries: {a: [{version: \"", "\\x41", "\"}]}", size),
            ),
            (
                "a long text in JSON",
                text(r#"{"entries":{"a":[{"version":""#, r"\u0041", r#""}]}}"#, size),
            ),
            ("a long plain text", text("entries:\n  a:\n  - version: a", "a a", "\n", size)),
            ("a block", text("entries:\n  a:\n  - version: |\n", "      a\n", "", size)),
            ("anchors", text("entries:\n  a:\n", "  - &aN x\n", "", size)),
            ("aliases", text("x: &x {name: a}\nentries:\n  a:\n", "  - *x\n", "", size)),
            (
                "nested anchors",
                text("entries: {a: [{x: &a [&b [&c [&d [&e [", "a,", "a]]]]]}]}", size),
            ),
            ("a long anchor", text("x: &x [", "a,", "a]\nentries: {a: [*x]}\n", size)),
            ("keys", text("", "aN: b\n", "", size)),
            ("nothing", text("entries:\n", "\n", "", size)),
        ] {
            let (most, reserved) = used(&text);
            if most > reserved + FIXED {
                failures.push((name, text.len(), most, reserved));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// 99 MiB of nodes that are 100 KB as gzip, and 400,000 versions of one chart.
#[test]
fn an_index_that_the_budget_does_not_allow_is_an_error_of_its_own() {
    let budget = Budget::new(96 * MIB);
    let mut reader = Reader::new(URL, usize::MAX, budget.results());
    reader.push(b"entries: {a: [{x: [").unwrap();
    let nodes = b"a,".repeat(MIB / 2);
    let measured = measure(|| (0..99).for_each(|_| reader.push(&nodes).unwrap()));
    assert!(measured.bytes_max < 2_000_000, "{measured:?}");
    assert!(reader.end() > budget.most(), "so it is not parsed");

    let text = text("entries:\n  a:\n", "  - {name: a, version: 1.0.N, urls: [x]}\n", "", 17 * MIB);
    let mut reader = Reader::new(URL, usize::MAX, budget.results());
    reader.push(text.as_bytes()).unwrap();
    let index = reader.finish().unwrap();
    let measured = measure(|| {
        let error = index.chart("a").unwrap_err();
        assert!(
            matches!(error, Error::Memory { source: Shortage::TooLarge { .. }, .. }),
            "{error}"
        );
        assert_eq!(error.class(), Class::SourceInvalid);
    });
    assert!(measured.bytes_max < (17 * 5 + 36) * MIB as u64, "{measured:?}");
}
