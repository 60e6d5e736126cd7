//! Number of tags that are removed at a time, and the requests for it.

use std::time::{Duration, SystemTime};

use serde_json::json;
use testbed::traffic::{Fault, Match, Pulls, Then};

use super::{AT_ONCE, Bench, ONE_AT_ONCE};
use crate::support::raw;
use crate::support::{ACCOUNT, REGION};

#[tokio::test]
async fn tags_in_use_are_kept_and_at_most_the_allowed_number_is_removed() {
    let all = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let bench = Bench::with("bounds", &all).await;
    let prune = "{enabled: true}";
    assert!(bench.sync(&["1"], prune, &[]).await.is_success());
    assert_eq!(bench.tags(), all, "all are as good as new");

    all.iter().zip(1..).for_each(|(tag, number)| bench.pushed(tag, 720 + 9 - number));
    let pulled = SystemTime::now() - Duration::from_secs(719 * 3600);
    assert!(bench.desk.ecr.set_last_pull(ACCOUNT, REGION, "app", "2", Some(pulled)));
    let dry = bench.sync(&["1"], prune, &["--dry-run"]).await;
    let left =
        "? up to 4 more tags will be pruned in later passes (prune.maxPercent allows 2 per pass)";
    assert!(dry.text.contains(left), "{}", dry.text);
    let run = bench.sync(&["1"], prune, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(
        bench.tags(),
        ["1", "2", "5", "6", "7", "8"],
        "the oldest of those that nobody pulled, a quarter of all"
    );
    // A quarter of six is one, and at least one is always allowed.
    for left in [&["1", "2", "6", "7", "8"][..], &["1", "2", "7", "8"]] {
        let prune = if left.len() == 5 { prune } else { "{enabled: true, max_percent: 1}" };
        assert!(bench.sync(&["1"], prune, &[]).await.is_success());
        assert_eq!(bench.tags(), left);
    }
    let mark = bench.desk.ecr.mark();
    assert!(bench.sync(&["1", "7", "8"], prune, &[]).await.is_success());
    assert!(
        bench.desk.ecr.log_since(mark).iter().all(|r| !r.is_write()),
        "2 was pulled 719 hours ago"
    );
}

#[tokio::test]
async fn at_most_a_hundred_tags_are_checked_in_one_run() {
    let bench = Bench::new("hundred").await;
    let tags: Vec<_> = (0..130).map(|number| format!("t{number:03}")).collect();
    let image = bench.source.image("all").await;
    let text = bench.source.text(&image).await;
    for tag in &tags {
        bench.source.manifest(&text, raw::MANIFEST, Some(tag)).await;
    }
    let all: Vec<_> = tags.iter().map(String::as_str).collect();
    assert!(bench.sync(&all, "{}", &[]).await.is_success());
    let mark = bench.desk.source.mark();
    let run = bench.sync(&["t000"], AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(bench.tags().len(), 30);
    let log = bench.desk.source.log_since(mark);
    assert_eq!(
        log.iter().filter(|request| request.operation == "HeadManifest").count(),
        101,
        "and the wanted one"
    );
    assert!(bench.desk.repository("app").tags.contains_key("t000"));
}

/// The SDK retries, and gets the response that there is no such tag.
#[tokio::test]
async fn a_lost_response_does_not_raise_the_limit() {
    let bench = Bench::with("lost", &["1", "2", "3", "4"]).await;
    // With an index in the repository, there is a reserve for images that ECR keeps.
    let child = bench.source.image("child").await;
    bench.source.index(&[&child], Some("1")).await;
    assert!(bench.sync(&["1"], "{}", &[]).await.is_success());
    bench
        .desk
        .ecr
        .faults()
        .add(Fault::new(Match::operation("BatchDeleteImage"), Then::LoseAnswer).times(1));
    let mark = bench.desk.ecr.mark();
    let run = bench.sync(&["1"], ONE_AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("\nTags Pruned: 1\n"), "{}", run.text);
    assert_eq!(bench.tags().len(), 3);
    let log = bench.desk.ecr.log_since(mark);
    assert_eq!(log.iter().filter(|request| request.operation == "BatchDeleteImage").count(), 2);
}

#[tokio::test]
async fn a_source_that_counts_pulls_is_asked_for_few_manifests() {
    let bench = Bench::new("pulls").await;
    let child = bench.source.image("amd64").await;
    let mut tags = Vec::new();
    for number in 0..13 {
        let mut child = child.clone();
        child["platform"] =
            json!({"os": "linux", "architecture": "amd64", "variant": format!("v{number}")});
        let mut other = child.clone();
        other["platform"]["os"] = json!("windows");
        tags.push(format!("t{number:02}"));
        bench.source.index(&[&child, &other], Some(&tags[number])).await;
    }
    let image = |tags: &[String]| format!("tags: {tags:?}, platforms: [linux/amd64]");
    assert!(bench.sync_image(&image(&tags), "{}", &[]).await.is_success());
    for operation in ["GetManifest", "HeadManifest"] {
        let pulls = Then::Pulls(Pulls::new(1000, 900));
        bench.desk.source.faults().add(Fault::new(Match::operation(operation), pulls));
    }
    let mark = bench.desk.source.mark();
    let run = bench.sync_image(&image(&tags[..1]), AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let log = bench.desk.source.log_since(mark);
    assert_eq!(
        log.iter().filter(|request| request.operation == "GetManifest").count(),
        1 + 10,
        "and the wanted one"
    );
    assert_eq!(bench.tags().len(), 3);
}
