//! Content that no tool makes, pushed byte for byte into a registry without logins.

use serde_json::{Value, json};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A repository of the source to push into.
pub struct Repository {
    http: reqwest::Client,
    base: String,
}

impl Repository {
    pub fn new(host: &str, name: &str) -> Self {
        Self { http: testbed::http::client(), base: format!("http://{host}/v2/{name}") }
    }

    /// Pushes a blob and returns its descriptor.
    pub async fn blob(&self, content: &str, media_type: &str) -> Value {
        let digest = ecr_sync::registry::Digest::sha256_of(content.as_bytes()).to_string();
        let opened = self
            .http
            .post(format!("{}/blobs/uploads/", self.base))
            .send()
            .await
            .expect("a session");
        let mut session: reqwest::Url =
            opened.headers()["location"].to_str().expect("text").parse().expect("a URL");
        session.query_pairs_mut().append_pair("digest", &digest);
        let stored =
            self.http.put(session).body(content.to_owned()).send().await.expect("an answer");
        assert_eq!(stored.status().as_u16(), 201);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes a manifest and returns its descriptor.
    pub async fn manifest(&self, text: &str, media_type: &str, tag: Option<&str>) -> Value {
        let digest = ecr_sync::registry::Digest::sha256_of(text.as_bytes()).to_string();
        let url = format!("{}/manifests/{}", self.base, tag.unwrap_or(&digest));
        let put = self.http.put(url).header("content-type", media_type).body(text.to_owned());
        let answer = put.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 201, "{:?}", answer.text().await);
        json!({"mediaType": media_type, "digest": digest, "size": text.len()})
    }

    /// A manifest, unchanged.
    pub async fn text(&self, descriptor: &Value) -> String {
        let url = format!("{}/manifests/{}", self.base, digest(descriptor));
        let kind = descriptor["mediaType"].as_str().expect("a type");
        let answer = self.http.get(url).header("accept", kind).send().await.expect("an answer");
        answer.error_for_status().expect("it is there").text().await.expect("text")
    }

    /// An image with one unique layer.
    pub async fn image(&self, name: &str) -> Value {
        self.image_as(name, None).await
    }

    /// The same under a tag, if any.
    pub async fn image_as(&self, name: &str, tag: Option<&str>) -> Value {
        let config = self
            .blob(&format!("{{\"name\":{name:?}}}"), "application/vnd.oci.image.config.v1+json")
            .await;
        let layer = self.blob(name, "application/vnd.oci.image.layer.v1.tar").await;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.manifest(&manifest.to_string(), MANIFEST, tag).await
    }

    /// A signature of `subject`, from the point of view of a registry.
    pub async fn signature(&self, subject: &Value, name: &str, tag: Option<&str>) -> Value {
        let config = self.blob("{}", "application/vnd.oci.empty.v1+json").await;
        let layer = self.blob(name, "application/octet-stream").await;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "artifactType": "application/x-signature",
                              "config": config, "layers": [layer], "subject": subject});
        self.manifest(&manifest.to_string(), MANIFEST, tag).await
    }

    pub async fn index(&self, children: &[&Value], tag: Option<&str>) -> Value {
        // Written as by hand: with spaces, an unknown field and a line end, which are all part of
        // the digest.
        let text = format!(
            "{{\n  \"schemaVersion\": 2, \"x-own\": null,\n  \"manifests\": {}\n}}\n",
            json!(children)
        );
        self.manifest(&text, INDEX, tag).await
    }
}

pub fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().expect("a digest")
}
