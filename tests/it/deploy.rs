//! Files that other programs read: GitHub's workflows, the Dockerfile.

use std::path::Path;

use serde_json::Value;
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

#[test]
fn the_dockerfile_knows_every_target_of_the_workspace() {
    let dockerfile = read("Dockerfile");
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    };
    for manifest in ["Cargo.toml", "Cargo.lock", "testbed/Cargo.toml"] {
        put(manifest, &read(manifest));
    }
    // The layer with the dependencies is built from manifests and empty sources: cargo needs a file
    // for each target.
    for source in dockerfile
        .split_whitespace()
        .filter(|word| Path::new(word).extension().is_some_and(|e| e == "rs"))
    {
        put(source, "fn main() {}\n");
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--locked", "--offline", "--no-deps", "--format-version=1"];
    let output = std::process::Command::new(cargo)
        .args(arguments)
        .current_dir(&folder)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let targets = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|p| p["targets"].as_array())
        .flatten();
    let paths: Vec<_> = targets.filter_map(|target| target["src_path"].as_str()).collect();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        assert!(Path::new(path).is_file(), "{path} is a target: let the Dockerfile make it");
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
