//! Images that nobody's build makes, but that are allowed. Pushed byte for byte, since no tool would.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::traffic::{Fault, Match, Then};

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
