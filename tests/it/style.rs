//! `tools/style/check`, on a small tree with one mistake of each kind.

use std::path::Path;
use std::process::Command;

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
    std::fs::write(file, text).expect("written");
}

/// The exit code and standard output of the check on `root`.
fn check(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let script = testbed::tools::workspace().join("tools/style/check");
    let output = Command::new("python3")
        .arg(script)
        .args(arguments)
        .arg("--root")
        .arg(root)
        .output()
        .expect("python3 is in PATH");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn a_tree_without_mistakes_passes_the_style_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let code =
        "//! Tags.\n\n/// Returns a tag.\nfn tag() {\n    let tag = 1;\n\n    use_it(tag)\n}\n";
    write(folder.path(), "src/tag.rs", code);
    write(folder.path(), "docs/tags.md", "Tags should be copied. Marshall them again.\n");
    write(folder.path(), "docs/style.md", "Not \"shall\", not \"anew\".\n");

    assert_eq!(check(folder.path(), &[]), (Some(0), String::new()));

    let (_, numbers) = check(folder.path(), &["--measure"]);
    assert!(numbers.contains("src/: 1 files, 8 lines\n"), "{numbers}");
    assert!(numbers.contains("relative: 0.00% of 2 (at most 2%)\n"), "{numbers}");
    assert!(numbers.contains("blank lines inside of functions: 33.33% of 3"), "{numbers}");
}

#[test]
fn each_mistake_of_style_is_reported_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let comments =
        "//! What this is.\n\n/// Returns it.\n/// It goes on.\nfn a() {}\n/// It is.\nfn b() {}\n";
    write(folder.path(), "src/comments.rs", comments);
    write(folder.path(), "testbed/src/lib.rs", "/// Those that stay.\nfn c() {}\n");
    write(folder.path(), "tests/it/long.rs", &"// x\n".repeat(501));
    write(folder.path(), "tests/it/wide.rs", &format!("\n// {}\n", "x".repeat(118)));
    write(folder.path(), "src/dense.rs", "/// A function.\nfn d() {\n    e();\n    f()\n}\n");
    write(folder.path(), "charts/values.yaml", "a: 1\n# It shall be built anew.\n");
    write(folder.path(), "README.md", "Shall we?\n");

    let (code, output) = check(folder.path(), &[]);

    let places: Vec<_> = output.lines().filter_map(|line| line.split(": ").next()).collect();
    let expected = [
        "src/comments.rs:1",
        "src/comments.rs:6",
        "testbed/src/lib.rs:1",
        "charts/values.yaml:2",
        "charts/values.yaml:2",
        "README.md:1",
        "tests/it/long.rs:501",
        "tests/it/wide.rs:2",
        // The shares over all of src/: pronouns, blank lines.
        "src:1",
        "src:1",
    ];
    assert_eq!((code, places), (Some(1), expected.to_vec()), "{output}");
}
