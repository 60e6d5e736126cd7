//! Bad input to the built program: reported with its position, nothing is done, no panic.

use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Sources};

async fn desk() -> Desk {
    Desk::before(Sources::shared().await.open.host()).await
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the output of `sync` for a path; nothing may be done.
async fn refused(desk: &Desk, path: &str) -> String {
    let output = output(desk.command(&["sync", path])).await;
    let text = err(&output);
    assert_eq!(output.status.code(), Some(64), "{path}: {text}");
    assert!(
        text.ends_with("in the input; nothing was done\n") && !text.contains("panicked"),
        "{path}: {text}"
    );
    text
}

#[tokio::test]
async fn invalid_files_are_reported_with_their_position_and_nothing_is_done() {
    let desk = desk().await;
    let number = "YAML reads it as the number 1.2";
    for (name, text, problems) in [
        ("tabs", "- name: ab\n\timage: {}\n", &["tabs.yml:1:", "tab"][..]),
        ("twice", "- name: ab\n  name: cd\n", &["twice.yml:2:3: ", "duplicate mapping key `name`"]),
        (
            "float",
            "- name: ab\n  image: {pull_url: q.io/x, tags: 1.20}\n",
            &["float.yml:2:", "write [\"1.20\"]", "1.20 as the number 1.2"],
        ),
        (
            "floats",
            "- name: ab\n  image: {pull_url: q.io/x, tags: [1.20]}\n",
            &["floats.yml:2:", "quote 1.20", number],
        ),
        ("list", "- name: [ab]\n", &["list.yml:1:9: ", "name must be a string"]),
        (
            "text",
            "- name: ab\n  lifecyclePolicy: ten\n",
            &["text.yml:2:20: ", "lifecyclePolicy must be"],
        ),
        (
            "anchor",
            "- name: ab\n  lifecyclePolicy: *nobody\n",
            &["anchor.yml:2:", "cannot be read: "],
        ),
        (
            "same",
            "- name: ab\n- name: ab\n",
            &["same.yml:2:3: repository ab is already described at ", "same.yml:1:3"],
        ),
    ] {
        desk.write(&format!("{name}.yml"), text);
        let said = refused(&desk, &format!("{name}.yml")).await;
        assert!(problems.iter().all(|problem| said.contains(problem)), "{problems:?}: {said}");
    }
    // One invalid file among valid ones: nothing is done for the valid ones either.
    desk.write("mixed/good.yml", "- name: good\n");
    desk.write("mixed/wrong.yml", "- name: [\n");
    assert!(refused(&desk, "mixed").await.contains("mixed/wrong.yml:1:"));
    assert!(desk.ecr.log().is_empty());
}

#[tokio::test]
async fn unreadable_files_are_reported_and_the_others_are_read_once() {
    let desk = desk().await;
    let folder = desk.folder.path();
    desk.write("empty/README.md", "no files\n");
    assert!(
        refused(&desk, "empty")
            .await
            .contains("empty: this directory has no *.yml, *.yaml or *.json file")
    );
    desk.write("named.yaml/README.md", "a directory by the name of a file\n");
    assert!(refused(&desk, "named.yaml").await.contains("named.yaml: this directory has no"));
    // Nobody can read the memory of a process at 0, not even root.
    desk.write("unreadable/good.yml", "- name: good\n");
    symlink("/proc/self/mem", folder.join("unreadable/memory.yml")).expect("a link");
    assert!(refused(&desk, "unreadable").await.contains("unreadable/memory.yml: cannot be read: "));
    desk.write("self/good.yml", "- name: good\n");
    symlink("loop.yml", folder.join("self/loop.yml")).expect("a link");
    assert!(refused(&desk, "self").await.contains("self/loop.yml: cannot be read: "));
    assert!(desk.ecr.log().is_empty());

    // A link back to the folder does not loop, byte order marks and empty files are accepted,
    // anchors work.
    desk.write(
        "fine/a.yml",
        "\u{feff}x-rules: &rules {rules: []}\r\nrepositories:\r\n\
         - {name: ab, lifecyclePolicy: *rules}\r\n",
    );
    for nothing in ["empty.yml", "comment.yaml", "null.json"] {
        desk.write(
            &format!("fine/{nothing}"),
            if nothing == "comment.yaml" { "# later\n" } else { "" },
        );
    }
    symlink(".", folder.join("fine/again")).expect("a link");
    let fine = output(desk.command(&["sync", "fine"])).await;
    assert!(fine.status.success(), "{}", err(&fine));
    let text = String::from_utf8_lossy(&fine.stdout).into_owned();
    assert!(text.contains("Repositories Processed: 1\n"), "{text}");
}

#[tokio::test]
async fn ten_megabytes_are_read_to_their_end_and_more_are_refused() {
    let desk = desk().await;
    let description = "x".repeat(5000);
    let entries = (0..2000).map(|number| {
        format!(
            "- {{name: repository-{number}, lifecyclePolicy: {{rules: [{{description: \
                 {description}}}]}}}}\n"
        )
    });
    let mut text: String = entries.collect();
    assert!(text.len() > 10_000_000, "{}", text.len());
    text.push_str("- {name: last, imag: {}}\n");
    desk.write("large.yml", &text);
    assert!(refused(&desk, "large.yml").await.contains("large.yml:2001:16: unknown field `imag`"));
    text.push_str(&"# more\n".repeat(100_000));
    desk.write("larger.yml", &text);
    assert!(
        refused(&desk, "larger.yml").await.contains("larger.yml: is larger than 10 MiB: split it")
    );
    assert!(desk.ecr.log().is_empty());
}

/// Every command that prints results; `import` needs the repository that `sync` makes.
const PRINTING: [&[&str]; 12] = [
    &["sync", "all.yaml", "--dry-run"],
    &["sync", "all.yaml"],
    &["sync", "all.yaml", "--output", "json"],
    &["sync", "all.yaml", "--dry-run", "--output", "json"],
    &["convert", "all.yaml"],
    &["import"],
    &["iam-policy", "--all-features"],
    &["crd"],
    &["completions", "bash"],
    &["version"],
    &["sync", "--help"],
    &["--version"],
];

#[tokio::test]
async fn results_on_a_full_disk_are_a_failure_that_names_the_file() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: app\n");
    for arguments in PRINTING {
        let mut command = desk.command(arguments);
        command.stdout(std::fs::File::create("/dev/full").expect("a device"));
        let output = output(command).await;
        let last = err(&output).lines().last().unwrap_or_default().to_owned();
        assert_eq!(
            last,
            "error: cannot write to standard output (/dev/full): No space left on device (os \
             error 28)",
            "{arguments:?}"
        );
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    assert!(desk.ecr.repository(ACCOUNT, REGION, "app").is_some(), "the work was done");

    let output = output(desk.command(&["sync", "all.yaml", "--report", "/dev/full"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("cannot write the report /dev/full: No space left on device"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn a_closed_standard_output_is_not_a_failure() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: app\n");
    for arguments in PRINTING {
        let command = desk.command(arguments);
        let (code, text) =
            tokio::task::spawn_blocking(move || without_reader(command)).await.expect("joined");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
    }
}

/// Exit code and standard error of a command whose standard output is closed.
fn without_reader(mut command: Command) -> (Option<i32>, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), err(&output))
}
