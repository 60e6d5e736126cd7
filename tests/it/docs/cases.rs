//! `docs/copy-cases.md`: each test that it names exists, and each test of copies that this folder
//! has is named.

use std::collections::BTreeSet;
use std::path::PathBuf;

use regex::Regex;

use super::{read, root};

/// The file, from the root of the repository.
const FILE: &str = "docs/copy-cases.md";

/// Files of this folder whose tests are all cases of a copy.
const ALL_NAMED: [&str; 4] = ["copy_cases", "faults", "large_copies", "recovery"];

/// The names in the document: `it::faults`,
/// `registry::tests::odd::head_with_a_body_breaks_no_later_request`.
fn names(document: &str) -> BTreeSet<String> {
    let name = Regex::new("`([a-z0-9_]+(?:::[a-z0-9_]+)+)`").expect("a pattern");
    name.captures_iter(document).map(|found| found[1].to_owned()).collect()
}

/// Checks that the test or module of tests exists.
pub(super) fn find(name: &str) -> Result<(), String> {
    let mut segments: Vec<&str> = name.split("::").collect();
    let mut folder =
        if segments[0] == "it" { PathBuf::from("tests") } else { PathBuf::from("src") };
    let mut file = None;
    // The first segments are files; the rest is inside of the last file.
    while let Some(segment) = segments.first() {
        let candidates =
            [folder.join(format!("{segment}.rs")), folder.join(segment).join("mod.rs")];
        // `it` is the folder itself; its file is called main.
        let is_root = *segment == "it" && folder.ends_with("tests");
        match candidates.into_iter().find(|path| root().join(path).is_file()) {
            Some(path) => file = Some(path),
            None if is_root => {}
            None => break,
        }
        folder.push(segment);
        segments.remove(0);
    }
    let file = file.ok_or("there is no such module")?;
    let text = read(&file);
    if let Some(module) = segments.first().filter(|segment| **segment == "tests") {
        if !text.contains(&format!("mod {module} {{")) {
            return Err(format!("{} has no tests", file.display()));
        }
        segments.remove(0);
    }
    match segments[..] {
        [] if !tests(&text).is_empty() || folder.ends_with("tests") => Ok(()),
        [function] if tests(&text).contains(function) => Ok(()),
        _ => Err(format!("{} has no test {}", file.display(), segments.join("::"))),
    }
}

/// The tests in a file.
fn tests(text: &str) -> BTreeSet<String> {
    let test =
        Regex::new(r"#\[(?:tokio::)?test[^\]]*\]\s+(?:#\[[^\]]*\]\s+)*(?:async )?fn ([a-z0-9_]+)");
    let test = test.expect("a pattern");
    test.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn each_test_that_is_named_exists() {
    let names = names(&read(FILE));
    assert!(names.len() > 100, "{} names are found", names.len());
    let wrong: Vec<_> =
        names.iter().filter_map(|name| Some(format!("{name}: {}", find(name).err()?))).collect();
    assert!(wrong.is_empty(), "{FILE} names missing tests:\n{}", wrong.join("\n"));
    for wrong in [
        "it::nowhere",
        "it::faults::nothing",
        "registry::tests::odd::nothing",
        "registry::client::tests",
        "nowhere::x",
    ] {
        assert!(find(wrong).is_err(), "{wrong} would not be noticed");
    }
}

#[test]
fn each_test_of_a_copy_is_named() {
    let names = names(&read(FILE));
    let missing: Vec<_> = ALL_NAMED
        .iter()
        .flat_map(|file| {
            tests(&read(format!("tests/it/{file}.rs")))
                .into_iter()
                .map(move |test| format!("it::{file}::{test}"))
        })
        .filter(|name| !names.contains(name))
        .collect();
    assert!(missing.is_empty(), "{FILE} does not name\n{}", missing.join("\n"));
}
