//! `docs/threat-model.md`: each line names a test, and each test exists.

use regex::Regex;

use super::{cases, read, root};

/// The file, from the root of the repository.
const FILE: &str = "docs/threat-model.md";

/// The rows of the tables, without their heads: the cells of each.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = document.lines().collect();
    let is_body = |at: usize| {
        let is_rule = |line: &&str| line.starts_with("|---");
        lines[at].starts_with("| ") && !lines.get(at + 1).is_some_and(is_rule)
    };
    (0..lines.len())
        .filter(|at| is_body(*at))
        .map(|at| lines[at].trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// Checks a test of the chart: `rbac: may not set a finalizer …`.
fn find_in_chart(name: &str) -> Result<(), String> {
    let (suite, test) = name.split_once(": ").ok_or("neither a test of Rust nor of the chart")?;
    let file = format!("charts/ecr-sync/tests/{suite}_test.yaml");
    if !root().join(&file).is_file() {
        return Err(format!("there is no {file}"));
    }
    let is_there = read(&file).lines().any(|line| line.trim() == format!("- it: {test}"));
    if is_there { Ok(()) } else { Err(format!("{file} has no such test")) }
}

/// The problems of a row.
fn problems(cells: &[&str]) -> Vec<String> {
    let name = Regex::new("`([^`]+)`").expect("a pattern");
    let tests = cells.last().copied().unwrap_or_default();
    let names: Vec<_> = name.captures_iter(tests).map(|found| found[1].to_owned()).collect();
    if names.is_empty() {
        return vec![format!("no test: {}", cells.join(" | "))];
    }
    let check = |name: String| {
        let found = if name.contains("::") { cases::find(&name) } else { find_in_chart(&name) };
        Some(format!("{name}: {}", found.err()?))
    };
    names.into_iter().filter_map(check).collect()
}

#[test]
fn each_line_of_the_threat_model_names_a_test_that_exists() {
    let document = read(FILE);
    let rows = rows(&document);
    assert!(rows.len() > 90, "{} rows are found", rows.len());
    let problems_of_page: Vec<_> = rows.iter().flat_map(|cells| problems(cells)).collect();
    assert!(problems_of_page.is_empty(), "{FILE}:\n{}", problems_of_page.join("\n"));

    for wrong in ["", "nothing", "`it::tenancy::nothing`", "`rbac: nothing`", "`nowhere: x`", "`x`"]
    {
        assert_eq!(problems(&["a threat", "an answer", wrong]).len(), 1, "{wrong:?}");
    }
}
