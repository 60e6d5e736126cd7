//! Files that other programs read: GitHub's workflows, the Dockerfile.

use std::path::Path;

use serde_json::{Value, json};
use testbed::tools::{Call, workspace};

#[tokio::test]
async fn workflows_are_well_formed() {
    let folder = workspace().join(".github/workflows");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect();
    files.sort();
    // Neither is searched in PATH, because the result must be the same everywhere.
    let off = ["-shellcheck=", "-pyflakes="];
    let call = Call::new("actionlint").expect("make tools").args(off).args(files);
    call.output().await.unwrap_or_else(|error| panic!("{error}"));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of the build context that a Dockerfile copies.
fn copied(dockerfile: &str) -> Vec<String> {
    let dockerfile = read(dockerfile);
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    lines
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            words[..words.len() - 1].to_vec()
        })
        .collect()
}

/// What `COPY` does with a file or a folder.
fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("created");
        std::fs::copy(from, to).expect("copied");
        return;
    }
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn the_dockerfile_copies_every_target_of_the_workspace() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in copied("Dockerfile") {
        copy(&workspace().join(&path), &folder.path().join(&path));
    }
    let fetch = || {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        // Not `cargo metadata --no-deps`: it answers although the file of a target is missing.
        let output = std::process::Command::new(cargo)
            .args(["fetch", "--locked", "--offline"])
            .current_dir(&folder)
            .output();
        output.expect("cargo runs")
    };
    let output = fetch();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    std::fs::remove_file(folder.path().join("benches/start.rs")).expect("a target");
    assert!(!fetch().status.success(), "cargo accepts a tree without one of its targets");
}

#[test]
fn the_image_is_built_for_every_change_of_a_file_that_it_is_made_of() {
    let workflow: Value =
        serde_saphyr::from_str(&read(".github/workflows/image.yaml")).expect("YAML");
    let paths = workflow["on"]["pull_request"]["paths"].as_array().expect("paths");
    let paths: Vec<_> = paths.iter().filter_map(Value::as_str).collect();
    let mut files = copied("Dockerfile");
    files.extend(copied("Dockerfile.ci"));
    files.extend(["Dockerfile", "Dockerfile.ci", ".dockerignore"].map(str::to_owned));
    for path in &files {
        let pattern = match workspace().join(path).is_dir() {
            true => format!("{path}/**"),
            false => path.clone(),
        };
        assert!(paths.contains(&pattern.as_str()), "{pattern} is not in {paths:?}");
    }
}

#[test]
fn the_dockerfile_agrees_with_crate_and_chart() {
    let (dockerfile, values) = (read("Dockerfile"), read("charts/ecr-sync/values.yaml"));
    let values: Value = serde_saphyr::from_str(&values).expect("YAML");
    let user = &values["podSecurityContext"]["runAsUser"];
    assert!(dockerfile.contains(&format!("\nUSER {user}:{user}\n")));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        dockerfile.contains(&format!("ARG RUST_IMAGE=docker.io/library/rust:{rust}-")),
        "rust-version is {rust}"
    );
}

fn workflows() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(workspace().join(".github/workflows")).expect("a folder");
    let names = files.map(|file| file.expect("a file").file_name().display().to_string());
    names
        .map(|name| {
            let text = read(&format!(".github/workflows/{name}"));
            (name, serde_saphyr::from_str(&text).expect("YAML"))
        })
        .collect()
}

#[test]
fn no_action_is_used_by_a_tag_that_can_move() {
    for (file, workflow) in workflows() {
        let jobs = workflow["jobs"].as_object().expect("jobs").iter();
        for (name, job) in jobs {
            let steps = job["steps"].as_array().into_iter().flatten();
            for action in steps.filter_map(|step| step["uses"].as_str()) {
                let commit = action.split_once('@').map_or("", |(_, commit)| commit);
                let is_commit =
                    commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(is_commit, "{file}: {name} uses {action}");
            }
        }
    }
}

/// Everybody can open a pull request, and with it change what a job runs.
#[test]
fn a_pull_request_may_only_read() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], json!({"contents": "read"}), "{file}");
        let is_for_pull_requests = workflow["on"].get("pull_request").is_some();
        for (name, job) in workflow["jobs"].as_object().expect("jobs") {
            let is_for_releases_only = job["if"] == "inputs.push";
            if is_for_pull_requests && !is_for_releases_only {
                assert_eq!(job.get("permissions"), None, "{file}: {name}");
            }
        }
    }
}

#[test]
fn unsafe_code_other_crypto_and_unknown_sources_are_refused() {
    let (manifest, rules) = (read("Cargo.toml"), read("deny.toml"));
    assert!(manifest.contains("\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
    assert!(manifest.contains("\n[lints]\nworkspace = true\n"));
    for name in ["ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(rules.contains(&format!("{{ crate = \"{name}\", reason")), "{name} is allowed");
    }
    assert!(rules.contains("unknown-registry = \"deny\"\nunknown-git = \"deny\"\n"));
    let lint = read("Makefile");
    assert!(
        lint.contains("cargo-deny --locked check --deny unmatched-skip licenses bans sources\n")
    );
}
