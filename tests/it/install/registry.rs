//! A registry to push the image and the chart to, as a reader of README.md has one.

use serde_json::Value;
use testbed::certificates::Certificates;
use testbed::upstream::{Auth, Upstream};

use super::Site;

/// The registry that the reader names: it speaks HTTPS, with a certificate of its own authority.
pub(super) struct Registry {
    /// Serves the content over HTTPS; the other one owns it.
    pub(super) https: Upstream,
    http: Upstream,
    /// A file of authorities, for `SSL_CERT_FILE`.
    pub(super) authority: String,
}

impl Registry {
    pub(super) async fn start(site: &Site) -> Self {
        let folder = site.folder.path();
        let http = Upstream::start(folder.join("http"), Auth::None).await.expect("a registry");
        let certificates = Certificates::generate().expect("certificates");
        let https = Upstream::start_tls(folder.join("https"), &certificates, false, &http).await;

        // With the system's authorities, which the build may need.
        let authorities = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt");
        let file = folder.join("authorities.crt");
        let bundle = authorities.unwrap_or_default() + &certificates.authority;
        std::fs::write(&file, bundle).expect("written");
        let authority = file.display().to_string();
        Self { https: https.expect("a registry with TLS"), http, authority }
    }

    /// The compressed size of an image, and the user that it names.
    pub(super) async fn image(&self, repository: &str, tag: &str) -> (u64, String) {
        let url = format!("http://{}/v2/{repository}", self.http.host());
        let read = async |path: String| -> Value {
            let request = testbed::http::client().get(format!("{url}/{path}"));
            let request = request.header("accept", "application/vnd.oci.image.manifest.v1+json");
            let answer = request.send().await.expect("an answer").text().await.expect("a body");
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path}: {answer}"))
        };
        let manifest = read(format!("manifests/{tag}")).await;
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let size = layers.filter_map(|layer| layer["size"].as_u64()).sum();
        let config = manifest["config"]["digest"].as_str().expect("a config");
        let config = read(format!("blobs/{config}")).await;
        (size, config["config"]["User"].as_str().unwrap_or_default().to_owned())
    }

    /// A block of README.md with this registry instead of the reader's.
    pub(super) fn named_in(&self, block: &str) -> String {
        let example = "registry.example.com/platform";
        assert!(block.contains(example), "the block names no registry: {block}");
        block.replace(example, &format!("{}/platform", self.https.host()))
    }
}
