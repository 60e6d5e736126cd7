//! `docs/iam.md` shows the output of the command, and files that the operator accepts.

use std::process::Command;

use ecr_sync::ecr::Roles;
use ecr_sync::tenancy::Tenants;
use serde_json::Value;

use super::{blocks, read, root};

#[test]
fn the_documented_policy_is_the_printed_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    let scope =
        ["--account-id", "123456789012", "--region", "eu-west-1", "--repositories", "platform/*"];
    let printed = command
        .env_clear()
        .args(["iam-policy", "--all-features"])
        .args(scope)
        .output()
        .expect("it runs");
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).expect("text");
    let path = root().join("docs/iam.md");
    let document = read(&path);
    let is_policy = |block: &String| {
        block.contains("\"ecr:CreateRepository\"") || block.starts_with("ALL_FEATURES")
    };
    let documented = blocks(&document, "json").into_iter().find(is_policy).expect("a policy");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document.replace(&documented, &printed)).expect("written");
        return;
    }
    assert_eq!(documented, printed, "run `make docs`");
}

#[test]
fn the_documented_files_and_policies_can_be_read() {
    let document = read(root().join("docs/iam.md"));
    for block in blocks(&document, "json") {
        let policy: Value = serde_json::from_str(&block).expect("JSON");
        assert_eq!(policy["Version"], "2012-10-17");
    }
    let yaml = blocks(&document, "yaml");
    let roles = yaml.iter().find(|block| block.contains("externalId")).expect("roles");
    assert_ne!(Roles::parse(roles).expect("roles"), Roles::default());
    let tenants = yaml.iter().find(|block| block.starts_with("tenants:")).expect("tenants");
    assert_ne!(Tenants::parse(tenants).expect("tenants"), Tenants::default());
}
