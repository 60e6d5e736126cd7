//! Tags that are kept in any case.

use std::time::SystemTime;

use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::traffic::{Fault, Match, Then};

use super::{AT_ONCE, Bench, ONE_AT_ONCE};
use crate::support::desk::Desk;
use crate::support::raw;
use crate::support::{ACCOUNT, REGION, Sources};

#[tokio::test]
async fn an_image_with_signatures_is_removed_only_if_the_source_has_them_all() {
    let bench = Bench::new("signatures").await;
    let (_, signed, ours) = (
        bench.source.image_as("kept", Some("kept")).await,
        bench.source.image_as("signed", Some("signed")).await,
        bench.source.image_as("ours", Some("ours")).await,
    );
    let theirs = bench.source.signature(&signed, "theirs", None).await;
    let named = |image: &Value| raw::digest(image).replace(':', "-") + ".sig";
    for (image, name) in [(&signed, "by name"), (&ours, "by name too")] {
        bench.source.image_as(name, Some(&named(image))).await;
    }
    let lacking = bench.source.signature(&ours, "only in ECR by now", None).await;
    for (image, signature) in [(&signed, &theirs), (&ours, &lacking)] {
        bench.source.index(&[signature], Some(&raw::digest(image).replace(':', "-"))).await;
    }
    let all = "tags: [kept, signed, ours], referrers: All";
    let run = bench.sync_image(all, "{}", &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let there = bench.desk.repository("app");
    assert_eq!(there.images.len(), 7, "three images, two signatures by subject, two by name");
    let gone = Match::any().path(raw::digest(&lacking));
    bench.desk.source.faults().add(Fault::new(gone, Then::status(404)));

    // Without its signatures, an image could not be restored completely.
    assert!(bench.sync_image("tags: [kept]", AT_ONCE, &[]).await.is_success());
    assert_eq!(bench.tags().len(), 5);
    let run = bench.sync_image("tags: [kept], referrers: All", AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let left = bench.tags();
    assert!(left.contains(&"ours".to_owned()), "the source lacks a signature of it: {left:?}");
    assert!(left.contains(&named(&ours)), "a signature stays with its image: {left:?}");
    assert!(!left.contains(&"signed".to_owned()), "{left:?}");
    // The next run finds the signature without its image.
    assert!(left.contains(&named(&signed)));
    assert!(bench.sync_image("tags: [kept]", AT_ONCE, &[]).await.is_success());
    assert!(!bench.tags().contains(&named(&signed)));
}

#[tokio::test]
async fn children_of_a_kept_index_are_kept_and_an_index_is_removed_before_its_children() {
    let bench = Bench::new("indexes").await;
    let child = bench.source.image_as("amd64", Some("1-amd64")).await;
    bench.source.index(&[&child], Some("1")).await;
    bench.source.image_as("other", Some("other")).await;
    let all = ["1", "1-amd64", "other"];
    assert!(bench.sync(&all, "{}", &[]).await.is_success());

    let dry = bench.sync(&["1", "other"], AT_ONCE, &["--dry-run"]).await;
    assert!(dry.is_success() && !dry.text.contains("prune"), "{}", dry.text);
    // If the index is not read from the source, ECR keeps its images.
    let run =
        bench.sync_image("tags: [\"1\", other], check_policy: IfNotPresent", AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let told = "tag 1-amd64 was not pruned: ECR keeps it because an index contains its image";
    assert!(run.text.contains(told), "{}", run.text);
    assert_eq!(bench.tags(), all);
    // And it does not use up the limit for others.
    bench.pushed("1-amd64", 10);
    let run = bench.sync_image("tags: [\"1\"], check_policy: IfNotPresent", ONE_AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains(told), "{}", run.text);
    assert_eq!(bench.tags(), ["1", "1-amd64"]);
    bench.source.image_as("other", Some("other")).await;
    assert!(bench.sync(&all, "{}", &[]).await.is_success());

    let run = bench.sync(&["other"], AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(bench.tags(), ["other"]);
    assert_eq!(bench.desk.repository("app").images.len(), 1);
}

#[tokio::test]
async fn a_tag_that_is_moved_pulled_or_archived_during_the_pass_is_kept() {
    type Details = fn(&Bench, &str) -> Value;
    // The response of ECR to the second check, after the copies.
    let table: [(&str, Details); 3] = [
        ("moved", |_, other| json!({"imageDigest": other, "imageTags": ["2"], "imagePushedAt": 1})),
        ("pulled", |bench, _| {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("after 1970")
                .as_secs();
            let digest = bench.desk.repository("app").tags["2"].clone();
            json!({"imageDigest": digest, "imageTags": ["2"], "imagePushedAt": 1,
                "lastRecordedPullTime": now})
        }),
        ("archived", |bench, _| {
            let digest = bench.desk.repository("app").tags["2"].clone();
            json!({"imageDigest": digest, "imageTags": ["2"], "imagePushedAt": 1,
                "imageStatus": "ARCHIVED"})
        }),
    ];
    for (name, details) in table {
        let bench = Bench::with(name, &["1", "2"]).await;
        ["1", "2"].iter().for_each(|tag| bench.pushed(tag, 48));
        let other = bench.desk.repository("app").tags["1"].clone();
        let body = json!({"imageDetails": [details(&bench, &other)]}).to_string();
        // First the wanted tags, then all images, then this check.
        let third = Fault::new(
            Match::operation("DescribeImages"),
            Then::Status { code: 200, headers: Vec::new(), body },
        );
        bench.desk.ecr.faults().add(third.after(2));
        let mark = bench.desk.ecr.mark();
        let run =
            bench.sync(&["1"], "{enabled: true, max_percent: 100, min_unpulled: 24h}", &[]).await;
        assert!(run.is_success() && !run.text.contains("Pruned"), "{name}: {}", run.text);
        let log = bench.desk.ecr.log_since(mark);
        assert_eq!(
            log.iter().filter(|request| request.operation == "DescribeImages").count(),
            3,
            "{name}"
        );
        assert!(log.iter().all(|request| !request.is_write()), "{name}");
    }
}

/// Between the last check and the removal there is no time in which ECR can be asked.
#[tokio::test]
async fn a_tag_that_is_moved_just_before_its_removal_is_kept() {
    let bench = Bench::with("raced", &["1", "2", "3"]).await;
    let push = Then::first(bench.desk.ecr.later_push((ACCOUNT, REGION, "app"), "2", "1"));
    let faults = bench.desk.ecr.faults();
    faults.add(Fault::new(Match::operation("BatchDeleteImage"), push).once());

    let run = bench.sync(&["1"], AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert!(
        run.text.contains("pruned tag 3 ") && !run.text.contains("pruned tag 2"),
        "{}",
        run.text
    );
    let repository = bench.desk.repository("app");
    assert_eq!(repository.tags.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(repository.tags["2"], repository.tags["1"]);
}

/// An image that keeps a tag cannot be named by its digest. So a tag of it that is moved in this
/// moment is lost, but not without a word.
#[tokio::test]
async fn a_tag_that_leaves_a_shared_image_just_before_its_removal_is_reported() {
    let bench = Bench::new("raced-shared").await;
    let image = bench.source.image_as("both", Some("1")).await;
    let text = bench.source.text(&image).await;
    bench.source.manifest(&text, raw::MANIFEST, Some("2")).await;
    bench.source.image_as("other", Some("3")).await;
    assert!(bench.sync(&["1", "2", "3"], "{}", &[]).await.is_success());
    let push = Then::first(bench.desk.ecr.later_push((ACCOUNT, REGION, "app"), "2", "3"));
    let faults = bench.desk.ecr.faults();
    faults.add(Fault::new(Match::operation("BatchDeleteImage"), push).once());

    let run = bench.sync(&["1", "3"], AT_ONCE, &[]).await;
    let repository = bench.desk.repository("app");
    let warning = format!(
        "somebody moved tag 2 to {} while it was pruned, so the new tag is removed, too: push it again",
        repository.tags["3"]
    );
    assert!(run.is_success() && run.text.contains(&warning), "{}", run.text);
    assert_eq!(repository.tags.keys().collect::<Vec<_>>(), ["1", "3"]);
}

#[tokio::test]
async fn the_other_tags_of_an_image_are_kept() {
    let bench = Bench::new("shared").await;
    let image = bench.source.image_as("all", Some("1")).await;
    let text = bench.source.text(&image).await;
    for tag in ["2", "3"] {
        bench.source.manifest(&text, raw::MANIFEST, Some(tag)).await;
    }
    assert!(bench.sync(&["1", "2", "3"], "{}", &[]).await.is_success());
    let run = bench.sync(&["2"], ONE_AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(bench.tags(), ["2", "3"]);
    let run = bench.sync(&["2"], AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(bench.tags(), ["2"]);
}

#[tokio::test]
async fn pruning_compares_filtered_indexes_and_the_source_tag_of_retag() {
    let bench = Bench::new("derived").await;
    let (amd64, arm64) = (bench.source.image("amd64").await, bench.source.image("arm64").await);
    let platform = |image: &Value, name: &str| {
        let mut image = image.clone();
        image["platform"] = json!({"os": "linux", "architecture": name});
        image
    };
    let (amd64, arm64) = (platform(&amd64, "amd64"), platform(&arm64, "arm64"));
    bench.source.index(&[&amd64, &arm64], Some("1")).await;
    bench.source.index(&[&arm64, &amd64], Some("2")).await;
    let image = |tags: &str| format!("tags: [{tags}], platforms: [linux/amd64]");
    assert!(bench.sync_image(&image("'1', '2'"), "{}", &[]).await.is_success());
    let run = bench.sync_image(&image("'1'"), AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(bench.tags(), ["1"]);

    // Every tag is a copy of `1`; the tag `2` of the source is another image.
    let retag = |tags: &str| {
        let url = format!("{}/{}:1", bench.desk.source.host(), bench.name);
        format!(
            "- {{name: all, image: {{pull_url: {url:?}, insecure: true, tag_strategy: Retag, tags: \
             [{tags}]}}, prune: {AT_ONCE}}}\n"
        )
    };
    assert!(bench.desk.sync(&retag("'1', '2', mine"), &[]).await.is_success());
    let run = bench.desk.sync(&retag("'1'"), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let left: Vec<_> = bench.desk.repository("all").tags.into_keys().collect();
    assert_eq!(left, ["1", "mine"], "the source lists no tag of that name");
}

#[tokio::test]
async fn chart_versions_are_removed_if_their_archive_is_unchanged() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let charts = ChartRepository::start(desk.folder.path().join("charts"), None)
        .await
        .expect("a chart repository");
    for version in ["1.0.0", "1.1.0", "1.2.0+build", "2.0.0"] {
        charts.package("stable", "app", version).await.expect("helm packages");
    }
    charts.index("stable").await.expect("helm indexes");
    let sync = async |tags: &str, prune: &str| {
        let url = format!("http://{}/stable/app", charts.host());
        desk.sync(
            &format!(
                "- {{name: app, chart: {{pull_url: {url:?}, tags: [{tags}]}}, prune: {prune}}}\n"
            ),
            &[],
        )
        .await
    };
    let run = sync("1.0.0, 1.1.0, 1.2.0+build, 2.0.0", "{}").await;
    assert!(run.is_success(), "{}", run.text);
    charts.package("stable", "app", "1.1.0").await.expect("helm packages it again");
    charts.index("stable").await.expect("helm indexes");
    let run = sync("2.0.0", AT_ONCE).await;
    assert!(run.is_success(), "{}", run.text);
    assert!(run.text.contains("app 1.2.0+build of http://"), "{}", run.text);
    let left: Vec<_> = desk.repository("app").tags.into_keys().collect();
    assert_eq!(left, ["1.1.0", "2.0.0"], "1.1.0 was replaced in the source");
}
