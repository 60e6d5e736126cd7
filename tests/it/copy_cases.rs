//! Images that no build tool makes, but that are valid. They are pushed byte for byte, because no
//! tool can push them.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::traffic::{Fault, Mark, Match, Pulls, Record, Then};

use crate::support::desk::Desk;
use crate::support::raw::{INDEX, MANIFEST, Repository, digest};
use crate::support::{ACCOUNT, REGION, Sources};

/// Three levels; `shared` is a child of the top, of the middle and of the bottom, and of a second
/// tag.
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
    // Slow, so that both tags write `shared` at the same time.
    let slow = Then::Delay(Duration::from_millis(200));
    desk.ecr.faults().add(Fault::new(Match::operation("PutManifest"), slow));
    let run = desk.sync(&desk.entry("app", "cases/nested", &["top", "second"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert_eq!(
        (app.tags["top"].as_str(), app.tags["second"].as_str()),
        (digest(&top), digest(&second))
    );
    assert_eq!((app.images.len(), app.blobs.len()), (6, 4));
    assert_eq!(desk.source.count(|record| record.operation == "GetManifest"), 6, "each once");
    assert_eq!(desk.source.count(|record| record.operation == "GetBlob"), 4);
    assert_eq!(desk.ecr.count(|record| record.operation == "PutManifest"), 6);
}

/// Windows images refer to layers that only Microsoft may distribute. The other layer has an
/// unknown type.
#[tokio::test]
async fn foreign_layers_are_not_copied() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/foreign");
    let config =
        repository.blob("{\"os\":\"windows\"}", "application/vnd.oci.image.config.v1+json").await;
    let own = repository.blob("own", "application/vnd.example.unknown.v7+what").await;
    let content = repository.blob("foreign", "application/octet-stream").await;
    let mut foreign = content;
    foreign["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign["urls"] = json!(["http://127.0.0.1:1/never-asked"]);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": [foreign, own]});
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
    format!(
        "- {{name: app, image: {{pull_url: \"{host}/{repository}\", tags: [{tags}], insecure: \
         true, {more}}}}}\n"
    )
}

fn writes(desk: &Desk, since: Mark) -> Vec<String> {
    let written = desk.ecr.log_since(since).into_iter().filter(Record::is_write);
    written.map(|record| record.operation).collect()
}

/// One of three platforms is wanted, with its attestation, and with a child without a platform.
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
    assert!(
        run.text.contains(told)
            && run.text.contains("is not available for linux/amd64, only for linux/arm64"),
        "{}",
        run.text
    );
    let app = desk.repository("app");
    assert!(!app.tags.contains_key("other"));
    assert_ne!(app.tags["1"], digest(&whole));
    let made: Value =
        serde_json::from_slice(&app.images[&app.tags["1"]].manifest).expect("an index");
    let children: Vec<_> =
        made["manifests"].as_array().expect("children").iter().map(digest).collect();
    assert_eq!(children, [digest(&amd), digest(&of_amd), digest(&plain)]);
    assert!(children.iter().all(|child| app.images.contains_key(*child)) && app.images.len() == 4);

    let mark = desk.ecr.mark();
    desk.sync(&text, &[]).await;
    assert_eq!(writes(&desk, mark), Vec::<String>::new(), "the same index is made again");
    desk.sync(&desk.entry("app", "cases/platforms", &["1"]), &[]).await;
    assert_eq!(desk.repository("app").tags["1"], digest(&whole), "without a filter, byte for byte");
}

#[tokio::test]
async fn an_existing_tag_is_not_checked_with_if_not_present() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let pin = format!("v2@{}", sources.seeded.digest("team/app", "v2"));
    let text = entry(&desk, "team/app", &["v1", &pin], "checkPolicy: IfNotPresent");
    assert!(desk.sync(&text, &[]).await.is_success());
    let (source, ecr) = (desk.source.mark(), desk.ecr.mark());
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(desk.source.log_since(source).len(), 0, "the source is not asked");
    let asked =
        desk.ecr.log_since(ecr).into_iter().filter(|record| record.operation == "DescribeImages");
    assert_eq!((asked.count(), writes(&desk, ecr)), (1, Vec::new()), "both tags in one request");

    let more = entry(&desk, "team/app", &["v1", &pin, "latest"], "checkPolicy: IfNotPresent");
    let source = desk.source.mark();
    desk.sync(&more, &[]).await;
    let asked = desk
        .source
        .log_since(source)
        .into_iter()
        .filter(|record| record.operation.ends_with("Manifest"));
    assert!(
        asked.clone().all(|record| record.path.contains("/manifests/latest")),
        "only what is missing"
    );
    assert!(asked.count() > 0);
}

/// A signature, a signature of that signature, both in a cycle; a signature with a cosign tag; then
/// one more, and a broken one.
#[tokio::test]
async fn referrers_of_any_form_are_copied_and_never_fail_the_image() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/referrers");
    let config = repository.blob("{}", "application/vnd.oci.empty.v1+json").await;
    let artifact = async |name: &str, subject: Option<&Value>, tag: Option<&str>| {
        let layer = repository.blob(name, "application/vnd.example.signature").await;
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        repository.manifest(&manifest.to_string(), MANIFEST, tag).await
    };
    let stand_in = |of: &Value| digest(of).replace(':', "-");
    let image = artifact("signed image", None, Some("1")).await;
    let signature = artifact("signature", Some(&image), None).await;
    let second = artifact("signature of the signature", Some(&signature), None).await;
    // This registry has no referrers API, so the fallback tags are used. The image also refers to
    // itself.
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
    let tags: Vec<_> =
        app.tags.iter().map(|(tag, digest)| (tag.as_str(), digest.as_str())).collect();
    assert_eq!(tags, [("1", digest(&image)), (cosign.as_str(), digest(&tagged))]);
    let all = [&image, &signature, &second, &tagged]
        .map(|manifest| app.images.contains_key(digest(manifest)));
    assert_eq!((all, app.images.len()), ([true; 4], 4));

    let mark = desk.ecr.mark();
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(writes(&desk, mark), Vec::<String>::new());

    // Newer than the image, which did not change; and one whose layer the source has lost.
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

/// A subject is only a pointer: it may be missing, and an index may name it as a child, too.
#[tokio::test]
async fn a_missing_subject_or_one_that_is_also_a_child_does_no_harm() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/subjects");
    let config = repository.blob("{}", "application/vnd.oci.empty.v1+json").await;
    let layer = repository.blob("note", "application/vnd.example.note").await;
    let lost = ecr_sync::registry::Digest::sha256_of(b"pushed by nobody").to_string();
    let subject = json!({"mediaType": MANIFEST, "digest": lost, "size": 123});
    let note = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": [layer], "subject": subject});
    let note = repository.manifest(&note.to_string(), MANIFEST, Some("note")).await;
    let image = repository.image("its own subject").await;
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image], "subject": image});
    let index = repository.manifest(&index.to_string(), INDEX, Some("index")).await;

    let desk = Desk::before(sources.open.host()).await;
    let run =
        desk.sync(&entry(&desk, "cases/subjects", &["note", "index"], "referrers: All"), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let app = desk.repository("app");
    assert_eq!(
        (app.tags["note"].as_str(), app.tags["index"].as_str()),
        (digest(&note), digest(&index))
    );
    assert_eq!(app.images.len(), 3);
    assert_eq!(desk.source.count(|record| record.path.contains(&lost)), 0, "nobody wants it");
}

/// One tag has a manifest from 2015, another an image without layers, which ECR does not accept.
/// The third tag is copied anyway.
#[tokio::test]
async fn an_image_that_ecr_does_not_accept_fails_alone_and_permanently() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/refused");
    let config = repository.blob("{}", "application/vnd.oci.empty.v1+json").await;
    let good = repository.image("good").await;
    repository.index(&[&good], Some("good")).await;
    let bare = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.note",
                      "config": config, "layers": []});
    repository.manifest(&bare.to_string(), MANIFEST, Some("bare")).await;
    repository.manifest(&bare.to_string(), MANIFEST, Some("old")).await;

    let desk = Desk::before(sources.open.host()).await;
    let schema1 = json!({"schemaVersion": 1, "name": "a", "tag": "old", "fsLayers": [],
        "history": [], "signatures": []});
    let kind = (
        "content-type".to_owned(),
        "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned(),
    );
    let then = Then::Status { code: 200, headers: vec![kind], body: schema1.to_string() };
    desk.source
        .faults()
        .add(Fault::new(Match::operation("GetManifest").path("/manifests/old"), then));
    let run = desk.sync(&desk.entry("app", "cases/refused", &["bare", "good", "old"]), &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    let told = |tag: &str, words: &str| {
        let start = format!("  ! image tag {tag}: SourceInvalid: ");
        run.text.lines().any(|line| line.starts_with(&start) && line.contains(words))
    };
    assert!(
        told("old", "Docker manifest schema 1 is not supported; push the image again"),
        "{}",
        run.text
    );
    assert!(
        told(
            "bare",
            "no entries): ECR does not accept this kind of image; remove the tag from the spec"
        ),
        "{}",
        run.text
    );
    assert_eq!(desk.repository("app").tags.keys().collect::<Vec<_>>(), ["good"]);
    let tried =
        |record: &Record| record.operation == "PutManifest" && record.path.ends_with("/bare");
    assert_eq!(desk.ecr.count(tried), 1, "refused for good");
}

#[tokio::test]
async fn layers_of_any_kind_are_copied_unchanged() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/kinds");
    let config =
        repository.blob("{\"os\":\"linux\"}", "application/vnd.oci.image.config.v1+json").await;
    let mut layers = Vec::new();
    for kind in ["tar", "tar+zstd", "tar+gzip+encrypted", "tar+zstd+encrypted"] {
        layers.push(
            repository.blob(kind, &format!("application/vnd.oci.image.layer.v1.{kind}")).await,
        );
    }
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let image = repository.manifest(&manifest.to_string(), MANIFEST, Some("1")).await;

    let desk = Desk::before(sources.open.host()).await;
    let run = desk.sync(&desk.entry("app", "cases/kinds", &["1"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(desk.repository("app").tags["1"], digest(&image));
    for (layer, content) in
        layers.iter().zip(["tar", "tar+zstd", "tar+gzip+encrypted", "tar+zstd+encrypted"])
    {
        let stored = desk.ecr.blob(ACCOUNT, REGION, "app", digest(layer)).expect("the layer");
        assert_eq!(stored, content, "not a byte of it is looked into");
    }
}

/// An index that ECR has with the right digest, but somebody removed two of its images, one of them
/// in an inner index.
#[tokio::test]
async fn an_index_that_lost_an_image_is_completed() {
    let sources = Sources::shared().await;
    let repository = Repository::new(sources.open.host(), "cases/hollow");
    let (first, second) = (repository.image("first").await, repository.image("second").await);
    let inner = repository.index(&[&second], None).await;
    let top = repository.index(&[&first, &inner], Some("1")).await;
    let single = repository.image("single").await;
    repository.index(&[&single], Some("2")).await;

    let desk = Desk::before(sources.open.host()).await;
    let text = desk.entry("app", "cases/hollow", &["1", "2"]);
    assert!(desk.sync(&text, &[]).await.is_success());
    let whole = desk.repository("app");
    let mark = desk.ecr.mark();
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(writes(&desk, mark), Vec::<String>::new());

    for lost in [&first, &second] {
        assert!(desk.ecr.remove_image(ACCOUNT, REGION, "app", digest(lost)));
        let layer = ecr_sync::registry::Digest::sha256_of(if lost == &first {
            b"first"
        } else {
            b"second"
        });
        desk.ecr.remove_blob(ACCOUNT, REGION, "app", layer.as_str());
    }
    desk.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]);
    let run = desk.sync(&text, &["--dry-run"]).await;
    assert!(
        run.text.contains("image tag 1 ") && run.text.contains("images missing in ECR"),
        "{}",
        run.text
    );
    let mark = desk.ecr.mark();
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let made = desk.repository("app");
    assert_eq!(
        (&made.tags, made.images.len(), made.blobs),
        (&whole.tags, whole.images.len(), whole.blobs)
    );
    assert_eq!(made.tags["1"], digest(&top));
    // The two images, and the top manifest, which an immutable tag refuses; nothing of the other
    // tag.
    assert_eq!(
        writes(&desk, mark).iter().filter(|operation| *operation == "PutManifest").count(),
        3
    );

    // If the source counts pulls, none is used for a check that most likely finds nothing.
    assert!(desk.ecr.remove_image(ACCOUNT, REGION, "app", digest(&first)));
    let pulls = Pulls::new(100, 50);
    for operation in ["GetManifest", "HeadManifest"] {
        desk.source
            .faults()
            .add(Fault::new(Match::operation(operation), Then::Pulls(pulls.clone())));
    }
    assert!(desk.sync(&text, &[]).await.is_success());
    assert_eq!(pulls.left(), 50);
}
