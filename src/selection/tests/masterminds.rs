//! Compares with the table that the real Masterminds/semver wrote (tools/semver-table).

use std::ops::RangeInclusive;

use crate::selection::Version;
use crate::selection::constraint::Constraint;

const TABLE: &str = include_str!("../testdata/masterminds.tsv");

/// Returns the rows of one kind, without the kind. The first column is JSON.
fn rows(kind: &'static str) -> impl Iterator<Item = (String, Vec<&'static str>)> {
    TABLE.lines().filter_map(move |line| {
        let mut columns = line.split('\t');
        let text = columns.next().filter(|first| *first == kind).and_then(|_| columns.next())?;
        Some((serde_json::from_str(text).unwrap(), columns.collect()))
    })
}

/// Parses `1-3,7` into ranges.
fn places(text: &str) -> Vec<RangeInclusive<usize>> {
    let place = |run: &str| match run.split_once('-') {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None => run.parse().unwrap()..=run.parse().unwrap(),
    };
    text.split(',').filter(|run| !run.is_empty()).map(place).collect()
}

#[test]
fn every_version_is_read_and_ordered_as_masterminds_does() {
    let rows: Vec<(String, Vec<&str>)> = rows("version").collect();
    assert!(rows.len() > 100);
    for (text, columns) in &rows {
        let version = Version::parse(text).unwrap_or_else(|| panic!("{text:?} is a version"));
        assert_eq!(version.text(), text);
        assert_eq!(version.is_strict(), columns[0] == "strict", "{text:?}");
        for (other, other_columns) in &rows {
            let (rank, other_rank): (u32, u32) =
                (columns[1].parse().unwrap(), other_columns[1].parse().unwrap());
            let order = version.precedence(&Version::parse(other).unwrap());
            assert_eq!(order, rank.cmp(&other_rank), "{text:?} and {other:?}");
        }
    }
}

#[test]
fn texts_that_masterminds_refuses_are_not_versions() {
    let mut count = 0;
    for (text, _) in rows("invalid-version") {
        assert!(Version::parse(&text).is_none(), "{text:?} is not a version");
        count += 1;
    }
    assert!(count > 50);
}

#[test]
fn every_constraint_is_read_and_matches_as_masterminds_does() {
    let versions: Vec<String> = rows("version").map(|(text, _)| text).collect();
    let versions: Vec<Version<'_>> =
        versions.iter().map(|text| Version::parse(text).unwrap()).collect();
    let (mut constraints, mut pairs, mut wrong) = (0, 0, Vec::new());

    for (text, columns) in rows("constraint") {
        constraints += 1;
        let parsed = text.parse::<Constraint>();
        if parsed.is_ok() != (columns[0] == "valid") {
            wrong.push(format!("{text:?} is {}, read as {parsed:?}", columns[0]));
        }
        let Ok(constraint) = parsed else { continue };
        let expected = places(columns[1]);
        for (place, version) in versions.iter().enumerate() {
            pairs += 1;
            let matches = expected.iter().any(|run| run.contains(&place));
            if constraint.matches(version) != matches {
                wrong.push(format!("{text:?} matches {:?}: {matches}", version.text()));
            }
        }
    }

    assert!(constraints > 5_000 && pairs > 300_000, "{constraints} constraints, {pairs} pairs");
    assert!(wrong.is_empty(), "{} differ: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}
