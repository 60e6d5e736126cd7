//! Cost of a copy, counted at the servers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::traffic::{Fault, Match, Plane, Record, Then};

use crate::support::{ACCOUNT, REGION, Rig, docker_secret, eventually};

fn by_operation(requests: &[Record], plane: Plane) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests.iter().filter(|request| request.plane == plane) {
        *counts.entry(request.operation.clone()).or_default() += 1;
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(operation, count)| ((*operation).to_owned(), *count)).collect()
}

/// Three tags: 1.26 is a single image, 1.27 and latest are one index of two platforms.
#[tokio::test]
async fn each_blob_and_manifest_moves_once() {
    let rig = Rig::new("costs").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27", "latest"])}))
        .await;
    rig.wait_synced("app").await;
    let blobs = rig.repository("app").blobs.len();
    let manifests = rig.repository("app").images.len();
    assert_eq!(manifests, 4, "an image, an index and its two children");

    let source = by_operation(&rig.source.log(), Plane::Data);
    assert_eq!(source, counts(&[("GetBlob", blobs), ("GetManifest", manifests + 1)]));
    let target = by_operation(&rig.ecr.log(), Plane::Data);
    // One PUT per manifest, and one more for the second tag of the index.
    assert_eq!(
        target,
        counts(&[("PutBlob", blobs), ("PutManifest", manifests + 1), ("StartUpload", blobs)])
    );
    let control = by_operation(&rig.ecr.log(), Plane::Control);
    // In a repository that was just created, no blob is checked.
    let once = ["CreateRepository", "DescribeImages", "GetAuthorizationToken", "GetCallerIdentity"];
    assert_eq!(control, counts(&once.map(|operation| (operation, 1))));
}

#[tokio::test]
async fn existing_blobs_are_not_sent_again() {
    let rig = Rig::new("shared-layers").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("team/app", &["v1"])})).await;
    rig.wait_synced("app").await;
    let first = rig.repository("app").blobs;
    let mark = rig.ecr.mark();
    rig.apply("app", json!({"image": rig.image("team/app", &["v1", "v2"])})).await;
    rig.wait_synced("app").await;
    // v2 is v1 with one more layer.
    let requests = by_operation(&rig.ecr.log_since(mark), Plane::Data);
    assert_eq!(
        requests,
        counts(&[("PutBlob", 2), ("PutManifest", 1), ("StartUpload", 2)]),
        "a layer and a config"
    );
    let manifest =
        rig.repository("app").images[rig.sources.seeded.digest("team/app", "v2")].manifest.clone();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("a manifest");
    let shared = manifest["layers"].as_array().expect("layers").iter();
    let shared = shared
        .filter(|layer| first.contains_key(layer["digest"].as_str().expect("a digest")))
        .count();
    assert!(shared > 0, "else nothing was spared");
}

#[tokio::test]
async fn a_layer_that_disappeared_is_sent_again() {
    let rig = Rig::new("vanished").await;
    let _operator = rig.operator().await;
    // Between the check and the manifest, ECR removes a layer that no image uses yet.
    use testbed::traffic::{Fault, Match, Then};
    let gone = Then::aws_error(
        404,
        "BLOB_UNKNOWN",
        "The layer with digest 'x' does not exist in the repository",
    );
    rig.ecr.faults().add(Fault::new(Match::operation("PutManifest"), gone).once());
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    assert_eq!(
        rig.ecr.count(|request| request.operation == "BatchCheckLayerAvailability"),
        1,
        "asked at last"
    );
}

#[tokio::test]
async fn a_large_layer_streams_through() {
    let rig = Rig::new("large").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("large/blob", &["1"])})).await;
    rig.wait_synced("app").await;
    let repository = rig.repository("app");
    let largest = repository.blobs.values().max().copied().expect("a blob");
    assert!(largest >= 24 * 1024 * 1024);
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    let resident = page
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
        .expect("a value");
    let resident: f64 = resident.parse().expect("a number");
    // No layer is held in memory: the whole process is much smaller than the layer.
    assert!(resident < 120e6, "{resident} bytes resident");
}

/// Only with the setting of the account, and only from a repository with an image that uses the
/// blob.
#[tokio::test]
async fn blobs_of_another_repository_are_mounted_where_ecr_allows_it() {
    let rig = Rig::new("mounts").await;
    rig.ecr.set_blob_mounting(ACCOUNT, REGION, true);
    let _operator = rig.operator().await;
    rig.apply("first", json!({"image": rig.image("team/app", &["v1"])})).await;
    rig.wait_synced("first").await;
    assert_eq!(
        rig.ecr.count(|request| request.operation == "GetAccountSetting"),
        0,
        "nothing to mount yet"
    );
    let (source, target) = (rig.source.mark(), rig.ecr.mark());
    rig.apply("second", json!({"image": rig.image("team/app", &["v1", "v2"])})).await;
    rig.wait_synced("second").await;
    // v2 is v1 with one layer and another config.
    let sent = by_operation(&rig.ecr.log_since(target), Plane::Data);
    let mounted = rig.repository("first").blobs.len();
    assert_eq!(sent, counts(&[("PutBlob", 2), ("PutManifest", 2), ("StartUpload", 2 + mounted)]));
    assert_eq!(
        rig.source
            .log_since(source)
            .iter()
            .filter(|request| request.operation == "GetBlob")
            .count(),
        2
    );
    assert_eq!(rig.ecr.count(|request| request.operation == "GetAccountSetting"), 1);
}

/// A manifest may name any digest. A mount would give its layer to a reader who never had it.
#[tokio::test]
async fn a_blob_is_not_mounted_for_somebody_who_reads_with_another_login() {
    let rig = Rig::new("foreign-mounts").await;
    rig.ecr.set_blob_mounting(ACCOUNT, REGION, true);
    let _operator = rig.operator().await;
    rig.apply("first", json!({"image": rig.image("team/app", &["v1"])})).await;
    rig.wait_synced("first").await;

    // The registry shows the other login the manifest, but not the layers.
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = docker_secret(&rig.source.host(), "somebody", "else");
    secrets
        .patch("login", &PatchParams::apply("test").force(), &Patch::Apply(&secret))
        .await
        .expect("a Secret");
    let refused = Fault::new(Match::operation("GetBlob"), Then::status(403));
    rig.source.faults().add(refused);
    let target = rig.ecr.mark();
    let mut image = rig.image("team/app", &["v1"]);
    image["secretRef"] = json!({"name": "login"});
    rig.apply("second", json!({"image": image})).await;
    rig.wait_ready("second", "False", "AuthenticationFailed").await;

    let log = rig.ecr.log_since(target);
    assert!(log.iter().all(|request| !request.path.contains("mount=")), "no mount is asked for");
    assert!(rig.repository("second").blobs.is_empty());
}

#[tokio::test]
async fn the_status_records_the_filtered_index_and_it_is_not_read_again() {
    let rig = Rig::new("rebuilt").await;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let put_secret = async |password: &str| {
        let secret = docker_secret(&rig.source.host(), "anybody", password);
        secrets
            .patch("login", &PatchParams::apply("test").force(), &Patch::Apply(&secret))
            .await
            .expect("a Secret");
    };
    put_secret("first").await;
    let _operator = rig.operator().await;
    let mut image = rig.image("library/demo", &["1.27"]);
    image["platforms"] = json!(["linux/amd64"]);
    image["secretRef"] = json!({"name": "login"});
    rig.apply("app", json!({"image": image})).await;
    let object = rig.wait_synced("app").await;
    let made = &object.status.as_ref().expect("a status").derived[0];
    let source = rig.sources.seeded.digest("library/demo", "1.27");
    assert_eq!(
        (made.tag.as_str(), made.source.as_str()),
        ("1.27", format!("{source}+linux/amd64").as_str())
    );
    assert_eq!(rig.repository("app").tags["1.27"], made.target);
    assert_ne!(made.target, source);
    // A quick look, and a complete one, which reads the index once to get its children.
    let mark = rig.source.mark();
    put_secret("second").await;
    let asked = || by_operation(&rig.source.log_since(mark), Plane::Data);
    eventually("looked at", async || !asked().is_empty()).await;
    rig.force("app", "again").await;
    assert_eq!(asked(), counts(&[("GetManifest", 1), ("HeadManifest", 2)]));
}

/// Only in a forced check; the quick looks in between ask neither source nor ECR for it.
#[tokio::test]
async fn an_index_that_lost_an_image_is_completed_by_a_forced_check() {
    let rig = Rig::new("hollow").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.27"]), "interval": "1m"}))
        .await;
    rig.wait_synced("app").await;
    let whole = rig.repository("app").images;
    let child = whole
        .iter()
        .find(|(_, image)| image.tags.is_empty())
        .map(|(digest, _)| digest.clone())
        .expect("a child");
    assert!(rig.ecr.remove_image(ACCOUNT, REGION, "app", &child));
    let (source, ecr) = (rig.source.mark(), rig.ecr.mark());
    rig.force("app", "whole").await;
    assert_eq!(rig.repository("app").images.len(), whole.len());
    let read = by_operation(&rig.source.log_since(source), Plane::Data);
    assert_eq!((read["HeadManifest"], read.get("GetBlob")), (1, None), "its blobs are there");
    let sent = by_operation(&rig.ecr.log_since(ecr), Plane::Data);
    assert_eq!(sent, counts(&[("PutManifest", 2)]), "the image and its index");
}
