//! Images that nobody's build makes, but that are allowed. Pushed byte for byte, since no tool would.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::traffic::{Fault, Mark, Match, Record, Then};

use crate::support::Sources;
use crate::support::desk::Desk;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A repository of the source to push into.
struct Repository {
    http: reqwest::Client,
    base: String,
}

impl Repository {
    fn new(host: &str, name: &str) -> Self {
        Self { http: testbed::http::client(), base: format!("http://{host}/v2/{name}") }
    }

    /// Pushes a blob and returns its descriptor.
    async fn blob(&self, content: &str, media_type: &str) -> Value {
        let digest = ecr_sync::registry::Digest::sha256_of(content.as_bytes()).to_string();
        let opened = self.http.post(format!("{}/blobs/uploads/", self.base)).send().await.expect("a session");
        let mut session: reqwest::Url = opened.headers()["location"].to_str().expect("text").parse().expect("a URL");
        session.query_pairs_mut().append_pair("digest", &digest);
        let stored = self.http.put(session).body(content.to_owned()).send().await.expect("an answer");
        assert_eq!(stored.status().as_u16(), 201);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes a manifest and returns its descriptor.
    async fn manifest(&self, text: &str, media_type: &str, tag: Option<&str>) -> Value {
        let digest = ecr_sync::registry::Digest::sha256_of(text.as_bytes()).to_string();
        let url = format!("{}/manifests/{}", self.base, tag.unwrap_or(&digest));
        let put = self.http.put(url).header("content-type", media_type).body(text.to_owned());
        let answer = put.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 201, "{:?}", answer.text().await);
        json!({"mediaType": media_type, "digest": digest, "size": text.len()})
    }

    /// An image of one layer of its own.
    async fn image(&self, name: &str) -> Value {
        let config = self.blob(&format!("{{\"name\":{name:?}}}"), "application/vnd.oci.image.config.v1+json").await;
        let layer = self.blob(name, "application/vnd.oci.image.layer.v1.tar").await;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.manifest(&manifest.to_string(), MANIFEST, None).await
    }

    async fn index(&self, children: &[&Value], tag: Option<&str>) -> Value {
        // Written as people write: with spaces, an unknown field and a line end, all of which are part of the digest.
        let text = format!("{{\n  \"schemaVersion\": 2, \"x-own\": null,\n  \"manifests\": {}\n}}\n", json!(children));
        self.manifest(&text, INDEX, tag).await
    }
}

fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().expect("a digest")
}

/// Three levels; `shared` is a child of the top, of the middle and of the bottom, and of a second tag.
#[tokio::test]
async fn nested_indexes_and_diamonds_move_once() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/nested");
    let shared = repository.image("shared").await;
    let leaf = repository.image("leaf").await;
    let bottom = repository.index(&[&leaf, &shared], None).await;
    let middle = repository.index(&[&shared, &bottom], None).await;
    let top = repository.index(&[&shared, &middle, &bottom], Some("top")).await;
    let second = repository.index(&[&shared], Some("second")).await;

    let desk = Desk::before(sources.open.host()).await;
    // Slow, so that both tags want to write `shared` at the same time.
    let slow = Then::Delay(Duration::from_millis(200));
    desk.ecr.faults().add(Fault::new(Match::operation("PutManifest"), slow));
    let run = desk.sync(&desk.entry("app", "cases/nested", &["top", "second"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert_eq!((app.tags["top"].as_str(), app.tags["second"].as_str()), (digest(&top), digest(&second)));
    assert_eq!((app.images.len(), app.blobs.len()), (6, 4));
    assert_eq!(desk.source.count(|record| record.operation == "GetManifest"), 6, "each once");
    assert_eq!(desk.source.count(|record| record.operation == "GetBlob"), 4);
    assert_eq!(desk.ecr.count(|record| record.operation == "PutManifest"), 6);
}

/// Windows images name layers that only Microsoft may hand out; the layer beside it is of a type that nobody knows.
#[tokio::test]
async fn foreign_layers_stay_where_they_are() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/foreign");
    let config = repository.blob("{\"os\":\"windows\"}", "application/vnd.oci.image.config.v1+json").await;
    let own = repository.blob("own", "application/vnd.example.unknown.v7+what").await;
    let content = repository.blob("foreign", "application/octet-stream").await;
    let mut foreign = content;
    foreign["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign["urls"] = json!(["http://127.0.0.1:1/never-asked"]);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [foreign, own]});
    let image = repository.manifest(&manifest.to_string(), MANIFEST, Some("1")).await;

    let desk = Desk::before(sources.open.host()).await;
    let run = desk.sync(&desk.entry("app", "cases/foreign", &["1"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert_eq!(app.tags["1"], digest(&image));
    assert!(app.blobs.contains_key(digest(&own)) && !app.blobs.contains_key(digest(&foreign)));
}

fn on(mut child: Value, os: &str, architecture: &str) -> Value {
    child["platform"] = json!({"os": os, "architecture": architecture});
    child
}

/// Lines of a file that copy tags of `cases/…` into `app`, with more fields of the image.
fn entry(desk: &Desk, repository: &str, tags: &[&str], more: &str) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| format!("{tag:?}")).collect();
    let (host, tags) = (desk.source.host(), tags.join(", "));
    format!("- {{name: app, image: {{pull_url: \"{host}/{repository}\", tags: [{tags}], insecure: true, {more}}}}}\n")
}

fn writes(desk: &Desk, since: Mark) -> Vec<String> {
    let written = desk.ecr.log_since(since).into_iter().filter(Record::is_write);
    written.map(|record| record.operation).collect()
}

/// Of three platforms one is wanted: with its attestation, and with a child that names no platform.
#[tokio::test]
async fn a_platform_filter_makes_a_smaller_index_and_says_so_where_nothing_matches() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/platforms");
    let amd = on(repository.image("on amd64").await, "linux", "amd64");
    let arm = on(repository.image("on arm64").await, "linux", "arm64");
    let plain = repository.image("for nobody").await;
    let about = |mut attestation: Value, image: &Value| {
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
                                            "vnd.docker.reference.digest": digest(image)});
        on(attestation, "unknown", "unknown")
    };
    let of_amd = about(repository.image("about amd64").await, &amd);
    let of_arm = about(repository.image("about arm64").await, &arm);
    let whole = repository.index(&[&amd, &arm, &of_amd, &of_arm, &plain], Some("1")).await;
    repository.index(&[&arm], Some("other")).await;

    let desk = Desk::before(sources.open.host()).await;
    let text = entry(&desk, "cases/platforms", &["1", "other"], "platforms: [linux/amd64]");
    let run = desk.sync(&text, &[]).await;
    let told = "! image tag other: SourceNotFound: ";
    assert!(run.text.contains(told) && run.text.contains("is not for linux/amd64 but for linux/arm64"), "{}", run.text);
    let app = desk.repository("app");
    assert!(!app.tags.contains_key("other"));
    assert_ne!(app.tags["1"], digest(&whole));
    let made: Value = serde_json::from_slice(&app.images[&app.tags["1"]].manifest).expect("an index");
    let children: Vec<_> = made["manifests"].as_array().expect("children").iter().map(digest).collect();
    assert_eq!(children, [digest(&amd), digest(&of_amd), digest(&plain)]);
    assert!(children.iter().all(|child| app.images.contains_key(*child)) && app.images.len() == 4);

    let mark = desk.ecr.mark();
    desk.sync(&text, &[]).await;
    assert_eq!(writes(&desk, mark), Vec::<String>::new(), "the same index is made again");
    desk.sync(&desk.entry("app", "cases/platforms", &["1"]), &[]).await;
    assert_eq!(desk.repository("app").tags["1"], digest(&whole), "without a filter, byte for byte");
}

#[tokio::test]
async fn a_tag_that_is_there_is_not_asked_for_where_that_is_enough() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let pin = format!("v2@{}", sources.seeded.digest("team/app", "v2"));
    let text = entry(&desk, "team/app", &["v1", &pin], "checkPolicy: IfNotPresent");
    assert!(desk.sync(&text, &[]).await.is_success());
    let (source, ecr) = (desk.source.mark(), desk.ecr.mark());
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(desk.source.log_since(source).len(), 0, "the source is not asked");
    let asked = desk.ecr.log_since(ecr).into_iter().filter(|record| record.operation == "DescribeImages");
    assert_eq!((asked.count(), writes(&desk, ecr)), (1, Vec::new()), "both tags in one request");

    let more = entry(&desk, "team/app", &["v1", &pin, "latest"], "checkPolicy: IfNotPresent");
    let source = desk.source.mark();
    desk.sync(&more, &[]).await;
    let asked = desk.source.log_since(source).into_iter().filter(|record| record.operation.ends_with("Manifest"));
    assert!(asked.clone().all(|record| record.path.contains("/manifests/latest")), "only what is missing");
    assert!(asked.count() > 0);
}

/// A signature, a signature of that, both in a circle; a signature as cosign tags it; then one more, and a broken one.
#[tokio::test]
async fn referrers_come_along_in_any_shape_and_never_cost_the_image() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/referrers");
    let config = repository.blob("{}", "application/vnd.oci.empty.v1+json").await;
    let artifact = async |name: &str, subject: Option<&Value>, tag: Option<&str>| {
        let layer = repository.blob(name, "application/vnd.example.signature").await;
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        repository.manifest(&manifest.to_string(), MANIFEST, tag).await
    };
    let stand_in = |of: &Value| digest(of).replace(':', "-");
    let image = artifact("signed image", None, Some("1")).await;
    let signature = artifact("signature", Some(&image), None).await;
    let second = artifact("signature of the signature", Some(&signature), None).await;
    // This registry has no referrers API: tags stand in for it. The image refers to itself, too.
    repository.index(&[&image, &signature], Some(&stand_in(&image))).await;
    repository.index(&[&second], Some(&stand_in(&signature))).await;
    repository.index(&[&signature], Some(&stand_in(&second))).await;
    let cosign = format!("{}.sig", stand_in(&image));
    let tagged = artifact("cosign", None, Some(&cosign)).await;

    let desk = Desk::before(sources.open.host()).await;
    let text = entry(&desk, "cases/referrers", &["1"], "referrers: All");
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    let tags: Vec<_> = app.tags.iter().map(|(tag, digest)| (tag.as_str(), digest.as_str())).collect();
    assert_eq!(tags, [("1", digest(&image)), (cosign.as_str(), digest(&tagged))]);
    let all = [&image, &signature, &second, &tagged].map(|manifest| app.images.contains_key(digest(manifest)));
    assert_eq!((all, app.images.len()), ([true; 4], 4));

    let mark = desk.ecr.mark();
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(writes(&desk, mark), Vec::<String>::new());

    // Newer than the image, which did not change; and one whose layer the source lost.
    let newer = artifact("newer signature", Some(&image), None).await;
    let broken = artifact("lost signature", Some(&image), None).await;
    repository.index(&[&signature, &newer, &broken], Some(&stand_in(&image))).await;
    let lost = ecr_sync::registry::Digest::sha256_of(b"lost signature").to_string();
    let gone = Match::operation("GetBlob").path(lost.trim_start_matches("sha256:"));
    desk.source.faults().add(Fault::new(gone, Then::status(404)));
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert!(app.images.contains_key(digest(&newer)) && !app.images.contains_key(digest(&broken)));
    assert_eq!(app.tags["1"], digest(&image));
}
