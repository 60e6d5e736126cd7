//! The source of the syncs that are killed: 30 tags of one repository, and a chart.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::scratch;
use tokio::sync::OnceCell;

use crate::support::Sources;
use crate::support::raw::{self, INDEX, MANIFEST, Repository};

/// Image tags. The last two point to the images of the first two.
const TAGS: usize = 30;
const ALIASES: usize = 2;
/// The repository of the source.
pub(super) const REPOSITORY: &str = "kills/app";
/// The version of the chart.
pub(super) const VERSION: &str = "1.0.0";

/// Layers that many images share, and their size.
const SHARED: usize = 4;
const SHARED_SIZE: usize = 200_000;
/// Size of the layer that only one image has.
const OWN_SIZE: usize = 40_000;

/// The content of the source.
pub(super) struct Content {
    /// The digest of each image tag.
    pub(super) digests: BTreeMap<String, String>,
    charts: ChartRepository,
}

impl Content {
    /// The content of all syncs, pushed by the first caller.
    pub(super) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Content> = OnceCell::const_new();
        SHARED.get_or_init(Self::push).await
    }

    async fn push() -> Self {
        let folder = scratch::folder("kills-charts").expect("a folder");
        let charts = ChartRepository::start(folder, None).await.expect("a chart repository");
        charts.package("stable", "app", VERSION).await.expect("helm packages");
        charts.index("stable").await.expect("helm indexes");

        let source = Sources::shared().await;
        let images = Images::new(Repository::new(source.open.host(), REPOSITORY)).await;
        Self { digests: images.push().await, charts }
    }

    /// The tags of the image.
    pub(super) fn tags(&self) -> Vec<&str> {
        self.digests.keys().map(String::as_str).collect()
    }

    /// The address of the chart.
    pub(super) fn chart_url(&self) -> String {
        format!("http://{}/stable", self.charts.host())
    }
}

/// Images with common layers.
struct Images {
    repository: Repository,
    shared: Vec<Value>,
}

impl Images {
    async fn new(repository: Repository) -> Self {
        let mut shared = Vec::new();
        for number in 0..SHARED {
            shared.push(layer(&repository, &format!("shared {number}"), SHARED_SIZE).await);
        }
        Self { repository, shared }
    }

    /// Pushes all tags. Of three tags, one is an image, one is an index of two platforms, and one
    /// is an index that shares a child with the one before.
    async fn push(&self) -> BTreeMap<String, String> {
        let mut tops = Vec::new();
        let mut child = None;
        for number in 0..TAGS - ALIASES {
            let tag = format!("v{number}");
            let amd64 = match child.take_if(|_| number % 3 == 2) {
                Some(child) => child,
                None => self.image(&format!("{tag} amd64"), number).await,
            };
            if number % 3 == 0 {
                let text = self.repository.text(&amd64).await;
                self.repository.manifest(&text, MANIFEST, Some(&tag)).await;
                tops.push((tag, amd64));
                continue;
            }

            let arm64 = self.image(&format!("{tag} arm64"), number + 1).await;
            let children = [(&amd64, "amd64"), (&arm64, "arm64")].map(|(image, architecture)| {
                let mut image = image.clone();
                image["platform"] = json!({"os": "linux", "architecture": architecture});
                image
            });
            let children: Vec<_> = children.iter().collect();
            let index = self.repository.index(&children, Some(&tag)).await;
            child = Some(amd64);
            tops.push((tag, index));
        }

        for number in 0..ALIASES {
            let (tag, top) = (format!("v{}", TAGS - ALIASES + number), tops[number].1.clone());
            let text = self.repository.text(&top).await;
            let kind = top["mediaType"].as_str().expect("a type");
            assert!([INDEX, MANIFEST].contains(&kind), "{kind}");
            self.repository.manifest(&text, kind, Some(&tag)).await;
            tops.push((tag, top));
        }
        tops.into_iter().map(|(tag, top)| (tag, raw::digest(&top).to_owned())).collect()
    }

    /// An image with two of the shared layers, a layer and a config of its own.
    async fn image(&self, name: &str, number: usize) -> Value {
        let config = json!({"name": name}).to_string();
        let config =
            self.repository.blob(&config, "application/vnd.oci.image.config.v1+json").await;
        let own = layer(&self.repository, name, OWN_SIZE).await;
        let shared = [0, 1].map(|step| &self.shared[(number + step) % SHARED]);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": [shared[0], shared[1], own]});
        self.repository.manifest(&manifest.to_string(), MANIFEST, None).await
    }
}

/// Pushes a layer that is unique to this name.
async fn layer(repository: &Repository, name: &str, size: usize) -> Value {
    let mut text: String = (0..=size / 10).map(|line| format!("{name} {line:8}\n")).collect();
    text.truncate(size);
    repository.blob(&text, "application/vnd.oci.image.layer.v1.tar").await
}
