//! The documents match the code: each reason has its section, links have targets, the API server
//! accepts every example.

mod cases;
mod command_line;
mod iam;
mod reference;
mod threats;
mod walls;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ecr_sync::api::v1alpha1::crd;
use ecr_sync::controller::Reason;
use ecr_sync::ecr::Roles;
use ecr_sync::tenancy::Tenants;
use regex::Regex;
use serde_json::Value;

use crate::support::Rig;

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `folder` with this extension, relative to the root.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == extension) {
                found.push(entry.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// All documents: those at the root, and `docs/`.
pub(crate) fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "charts/ecr-sync/README.md"]
        .map(PathBuf::from);
    top.into_iter().chain(files("docs", "md")).collect()
}

/// A line of a document, and whether it is in a fenced block.
struct Line<'a> {
    text: &'a str,
    in_block: bool,
}

fn lines(document: &str) -> impl Iterator<Item = Line<'_>> {
    let mut in_block = false;
    document.lines().map(move |text| {
        let is_fence = text.trim_start().starts_with("```");
        in_block ^= is_fence;
        Line { text, in_block: in_block || is_fence }
    })
}

/// Texts of the headings of this level; 0 for all.
fn headings(document: &str, level: usize) -> Vec<&str> {
    let headings = lines(document).filter(|line| !line.in_block && line.text.starts_with('#'));
    headings
        .filter_map(|line| line.text.split_once(' '))
        .filter(|(marks, _)| level == 0 || marks.len() == level)
        .map(|(_, text)| text)
        .collect()
}

/// The anchor that GitHub makes for a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Targets of the links of a document; blocks and code are left out.
fn links(document: &str) -> Vec<String> {
    let prose = lines(document).filter(|line| !line.in_block).map(|line| {
        // Every second part between backquotes is code.
        line.text.split('`').step_by(2).collect::<Vec<_>>().join("`")
    });
    prose
        .flat_map(|line| {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            targets.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// The fenced blocks of this language, without the indentation of their fence.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for line in document.lines() {
        let trimmed = line.trim_start();
        if let Some(info) = trimmed.strip_prefix("```") {
            match open.take() {
                Some((_, true, block)) => blocks.push(block),
                Some(_) => {}
                None => {
                    open =
                        Some((line.len() - trimmed.len(), info.trim() == language, String::new()))
                }
            }
        } else if let Some((indent, _, block)) = &mut open {
            block.push_str(line.get(*indent..).unwrap_or_default());
            block.push('\n');
        }
    }
    blocks
}

#[test]
fn the_runbook_has_one_section_for_each_reason() {
    let runbook = read("docs/runbook.md");
    let sections = headings(&runbook, 3);
    let documented: BTreeSet<_> = sections.iter().copied().collect();
    let reasons: BTreeSet<_> = Reason::all().map(Reason::as_str).collect();
    assert_eq!(documented, reasons, "sections of docs/runbook.md, and controller::Reason");
    assert_eq!(sections.len(), documented.len(), "a section is duplicated");
}

#[test]
fn every_section_of_the_runbook_shows_a_message_and_says_what_to_do() {
    let runbook = read("docs/runbook.md");
    for section in runbook.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().unwrap_or_default();
        let name = section.lines().next().unwrap_or_default();
        for part in ["\n```text\n", "**The operator**", "**You**"] {
            assert!(section.contains(part), "{name} has no {part:?}");
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for link in links(&text)
            .into_iter()
            .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = root().join(&document).parent().expect("a file has a folder").to_owned();
            let target = if path.is_empty() { root().join(&document) } else { folder.join(path) };
            let found = target.exists()
                && (anchor.is_empty()
                    || headings(&read(&target), 0).iter().any(|heading| slug(heading) == anchor));
            if !found {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links: {broken:#?}");
}

#[test]
fn files_that_documents_name_exist() {
    let place = Regex::new(
        "`((?:src|tests|testbed|benches|tools|deploy|charts|examples|docs)/[a-z0-9_./-]+)`",
    )
    .expect("a pattern");
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        for path in place.captures_iter(&text).map(|found| found[1].to_owned()) {
            if !root().join(&path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "documents name missing files: {missing:#?}");
}

#[test]
fn every_document_is_in_the_readmes_table() {
    let readme = read("README.md");
    let linked: BTreeSet<_> = links(&readme).into_iter().collect();
    for document in files("docs", "md") {
        let document = document.display().to_string();
        assert!(linked.contains(&document), "README.md does not link to {document}");
    }
}

/// The YAML documents of a text as they are written.
fn yaml_documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n")
        .filter(|part| part.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')))
}

/// The judge of a YAML document of the documentation.
enum Judge {
    /// The API server: a whole object unchanged, or a fragment of a spec as part of an object.
    ApiServer(String),
    /// No judge: an object of Flux, Argo CD or kustomize, which our API server does not know. `gitops`
    /// and `install` check those of `deploy/`.
    Foreign,
    /// The program: a file that it reads.
    Program,
}

/// Groups that our API server does not know.
const FOREIGN: [&str; 3] = ["toolkit.fluxcd.io", "argoproj.io", "kustomize.config.k8s.io"];

fn judge(document: &str) -> Judge {
    let value: Value = serde_saphyr::from_str(document)
        .unwrap_or_else(|error| panic!("not YAML: {error}\n{document}"));
    let keys: BTreeSet<&str> =
        value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    if let Some(group) = value["apiVersion"].as_str() {
        if FOREIGN.iter().any(|foreign| group.contains(foreign)) {
            return Judge::Foreign;
        }
        // The namespaces of examples do not exist.
        let anywhere = Regex::new(r"namespace: *[a-z-]+,? *").expect("a pattern");
        return Judge::ApiServer(anywhere.replace_all(document, "").into_owned());
    }
    let crd = serde_json::to_value(crd()).expect("the CRD is JSON");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let head =
        "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\nmetadata: {name: fragment}\n";
    if keys.contains("spec") {
        Judge::ApiServer(format!("{head}{document}"))
    } else if !keys.is_empty() && keys.iter().all(|key| spec.get(key).is_some()) {
        Judge::ApiServer(format!(
            "{head}spec:\n{}",
            document.replace('\n', "\n  ").replacen("", "  ", 1)
        ))
    } else if is_a_file_of_ours(document, &value, &keys) {
        Judge::Program
    } else {
        panic!("neither the API server nor the program can judge this:\n{document}")
    }
}

/// Whether this is a file that the program reads, checked with the parser of that file.
fn is_a_file_of_ours(document: &str, value: &Value, keys: &BTreeSet<&str>) -> bool {
    let first = value.as_array().and_then(|entries| entries.first());
    if first.is_some_and(|entry| entry.get("roleArn").is_some()) {
        return Roles::parse(document).is_ok_and(|roles| roles != Roles::default());
    }
    if keys.contains("tenants") {
        return Tenants::parse(document).is_ok_and(|tenants| tenants != Tenants::default());
    }
    // Lists of repositories, at the top level or under a key: `convert` reads them and prints them
    // as resources.
    if first.is_some_and(|entry| entry.get("name").is_some()) || keys.contains("repositories") {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list.yaml");
        std::fs::write(&file, document.replace("[...]", "[]")).expect("a file");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ecr-sync"))
            .env_clear()
            .args(["convert".as_ref(), file.as_os_str()])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}\n{document}", String::from_utf8_lossy(&output.stderr));
        return true;
    }
    // Parts of a pipeline of GitLab or GitHub; a table of mirrors, which `command_line_flags`
    // reads.
    if keys.contains("mirrors")
        || keys.contains("jobs")
        || keys.iter().any(|key| key.starts_with('.'))
    {
        return true;
    }
    // Values of the chart.
    let values: Value = serde_saphyr::from_str(&read("charts/ecr-sync/values.yaml")).expect("YAML");
    !keys.is_empty() && has_keys_of(value, &values)
}

/// Whether the other object has all keys of this one, on every level. An empty object of the other
/// accepts any key.
fn has_keys_of(value: &Value, other: &Value) -> bool {
    match (value.as_object(), other.as_object()) {
        (Some(value), Some(other)) if !other.is_empty() => value
            .iter()
            .all(|(key, value)| other.get(key).is_some_and(|other| has_keys_of(value, other))),
        _ => true,
    }
}

#[tokio::test]
async fn every_yaml_of_the_documentation_is_accepted_by_its_reader() {
    let rig = Rig::new("docs-examples").await;
    let mut sources: Vec<(String, String)> = ["examples", "deploy/gitops"]
        .into_iter()
        .flat_map(|folder| files(folder, "yaml"))
        .map(|path| (path.display().to_string(), read(&path)))
        .collect();
    for document in documents() {
        let blocks = blocks(&read(&document), "yaml");
        sources.extend(
            (1..)
                .zip(blocks)
                .map(|(n, block)| (format!("{} block {n}", document.display()), block)),
        );
    }
    let (mut judged, mut ours) = (0, 0);
    for (number, (source, text)) in sources.iter().enumerate() {
        // The output of a test is shown if it fails: the last line is the failed one.
        eprintln!("{source}");
        let mut objects = Vec::new();
        for document in yaml_documents(text) {
            match judge(document) {
                Judge::ApiServer(object) => objects.push(object),
                Judge::Program => ours += 1,
                Judge::Foreign => {}
            }
        }
        if objects.is_empty() {
            continue;
        }
        judged += objects.len();
        let file = rig.folder().join(format!("{number}.yaml"));
        std::fs::write(&file, objects.join("\n---\n")).expect("a file");
        // kubectl refuses unknown fields, as it does for users.
        let file = file.to_string_lossy();
        rig.kubectl(&["apply", "--dry-run=server", "-n", &rig.namespace, "-f", &file]).await;
    }
    assert!(judged >= 25 && ours >= 7, "only {judged} resources and {ours} files were found");
}
