//! Properties of every input.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::api::v1alpha1::{SortBy, TagSelector};
use crate::selection::constraint::Constraint;
use crate::selection::number::Number;
use crate::selection::{Pin, Selector, Version, tag_of, union, version_of};

/// Tags of all kinds, many of them equal or of the same version.
fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "v?[0-3](\\.[0-3](\\.[0-3])?)?(-(alpha|beta|rc)(\\.[0-9]{1,2})?)?",
        2 => "0{0,2}[0-9]{1,24}(\\.[0-9]{0,3})?",
        1 => "(latest|stable|main)(-[a-z0-9]{1,3})?",
        1 => "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,12}",
    ]
}

/// Texts that look like constraints.
fn constraint() -> impl Strategy<Value = String> {
    vec(
        select(vec![
            "=",
            "!",
            ">",
            "<",
            "~",
            "^",
            ">=",
            "<=",
            "!=",
            "0",
            "1",
            "2",
            "18446744073709551616",
            "x",
            "*",
            "v",
            ".",
            ".1",
            "-",
            " - ",
            "-rc.1",
            "-01",
            "+b",
            " ",
            ",",
            "|",
            "||",
            "\t",
            "é",
            "\u{a0}",
            "\0",
        ]),
        0..24,
    )
    .prop_map(|pieces| pieces.concat())
}

#[derive(Clone, Debug)]
struct Written {
    semver: Option<&'static str>,
    include: Vec<String>,
    exclude: Vec<String>,
    sort_by: SortBy,
}

impl Written {
    fn select<'a>(&self, latest: usize, tags: &'a [String]) -> Vec<&'a str> {
        let Self { semver, include, exclude, sort_by } = self.clone();
        let latest = i64::try_from(latest).unwrap();
        let semver = semver.map(str::to_owned);
        let selector = TagSelector { latest, semver, include, exclude, sort_by };
        Selector::new(&selector).unwrap().select(tags.iter().map(String::as_str))
    }
}

fn written() -> impl Strategy<Value = Written> {
    let patterns = |texts: Vec<&'static str>| vec(select(texts).prop_map(str::to_owned), 0..3);
    (
        select(vec![None, None, Some("*"), Some(">=1 <3"), Some("^2 || ~1.1-0"), Some(">=0-0")]),
        patterns(vec!["^[0-9]", "^v", "\\."]),
        patterns(vec!["-rc", "latest", "3$"]),
        select(vec![SortBy::Semver, SortBy::Numeric, SortBy::Alphabetical]),
    )
        .prop_map(|(semver, include, exclude, sort_by)| Written {
            semver,
            include,
            exclude,
            sort_by,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_selection_does_not_depend_on_the_order_of_the_tags(
        written in written(),
        latest in 0..20_usize,
        (tags, shuffled) in vec(tag(), 0..60)
            .prop_flat_map(|tags| (Just(tags.clone()), Just(tags).prop_shuffle())),
    ) {
        prop_assert_eq!(written.select(latest, &tags), written.select(latest, &shuffled));
    }

    #[test]
    fn a_selection_holds_tags_of_the_input_each_once(
        written in written(),
        latest in 0..20_usize,
        tags in vec(tag(), 0..60),
    ) {
        let selected = written.select(latest, &tags);
        let all: HashSet<&str> = tags.iter().map(String::as_str).collect();
        let unique: HashSet<&str> = selected.iter().copied().collect();
        prop_assert!(unique.is_subset(&all));
        prop_assert_eq!(unique.len(), selected.len());
        prop_assert!(latest == 0 || selected.len() <= latest);
    }

    #[test]
    fn the_latest_n_begin_the_latest_n_plus_1_and_0_is_all(
        written in written(),
        latest in 1..20_usize,
        tags in vec(tag(), 0..60),
    ) {
        let [fewer, more, all] = [latest, latest + 1, 0].map(|count| written.select(count, &tags));
        prop_assert!(more.starts_with(&fewer));
        prop_assert!(all.starts_with(&more));
        prop_assert_eq!(fewer.len(), latest.min(all.len()));
    }

    #[test]
    fn reading_a_constraint_never_panics_and_the_position_is_in_it(
        text in prop_oneof![constraint(), any::<String>()],
        version in tag(),
    ) {
        match text.parse::<Constraint>() {
            Ok(constraint) => {
                if let Some(version) = Version::parse(&version) {
                    constraint.matches(&version);
                }
            }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.position), "{}", error);
                prop_assert!(!error.advice.is_empty());
            }
        }
    }

    #[test]
    fn reading_other_text_never_panics(text in any::<String>()) {
        if let Some(version) = Version::parse(&text) {
            prop_assert_eq!(version.text(), &text);
        }
        Number::parse(&text);
        prop_assert!(text.starts_with(Pin::parse(&text).tag));
        let _ = Selector::new(&TagSelector { include: vec![text], ..TagSelector::default() });
    }

    #[test]
    fn the_order_is_total(tags in vec(tag(), 3)) {
        fn check<T: Ord + std::fmt::Debug>([a, b, c]: [T; 3]) -> Result<(), TestCaseError> {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
            prop_assert!(!(a <= b && b <= c) || a <= c);
            prop_assert!(!(a >= b && b >= c) || a >= c);
            Ok(())
        }

        if let [Some(a), Some(b), Some(c)] = [0, 1, 2].map(|n| Version::parse(&tags[n])) {
            check([a, b, c])?;
            prop_assert!(a != b || tags[0] == tags[1]);
        }

        if let [Some(a), Some(b), Some(c)] = [0, 1, 2].map(|n| Number::parse(&tags[n])) {
            check([a, b, c])?;
        }
    }

    #[test]
    fn a_union_holds_both_lists_each_tag_once(
        listed in vec(tag(), 0..20),
        selected in vec(tag(), 0..20),
        cut in any::<Index>(),
    ) {
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let selected: Vec<&str> = selected.iter().map(String::as_str).collect();
        let all: HashSet<&str> = listed.iter().chain(&selected).copied().collect();
        let tags = union(listed.clone(), selected.clone(), all.len()).unwrap();
        prop_assert_eq!(tags.len(), all.len());
        prop_assert_eq!(tags.into_iter().collect::<HashSet<_>>(), all.clone());
        if !all.is_empty() {
            let most = cut.index(all.len());
            prop_assert_eq!(union(listed, selected, most).unwrap_err().count, all.len());
        }
    }

    #[test]
    fn a_version_comes_back_from_its_tag(version in "[0-9]\\.[0-9]\\.[0-9](-[a-z]{1,3})?(\\+[a-z.-]{1,5})?") {
        let tag = tag_of(&version);
        prop_assert!(!tag.contains('+'));
        prop_assert_eq!(version_of(&tag), version.as_str());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_long_list_is_selected_from_as_a_short_one(seed in any::<u32>(), latest in 1..900_usize) {
        let tags: Vec<String> = (0..4_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) ^ seed) % 3_000)
            .map(|n| format!("1.{}.{}", n / 60, n % 60))
            .collect();
        let written = Written { semver: None, include: vec![], exclude: vec![], sort_by: SortBy::Semver };
        let mut all = written.select(0, &tags);
        all.truncate(latest);
        prop_assert_eq!(written.select(latest, &tags), all);
    }
}
