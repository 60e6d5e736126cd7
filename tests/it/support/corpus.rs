//! The content of a source: images that crane makes, and the content of a manifest.

use futures::{StreamExt, stream};
use serde_json::Value;
use testbed::{layer, tools};

/// Number of concurrent crane processes.
const CRANES: usize = 4;

/// The manifest of a tag, and the digests in it.
#[derive(Debug, Clone)]
pub struct Image {
    pub digest: String,
    pub manifest: Value,
}

impl Image {
    /// Reads it from a registry that needs no login.
    pub async fn read(host: &str, repository: &str, reference: &str) -> Self {
        let types = "application/vnd.oci.image.manifest.v1+json, \
                     application/vnd.oci.image.index.v1+json, \
                     application/vnd.docker.distribution.manifest.v2+json, \
                     application/vnd.docker.distribution.manifest.list.v2+json";
        let url = format!("http://{host}/v2/{repository}/manifests/{reference}");
        let answer = testbed::http::client()
            .get(url)
            .header("accept", types)
            .send()
            .await
            .expect("an answer");
        let digest = answer.headers()["docker-content-digest"].to_str().expect("text").to_owned();
        Self { digest, manifest: answer.json().await.expect("a manifest") }
    }

    /// The last layer. In an image that was appended to another one, this is the only new layer.
    pub fn last_layer(&self) -> String {
        let layer =
            self.manifest["layers"].as_array().and_then(|layers| layers.last()).expect("a layer");
        text(&layer["digest"])
    }

    pub fn config(&self) -> String {
        text(&self.manifest["config"]["digest"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a digest").to_owned()
}

/// Files and crane calls that make images in the registry at `host`, which needs no login.
pub struct Maker {
    folder: tempfile::TempDir,
    host: String,
}

impl Maker {
    pub fn new(host: &str) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), host: host.to_owned() }
    }

    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host)
    }

    /// A layer that is unique to this name.
    pub fn layer(&self, name: &str, size: usize) -> String {
        let path = self.folder.path().join(format!("{name}.tar"));
        std::fs::write(&path, layer::unique(name, size).expect("a short name")).expect("a file");
        path.display().to_string()
    }

    pub async fn crane(&self, args: &[&str]) {
        tools::run("crane", args, &[]).await.expect("crane succeeds");
    }

    /// An image of `layers` on `base`, a reference, or on nothing.
    pub async fn image(&self, target: &str, base: Option<&str>, layers: &[String]) {
        let mut args = vec!["append", "--new_tag", target];
        match base {
            Some(base) => args.extend(["--base", base]),
            None => args.push("--oci-empty-base"),
        }
        for layer in layers {
            args.extend(["--new_layer", layer]);
        }
        self.crane(&args).await;
    }

    /// `count` tags t0, t1 …, each with `shared` common layers and one unique layer.
    pub async fn tags_that_share(
        &self,
        repository: &str,
        count: usize,
        shared: usize,
    ) -> Vec<String> {
        let base = self.reference(&format!("{repository}-base"), "1");
        let layers: Vec<_> =
            (0..shared).map(|at| self.layer(&format!("shared-{at}"), 2_000)).collect();
        self.image(&base, None, &layers).await;
        let tags: Vec<_> = (0..count).map(|at| format!("t{at}")).collect();
        let each = |tag: String| {
            let base = &base;
            async move {
                let layers = [self.layer(&format!("own-{tag}"), 2_000)];
                self.image(&self.reference(repository, &tag), Some(base), &layers).await;
            }
        };
        stream::iter(tags.clone()).map(each).buffer_unordered(CRANES).collect::<Vec<()>>().await;
        tags
    }

    /// One index of `platforms` images, each with `layers` unique layers.
    pub async fn index(&self, repository: &str, tag: &str, platforms: &[&str], layers: usize) {
        let each = |(at, platform): (usize, &str)| {
            let platform = platform.to_owned();
            async move {
                let name = self.reference(repository, &format!("child{at}"));
                let layers: Vec<_> =
                    (0..layers).map(|n| self.layer(&format!("p{at}-{n}"), 2_000)).collect();
                self.image(&name, None, &layers).await;
                self.crane(&["mutate", &name, "--set-platform", &platform, "--tag", &name]).await;
                name
            }
        };
        let children: Vec<_> = stream::iter(platforms.iter().copied().enumerate())
            .map(each)
            .buffered(CRANES)
            .collect()
            .await;
        let index = self.reference(repository, tag);
        let mut args = vec!["index", "append", "--tag", &index];
        for child in &children {
            args.extend(["--manifest", child]);
        }
        self.crane(&args).await;
    }
}
