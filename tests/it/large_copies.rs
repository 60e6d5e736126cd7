//! Images with unusually much content, and repositories with unusually many tags.

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use testbed::scratch;
use testbed::traffic::Plane;
use testbed::upstream::{Auth, Upstream};

use crate::support::desk::Desk;
use crate::support::raw::{MANIFEST, Repository, digest};

/// Concurrent requests while the source is filled.
const CONCURRENT: usize = 16;

/// A new, empty source.
async fn upstream(name: &str) -> Upstream {
    let upstream = Upstream::start(scratch::folder(name).expect("a folder"), Auth::None).await;
    upstream.expect("a registry starts")
}

/// A unique image of these layers, by digest or with a tag.
async fn variant(
    repository: &Repository,
    name: &str,
    config: &Value,
    layers: &[Value],
    tag: Option<&str>,
) -> Value {
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": layers,
                          "annotations": {"name": name}});
    repository.manifest(&manifest.to_string(), MANIFEST, tag).await
}

async fn config(repository: &Repository) -> Value {
    repository.blob("{\"os\":\"linux\"}", "application/vnd.oci.image.config.v1+json").await
}

async fn layers(repository: &Repository, count: usize) -> Vec<Value> {
    let layer = |n: usize| async move {
        repository.blob(&format!("layer {n}"), "application/vnd.oci.image.layer.v1.tar").await
    };
    stream::iter(0..count).map(layer).buffered(CONCURRENT).collect().await
}

#[tokio::test]
async fn an_index_of_a_thousand_images_costs_two_requests_for_each() {
    let upstream = upstream("large-index").await;
    let repository = Repository::new(upstream.host(), "large/index");
    let (config, layers) = (config(&repository).await, layers(&repository, 1).await);
    let image = async |n: usize| variant(&repository, &n.to_string(), &config, &layers, None).await;
    let children: Vec<_> = stream::iter(0..1_000).map(image).buffered(CONCURRENT).collect().await;
    let top = repository.index(&children.iter().collect::<Vec<_>>(), Some("1")).await;

    let desk = Desk::before(upstream.host()).await;
    let run =
        desk.sync(&desk.entry("app", "large/index", &["1"]), &["--put-image-rate=1000"]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert_eq!(
        (app.tags["1"].as_str(), app.images.len(), app.blobs.len()),
        (digest(&top), 1_001, 2)
    );
    let source = |operation: &str| desk.source.count(|record| record.operation == operation);
    assert_eq!((source("GetManifest"), source("GetBlob")), (1_001, 2));
    assert_eq!(desk.ecr.count(|record| record.operation == "PutManifest"), 1_001);
}

/// The size of an image's manifests is limited, and a larger image is refused before it is read.
#[tokio::test]
async fn an_index_of_more_than_32_mebibytes_of_manifests_is_refused_by_its_size() {
    let upstream = upstream("large-manifests").await;
    let repository = Repository::new(upstream.host(), "large/manifests");
    let (config, layers) = (config(&repository).await, layers(&repository, 1).await);
    let mut children = Vec::new();
    for n in 0..9 {
        let mut child = variant(&repository, &n.to_string(), &config, &layers, None).await;
        child["size"] = json!(4 << 20);
        children.push(child);
    }
    repository.index(&children.iter().collect::<Vec<_>>(), Some("1")).await;
    variant(&repository, "small", &config, &layers, Some("2")).await;

    let desk = Desk::before(upstream.host()).await;
    let run = desk.sync(&desk.entry("app", "large/manifests", &["1", "2"]), &[]).await;
    let told = "  ! image tag 1: SourceInvalid: ";
    assert!(run.code == Some(1) && run.text.contains(told), "{}", run.text);
    assert!(run.text.contains("has more than 32 MiB of manifests below it"), "{}", run.text);
    assert_eq!(desk.repository("app").tags.keys().collect::<Vec<_>>(), ["2"]);
}

/// 500 tags of 30 layers at 100 manifests per second, ten times ECR's rate: there is no request per
/// tag and layer, and the rate is respected from the first to the last.
#[tokio::test]
async fn five_hundred_tags_of_thirty_layers_cost_by_tags_and_keep_to_the_rate() {
    let upstream = upstream("large-tags").await;
    let repository = Repository::new(upstream.host(), "large/tags");
    let (config, layers) = (config(&repository).await, layers(&repository, 30).await);
    let tags: Vec<_> = (0..500).map(|n| format!("t{n}")).collect();
    let image = async |tag: &String| variant(&repository, tag, &config, &layers, Some(tag)).await;
    stream::iter(&tags).map(image).buffered(CONCURRENT).collect::<Vec<_>>().await;

    let desk = Desk::before(upstream.host()).await;
    // Half a second's worth more than the burst of the client: on a busy machine, requests that
    // were sent apart arrive together.
    desk.ecr.limits("PutImage", 100.0, 150);
    let text = desk.entry("app", "large/tags", &tags);
    let run = desk.sync(&text, &["--put-image-rate=100"]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!((desk.repository("app").tags.len(), desk.repository("app").blobs.len()), (500, 31));
    let throttled = desk.ecr.count(|record| record.status == Some(429));
    assert!(throttled <= 10, "{throttled} of 500 manifests were throttled");
    let written = desk.ecr.count(|record| record.operation == "PutManifest");
    assert_eq!(written, 500 + throttled);
    let target = desk.ecr.count(|record| record.plane == Plane::Data);
    assert_eq!((desk.source.log().len(), target - written), (500 + 31, 2 * 31), "each layer once");

    let (source, ecr) = (desk.source.mark(), desk.ecr.mark());
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(desk.source.log_since(source).len(), 500, "one HEAD for each tag");
    let asked = desk.ecr.log_since(ecr);
    assert!(asked.iter().all(|record| record.plane == Plane::Control && !record.is_write()));
    assert_eq!(asked.iter().filter(|record| record.operation == "DescribeImages").count(), 5);
}
