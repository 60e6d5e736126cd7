//! What the stand-in shows after a kill: whether each tag is complete, and what was sent.

use std::collections::{BTreeMap, BTreeSet};

use ecr_sync::registry::Digest;
use serde_json::Value;
use testbed::ecr::{RepositoryView, StandIn};
use testbed::traffic::Record;

use super::place::NAME;
use crate::support::{ACCOUNT, REGION};

/// The content of the target at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) blobs: BTreeSet<String>,
    pub(super) images: BTreeSet<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) bytes: u64,
}

impl State {
    pub(super) fn of(view: Option<&RepositoryView>) -> Self {
        let Some(view) = view else { return Self::default() };
        Self {
            blobs: view.blobs.keys().cloned().collect(),
            images: view.images.keys().cloned().collect(),
            tags: view.tags.clone(),
            bytes: view.blobs.values().sum(),
        }
    }
}

/// The requests of one program that send content to the target, and those that read it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Digest, bytes, and whether the target has accepted it.
    pub(super) blobs: Vec<(String, u64, bool)>,
    /// Tag or digest, and whether the target has accepted it.
    pub(super) manifests: Vec<(String, bool)>,
    /// Sessions that were opened for blobs.
    pub(super) sessions: usize,
    /// Repositories that were created.
    pub(super) created: usize,
    /// Digests of the blobs that were read from the source.
    read: Vec<String>,
    /// All requests to the target.
    pub(super) requests: usize,
}

impl Sent {
    pub(super) fn of(target: &[Record], source: &[Record]) -> Self {
        let mut sent = Self { requests: target.len(), ..Self::default() };
        for record in target {
            let is_accepted = matches!(record.status, Some(200 | 201));
            match record.operation.as_str() {
                "StartUpload" => sent.sessions += 1,
                "PutBlob" => sent.blobs.push((digest(record), record.received, is_accepted)),
                "PutManifest" => {
                    let (_, reference) = record.path.rsplit_once('/').expect("a reference");
                    sent.manifests.push((reference.replace("%3A", ":"), is_accepted));
                }
                "CreateRepository" => sent.created += usize::from(is_accepted),
                operation => {
                    assert!(!["PatchUpload", "PutImage"].contains(&operation), "not counted here");
                }
            }
        }
        let read = source.iter().filter(|record| record.operation == "GetBlob");
        sent.read = read.map(digest).collect();
        sent
    }

    /// Lists what was sent or read although the target had it.
    pub(super) fn again(&self, before: &State) -> Vec<String> {
        let blobs = self.blobs.iter().filter(|(digest, ..)| before.blobs.contains(digest));
        let read = self.read.iter().filter(|digest| before.blobs.contains(*digest));
        let manifests = self.manifests.iter().filter(|(reference, _)| {
            before.images.contains(reference) || before.tags.contains_key(reference)
        });
        blobs
            .map(|(digest, bytes, _)| format!("blob {digest} is sent again ({bytes} bytes)"))
            .chain(read.map(|digest| format!("blob {digest} is read again")))
            .chain(manifests.map(|(reference, _)| format!("manifest {reference} is put again")))
            .collect()
    }
}

/// The digest in the path or the query of a request for a blob.
fn digest(record: &Record) -> String {
    let path = record.path.replace("%3A", ":").replace("%3a", ":");
    let (_, rest) = path.rsplit_once("sha256:").expect("a digest");
    format!("sha256:{}", rest.split('&').next().unwrap_or(rest))
}

/// Lists what is wrong with the tags of the target: another digest than expected, and content that
/// is missing or has another digest or size.
pub(super) fn wrong_tags(
    ecr: &StandIn,
    view: &RepositoryView,
    expected: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut walk = Walk { ecr, view, checked: BTreeSet::new(), problems: Vec::new() };
    for (tag, digest) in &view.tags {
        if expected.get(tag) != Some(digest) {
            walk.problems.push(format!("tag {tag} points to {digest}"));
        }
        walk.manifest(&format!("tag {tag}"), digest, None);
    }
    walk.problems
}

struct Walk<'a> {
    ecr: &'a StandIn,
    view: &'a RepositoryView,
    checked: BTreeSet<String>,
    problems: Vec<String>,
}

impl Walk<'_> {
    /// Checks a manifest and everything below it.
    fn manifest(&mut self, path: &str, digest: &str, size: Option<u64>) {
        if !self.checked.insert(digest.to_owned()) {
            return;
        }
        let path = format!("{path}, manifest {digest}");
        let Some(image) = self.view.images.get(digest) else {
            self.problems.push(format!("{path} is missing"));
            return;
        };
        self.content(&path, &image.manifest, digest, size);

        let Ok(manifest) = serde_json::from_slice::<Value>(&image.manifest) else {
            self.problems.push(format!("{path} is not JSON"));
            return;
        };
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        for child in list("manifests") {
            self.manifest(&path, text_of(&child), child["size"].as_u64());
        }
        for blob in list("layers").iter().chain(manifest.get("config")) {
            self.blob(&path, text_of(blob), blob["size"].as_u64());
        }
    }

    fn blob(&mut self, path: &str, digest: &str, size: Option<u64>) {
        if !self.checked.insert(digest.to_owned()) {
            return;
        }
        let path = format!("{path}, blob {digest}");
        match self.ecr.blob(ACCOUNT, REGION, NAME, digest) {
            Some(content) => self.content(&path, &content, digest, size),
            None => self.problems.push(format!("{path} is missing")),
        }
    }

    fn content(&mut self, path: &str, content: &[u8], digest: &str, size: Option<u64>) {
        if Digest::sha256_of(content).to_string() != digest {
            self.problems.push(format!("{path} has other content"));
        }
        if size.is_some_and(|size| size != content.len() as u64) {
            self.problems.push(format!("{path} has {} bytes, not {size:?}", content.len()));
        }
    }
}

fn text_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::Sources;
    use crate::support::desk::Desk;

    #[tokio::test]
    async fn missing_content_other_digests_and_repeated_writes_are_found() {
        let sources = Sources::shared().await;
        let desk = Desk::before(sources.open.host()).await;
        let text = desk.entry(NAME, "library/demo", &["1.26", "1.27"]);
        assert!(desk.sync(&text, &[]).await.is_success());
        let whole = desk.repository(NAME);
        let expected = whole.tags.clone();
        assert_eq!(wrong_tags(&desk.ecr, &whole, &expected), Vec::<String>::new());

        let sent = Sent::of(&desk.ecr.log(), &desk.source.log());
        assert_eq!(sent.again(&State::default()), Vec::<String>::new());
        // Each blob is sent and read, and each manifest is put by tag or by digest.
        let again = sent.again(&State::of(Some(&whole)));
        assert_eq!(again.len(), 2 * whole.blobs.len() + whole.images.len(), "{again:#?}");

        let (blob, _) = whole.blobs.first_key_value().expect("a blob");
        assert!(desk.ecr.remove_blob(ACCOUNT, REGION, NAME, blob));
        let problems = wrong_tags(&desk.ecr, &desk.repository(NAME), &expected);
        assert!(problems.len() == 1 && problems[0].contains(blob.as_str()), "{problems:#?}");

        let index = &whole.images[&expected["1.27"]].manifest;
        let index: Value = serde_json::from_slice(index).expect("JSON");
        let child = text_of(&index["manifests"][0]);
        assert!(desk.ecr.remove_image(ACCOUNT, REGION, NAME, child));
        let mut moved = desk.repository(NAME);
        moved.tags.insert("1.26".to_owned(), expected["1.27"].clone());
        let problems = wrong_tags(&desk.ecr, &moved, &expected);
        let has = |part: &str| problems.iter().any(|problem| problem.contains(part));
        assert!(has("tag 1.26 points to") && has(&format!("{child} is missing")), "{problems:#?}");
    }
}
