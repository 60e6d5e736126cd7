//! Tags that nobody wants any more go, as far as they can be had again: `prune`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ecr_sync::api::v1alpha1::AdoptionPolicy;
use ecr_sync::class::Class;
use ecr_sync::ecr::{Identity, Owner};
use ecr_sync::registry::{Transport, TransportOptions};
use ecr_sync::sync::{
    Access, Accesses, Before, Claim, Claimant, Engine, Job, Limits, Mode, OwnerRules, Progress, Report,
};
use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::ecr::{self, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Pulls, Record, Then};
use tokio_util::sync::CancellationToken;

use crate::support::desk::{Desk, Run, output};
use crate::support::raw::{self, Repository};
use crate::support::{ACCOUNT, REGION, Rig, Sources, condition, session};

/// Everything at once, however new.
const AT_ONCE: &str = "{enabled: true, max_percent: 100, min_unpulled: 0s}";
/// One tag, however new.
const ONE_AT_ONCE: &str = "{enabled: true, max_percent: 1, min_unpulled: 0s}";

/// A repository of the source, and a desk to sync it from, into `app`.
struct Bench {
    desk: Desk,
    source: Repository,
    name: String,
}

impl Bench {
    async fn new(test: &str) -> Self {
        let host = Sources::shared().await.open.host();
        let name = format!("pruning/{test}");
        Self { desk: Desk::before(host).await, source: Repository::new(host, &name), name }
    }

    /// A bench whose source has these tags, all of which are in ECR.
    async fn with(test: &str, tags: &[&str]) -> Self {
        let bench = Self::new(test).await;
        for tag in tags {
            bench.source.image_as(tag, Some(tag)).await;
        }
        let run = bench.sync(tags, "{}", &[]).await;
        assert!(run.is_success(), "{}", run.text);
        bench
    }

    /// Syncs with these tags and `prune` so.
    async fn sync(&self, tags: &[&str], prune: &str, flags: &[&str]) -> Run {
        self.sync_image(&format!("tags: {tags:?}"), prune, flags).await
    }

    async fn sync_image(&self, image: &str, prune: &str, flags: &[&str]) -> Run {
        let url = format!("{}/{}", self.desk.source.host(), self.name);
        let text = format!("- {{name: app, image: {{pull_url: {url:?}, insecure: true, {image}}}, prune: {prune}}}\n");
        self.desk.sync(&text, flags).await
    }

    fn tags(&self) -> Vec<String> {
        self.desk.repository("app").tags.into_keys().collect()
    }

    /// Sets when an image in ECR was pushed, in hours before now.
    fn pushed(&self, tag: &str, hours: u64) {
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        assert!(self.desk.ecr.set_pushed(ACCOUNT, REGION, "app", tag, at));
    }
}

#[tokio::test]
async fn tags_that_nobody_wants_go_if_the_source_would_give_the_same() {
    let bench = Bench::with("again", &["1", "2", "moved", "taken"]).await;
    let digest = bench.desk.repository("app").tags["2"].clone();
    // A tag of somebody else's: the source has none of that name.
    assert!(bench.desk.ecr.fill(ACCOUNT, REGION, "app", "1", 5));
    bench.source.image_as("moved since", Some("moved")).await;

    let mark = bench.desk.ecr.mark();
    let dry = bench.sync(&["1", "taken"], AT_ONCE, &["--dry-run"]).await;
    let from = format!("{}/{}:2", bench.desk.source.host(), bench.name);
    let line = format!(
        "app\n  - prune image tag 2 {}… ({from} has it)\nRepositories: 0 to create, 1 to change, 0 in sync\n",
        &digest[..19]
    );
    assert!(dry.is_success() && dry.text.contains(&line), "{}", dry.text);
    assert!(dry.text.contains("\nTags to prune: 1\n"), "{}", dry.text);
    let dry = output(bench.desk.command(&["sync", "all.yaml", "--dry-run", "--exit-code", "--output", "json"])).await;
    assert_eq!(dry.status.code(), Some(2), "{dry:?}");
    let json: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    assert_eq!(json["plan"]["prune"], 1, "{json}");
    assert!(json["repositories"][0]["diff"][0].as_str().is_some_and(|line| line.starts_with("- prune image tag 2 ")));
    assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()), "a dry run writes nothing");

    let run = bench.sync(&["1", "taken"], AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("app: changed, 2/2 image tags"), "{}", run.text);
    assert!(run.text.contains(&format!("prune tag 2 ({digest}), which {from} still has")), "{}", run.text);
    assert!(run.text.contains("\nTags Pruned: 1\n"), "{}", run.text);
    assert_eq!(bench.tags(), ["1", "filler-0", "moved", "taken"]);
    assert!(!bench.desk.repository("app").images.contains_key(&digest), "the image goes with its last tag");
    let log = bench.desk.ecr.log_since(mark);
    let writes: Vec<_> = log.iter().filter(|request| request.is_write()).map(|r| r.operation.as_str()).collect();
    assert_eq!(writes, ["BatchDeleteImage"]);

    let mark = bench.desk.ecr.mark();
    let run = bench.sync(&["1", "taken"], AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("app: in sync"), "{}", run.text);
    assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()));
    // It was promised that it can be had again.
    assert!(bench.sync(&["1", "2"], "{}", &[]).await.is_success());
    assert_eq!(bench.desk.repository("app").tags["2"], digest);
}

#[tokio::test]
async fn nothing_goes_where_pruning_is_off() {
    let bench = Bench::with("off", &["1", "2"]).await;
    for prune in ["{}", "{enabled: false, min_unpulled: 0s}", "{min_unpulled: 0s, max_percent: 100}"] {
        let mark = bench.desk.ecr.mark();
        let run = bench.sync(&["1"], prune, &[]).await;
        assert!(run.is_success(), "{}", run.text);
        assert_eq!(bench.tags(), ["1", "2"]);
        let log = bench.desk.ecr.log_since(mark);
        assert_eq!(log.iter().filter(|request| request.operation == "DescribeImages").count(), 1, "{prune}: {log:#?}");
        assert_eq!(bench.desk.source.count(|request| request.operation == "ListTags"), 0);
    }
}

#[tokio::test]
async fn what_is_in_use_stays_and_no_more_goes_at_a_time_than_allowed() {
    let all = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let bench = Bench::with("bounds", &all).await;
    let prune = "{enabled: true}";
    assert!(bench.sync(&["1"], prune, &[]).await.is_success());
    assert_eq!(bench.tags(), all, "all are as good as new");

    all.iter().zip(1..).for_each(|(tag, number)| bench.pushed(tag, 720 + 9 - number));
    let pulled = SystemTime::now() - Duration::from_secs(719 * 3600);
    assert!(bench.desk.ecr.set_last_pull(ACCOUNT, REGION, "app", "2", Some(pulled)));
    let dry = bench.sync(&["1"], prune, &["--dry-run"]).await;
    let left = "? up to 4 more tags go later: prune.maxPercent allows 2 at a time";
    assert!(dry.text.contains(left), "{}", dry.text);
    let run = bench.sync(&["1"], prune, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(
        bench.tags(),
        ["1", "2", "5", "6", "7", "8"],
        "the oldest of those that nobody pulled, a quarter of all"
    );
    // A quarter of six is one, and one goes however little is allowed.
    for left in [&["1", "2", "6", "7", "8"][..], &["1", "2", "7", "8"]] {
        let prune = if left.len() == 5 { prune } else { "{enabled: true, max_percent: 1}" };
        assert!(bench.sync(&["1"], prune, &[]).await.is_success());
        assert_eq!(bench.tags(), left);
    }
    let mark = bench.desk.ecr.mark();
    assert!(bench.sync(&["1", "7", "8"], prune, &[]).await.is_success());
    assert!(bench.desk.ecr.log_since(mark).iter().all(|r| !r.is_write()), "2 was pulled 719 hours ago");
}

#[tokio::test]
async fn at_most_a_hundred_are_looked_at_in_one_run() {
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
    assert_eq!(log.iter().filter(|request| request.operation == "HeadManifest").count(), 101, "and the wanted one");
    assert!(bench.desk.repository("app").tags.contains_key("t000"));
}

/// What a source answers when it is asked for its tags.
fn listings() -> Vec<(&'static str, Vec<Fault>)> {
    let list = |then| Fault::new(Match::operation("ListTags"), then);
    let page = |with_next: bool, body: &str| {
        let next = with_next.then(|| ("Link".to_owned(), "<?last=1&n=1000>; rel=\"next\"".to_owned()));
        Then::Status { code: 200, headers: next.into_iter().collect(), body: body.to_owned() }
    };
    vec![
        ("failed", vec![list(Then::status(500))]),
        ("refused", vec![list(Then::status(403))]),
        ("not there", vec![list(Then::status(404))]),
        ("cut off", vec![list(Then::Truncate(20))]),
        ("empty", vec![list(page(false, r#"{"name":"x","tags":[]}"#))]),
        ("null", vec![list(page(false, r#"{"name":"x","tags":null}"#))]),
        ("no list", vec![list(page(false, "<html>busy</html>"))]),
        (
            "partial",
            vec![
                Fault::new(Match::operation("ListTags").path("last="), Then::status(500)),
                list(page(true, r#"{"name":"x","tags":["1","2","3"]}"#)),
            ],
        ),
    ]
}

#[tokio::test]
async fn nothing_goes_on_a_list_that_failed_is_empty_or_is_not_whole() {
    let bench = Bench::with("listing", &["1", "2", "3"]).await;
    for (name, faults) in listings() {
        bench.desk.source.faults().clear();
        for fault in faults {
            bench.desk.source.faults().add(fault);
        }
        let mark = bench.desk.ecr.mark();
        for image in ["tags: [\"1\"]", "tag_selector: {latest: 1}"] {
            let run = bench.sync_image(image, AT_ONCE, &[]).await;
            assert_eq!(run.code, Some(1), "{name}, {image}: {}", run.text);
            let told = run.text.contains("! prune: PruneBlocked: tags that are no longer wanted stay: ");
            assert!(told, "{name}, {image}: {}", run.text);
        }
        assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()), "{name}");
        assert_eq!(bench.tags(), ["1", "2", "3"], "{name}");
    }
    bench.desk.source.faults().clear();
    assert!(bench.sync(&["1"], AT_ONCE, &[]).await.is_success());
    assert_eq!(bench.tags(), ["1"]);
}

#[tokio::test]
async fn what_the_source_does_not_tell_of_stays_and_all_while_something_wanted_is_missing() {
    let bench = Bench::with("missing", &["1", "2", "3", "4"]).await;
    let head = Match::operation("HeadManifest").path("manifests/2");
    bench.desk.source.faults().add(Fault::new(head, Then::status(500)));
    let run = bench.sync(&["1", "3"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("! prune: PruneBlocked: tags that are no longer wanted stay: RegistryUnavailable: "));
    assert_eq!(bench.tags(), ["1", "2", "3"], "4 could be asked for");
    bench.desk.source.faults().clear();
    assert!(bench.sync(&["1", "2"], AT_ONCE, &[]).await.is_success());

    let run = bench.sync(&["1", "9"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    let why = "stay: SourceNotFound: image tag 9 is wanted and could not be had: cannot read ";
    assert!(run.text.contains(why), "{}", run.text);
    // Found only when it is copied.
    bench.source.image_as("9", Some("9")).await;
    bench.desk.ecr.faults().add(Fault::new(Match::operation("PutManifest"), Then::aws_error(400, "NO", "no")));
    let run = bench.sync(&["1", "9"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.text.contains(": image tag 9 is wanted and could not be had: "), "{}", run.text);
    assert_eq!(bench.tags(), ["1", "2"]);
    bench.desk.ecr.faults().clear();
    assert!(bench.sync(&["1", "9"], AT_ONCE, &[]).await.is_success());
    assert_eq!(bench.tags(), ["1", "9"]);
}

#[tokio::test]
async fn an_image_with_signatures_goes_only_if_the_source_has_them_all() {
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

    // Without its signatures an image would not come back as it was.
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
async fn what_a_kept_index_names_stays_and_an_index_goes_before_what_it_names() {
    let bench = Bench::new("indexes").await;
    let child = bench.source.image_as("amd64", Some("1-amd64")).await;
    bench.source.index(&[&child], Some("1")).await;
    bench.source.image_as("other", Some("other")).await;
    let all = ["1", "1-amd64", "other"];
    assert!(bench.sync(&all, "{}", &[]).await.is_success());

    let dry = bench.sync(&["1", "other"], AT_ONCE, &["--dry-run"]).await;
    assert!(dry.is_success() && !dry.text.contains("prune"), "{}", dry.text);
    // Where the source is not asked what is in the index, ECR keeps it.
    let run = bench.sync_image("tags: [\"1\", other], check_policy: IfNotPresent", AT_ONCE, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let told = "tag 1-amd64 is not pruned: ECR keeps it for an index that names its image";
    assert!(run.text.contains(told), "{}", run.text);
    assert_eq!(bench.tags(), all);
    // And it takes no other's place.
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
async fn a_tag_that_is_moved_pulled_or_archived_meanwhile_is_left_alone() {
    type Details = fn(&Bench, &str) -> Value;
    // What ECR says when it is asked once more, after the copies.
    let table: [(&str, Details); 3] = [
        ("moved", |_, other| json!({"imageDigest": other, "imageTags": ["2"], "imagePushedAt": 1})),
        ("pulled", |bench, _| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
            let digest = bench.desk.repository("app").tags["2"].clone();
            json!({"imageDigest": digest, "imageTags": ["2"], "imagePushedAt": 1, "lastRecordedPullTime": now})
        }),
        ("archived", |bench, _| {
            let digest = bench.desk.repository("app").tags["2"].clone();
            json!({"imageDigest": digest, "imageTags": ["2"], "imagePushedAt": 1, "imageStatus": "ARCHIVED"})
        }),
    ];
    for (name, details) in table {
        let bench = Bench::with(name, &["1", "2"]).await;
        ["1", "2"].iter().for_each(|tag| bench.pushed(tag, 48));
        let other = bench.desk.repository("app").tags["1"].clone();
        let body = json!({"imageDetails": [details(&bench, &other)]}).to_string();
        // The wanted tags, all images, and then this.
        let third =
            Fault::new(Match::operation("DescribeImages"), Then::Status { code: 200, headers: Vec::new(), body });
        bench.desk.ecr.faults().add(third.after(2));
        let mark = bench.desk.ecr.mark();
        let run = bench.sync(&["1"], "{enabled: true, max_percent: 100, min_unpulled: 24h}", &[]).await;
        assert!(run.is_success() && !run.text.contains("Pruned"), "{name}: {}", run.text);
        let log = bench.desk.ecr.log_since(mark);
        assert_eq!(log.iter().filter(|request| request.operation == "DescribeImages").count(), 3, "{name}");
        assert!(log.iter().all(|request| !request.is_write()), "{name}");
    }
}

/// The SDK asks again, and is told that there is no such tag.
#[tokio::test]
async fn a_lost_answer_makes_no_room_for_more() {
    let bench = Bench::with("lost", &["1", "2", "3", "4"]).await;
    // With an index in the repository there is a reserve for what ECR keeps.
    let child = bench.source.image("child").await;
    bench.source.index(&[&child], Some("1")).await;
    assert!(bench.sync(&["1"], "{}", &[]).await.is_success());
    bench.desk.ecr.faults().add(Fault::new(Match::operation("BatchDeleteImage"), Then::LoseAnswer).times(1));
    let mark = bench.desk.ecr.mark();
    let run = bench.sync(&["1"], ONE_AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("\nTags Pruned: 1\n"), "{}", run.text);
    assert_eq!(bench.tags().len(), 3);
    let log = bench.desk.ecr.log_since(mark);
    assert_eq!(log.iter().filter(|request| request.operation == "BatchDeleteImage").count(), 2);
}

#[tokio::test]
async fn the_other_tags_of_an_image_stay() {
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
async fn a_selector_that_matches_nothing_takes_nothing() {
    let bench = Bench::with("slip", &["1.0.0", "2.0.0"]).await;
    let run = bench.sync_image("tag_selector: {latest: 5, semver: '>=20'}", AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("stay: the selector finds none of the 2 image tags of "), "{}", run.text);
    assert!(run.text.contains("app: failed"), "{}", run.text);
    // Nor where a tag stands beside it.
    let run = bench.sync_image("tags: [1.0.0], tag_selector: {latest: 5, semver: '>=20'}", AT_ONCE, &[]).await;
    assert!(run.code == Some(1) && run.text.contains("stay: the selector finds none of"), "{}", run.text);
    assert_eq!(bench.tags().len(), 2);
}

#[tokio::test]
async fn only_the_wanted_platforms_and_the_tag_that_all_are_made_of_count() {
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

    // Every tag is made of `1`; that of the name `2` in the source is another image.
    let retag = |tags: &str| {
        let url = format!("{}/{}:1", bench.desk.source.host(), bench.name);
        format!(
            "- {{name: all, image: {{pull_url: {url:?}, insecure: true, tag_strategy: Retag, tags: [{tags}]}}, prune: {AT_ONCE}}}\n"
        )
    };
    assert!(bench.desk.sync(&retag("'1', '2', mine"), &[]).await.is_success());
    let run = bench.desk.sync(&retag("'1'"), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let left: Vec<_> = bench.desk.repository("all").tags.into_keys().collect();
    assert_eq!(left, ["1", "mine"], "the source lists no tag of that name");
}

#[tokio::test]
async fn a_source_that_counts_pulls_is_asked_for_few_manifests() {
    let bench = Bench::new("pulls").await;
    let child = bench.source.image("amd64").await;
    let mut tags = Vec::new();
    for number in 0..13 {
        let mut child = child.clone();
        child["platform"] = json!({"os": "linux", "architecture": "amd64", "variant": format!("v{number}")});
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
    assert_eq!(log.iter().filter(|request| request.operation == "GetManifest").count(), 1 + 10, "and the wanted one");
    assert_eq!(bench.tags().len(), 3);
}

#[tokio::test]
async fn chart_versions_go_if_their_archive_is_still_the_same() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let charts = ChartRepository::start(desk.folder.path().join("charts"), None).await.expect("a chart repository");
    for version in ["1.0.0", "1.1.0", "1.2.0+build", "2.0.0"] {
        charts.package("stable", "app", version).await.expect("helm packages");
    }
    charts.index("stable").await.expect("helm indexes");
    let sync = async |tags: &str, prune: &str| {
        let url = format!("http://{}/stable/app", charts.host());
        desk.sync(&format!("- {{name: app, chart: {{pull_url: {url:?}, tags: [{tags}]}}, prune: {prune}}}\n"), &[])
            .await
    };
    let run = sync("1.0.0, 1.1.0, 1.2.0+build, 2.0.0", "{}").await;
    assert!(run.is_success(), "{}", run.text);
    charts.package("stable", "app", "1.1.0").await.expect("helm packages it anew");
    charts.index("stable").await.expect("helm indexes");
    let run = sync("2.0.0", AT_ONCE).await;
    assert!(run.is_success(), "{}", run.text);
    assert!(run.text.contains("app 1.2.0+build of http://"), "{}", run.text);
    let left: Vec<_> = desk.repository("app").tags.into_keys().collect();
    assert_eq!(left, ["1.1.0", "2.0.0"], "1.1.0 was replaced in the source");
}

#[tokio::test]
async fn a_repository_that_an_operator_owns_is_not_pruned() {
    let bench = Bench::with("owned", &["1", "2"]).await;
    let owner = [("ecr-sync.io/owner".to_owned(), "cluster/ns/app".to_owned())];
    assert!(bench.desk.ecr.set_resource_tags(ACCOUNT, REGION, "app", owner.into()));
    let run = bench.sync(&["1"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.text.contains("RepositoryNotOwned"), "{}", run.text);
    let run = bench.sync(&["1"], AT_ONCE, &["--take-over"]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(
        run.text.contains("stay: an operator keeps the repository for cluster/ns/app: prune there"),
        "{}",
        run.text
    );
    assert_eq!(bench.tags(), ["1", "2"]);
}

fn engine(ecr: &StandIn) -> Engine {
    let transport = Transport::new(&TransportOptions::default()).expect("a transport");
    Engine::new(session(ecr, transport.clone()), transport, None, Limits::default())
}

/// A pass over `spec`, by an operator that asks what indexes name and what might be pruned, or does not.
async fn pass(engine: &Engine, spec: &Value, inspects: bool) -> Report {
    let owner = Owner { cluster: "cluster".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
    let job = Job {
        name: "app".to_owned(),
        spec: serde_json::from_value(spec.clone()).expect("a spec"),
        identity: Ok(Identity::default()),
        claimant: Claimant::Resource(Claim {
            owner,
            adoption: AdoptionPolicy::IfUnowned,
            rules: OwnerRules::default(),
            kept: None,
        }),
        access: Accesses { image: Ok(Access::default()), chart: Ok(Access::default()) },
        mirrored: None,
        chart_source: None,
        derived: BTreeMap::new(),
        before: Before { inspects, ..Before::default() },
        timeout: Duration::from_secs(60),
        progress: Progress::default(),
    };
    engine.sync(&job, Mode::Apply, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_pass_that_does_not_look_for_it_costs_nothing_for_pruning() {
    let bench = Bench::with("looks", &["1", "2"]).await;
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    const OWNER: &str = "ListTagsForResource";
    let owned = pass(&engine(&bench.desk.ecr), &spec, false).await;
    assert!(owned.is_success() && owned.pruning.is_none(), "{owned:?}");
    let (source, target) = (bench.desk.source.mark(), bench.desk.ecr.mark());
    let report = pass(&engine(&bench.desk.ecr), &spec, false).await;
    assert!(report.is_success() && report.pruning.is_none() && report.changes.is_empty(), "{report:?}");
    let asked = |log: Vec<Record>| -> Vec<String> {
        // Asked once by each engine, of which there is one for each pass here.
        let is_first =
            |record: &Record| matches!(&*record.operation, "DescribePullThroughCacheRules" | "GetCallerIdentity");
        let mut asked: Vec<_> = log.into_iter().filter(|r| !is_first(r)).map(|record| record.operation).collect();
        asked.sort();
        asked
    };
    assert_eq!(asked(bench.desk.source.log_since(source)), ["HeadManifest"]);
    assert_eq!(asked(bench.desk.ecr.log_since(target)), ["DescribeImages", "DescribeRepositories", OWNER]);

    let (source, target) = (bench.desk.source.mark(), bench.desk.ecr.mark());
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(report.is_success() && report.pruned() == 1, "{report:?}");
    assert_eq!(asked(bench.desk.source.log_since(source)), ["HeadManifest", "HeadManifest", "ListTags"]);
    let looks = ["DescribeImages"; 3];
    let with = [&["BatchDeleteImage"][..], &looks, &["DescribeRepositories", OWNER, OWNER]].concat();
    assert_eq!(asked(bench.desk.ecr.log_since(target)), with);
    assert_eq!(bench.tags(), ["1"]);
}

#[tokio::test]
async fn what_ecr_keeps_for_an_index_is_not_tried_at_every_look() {
    let bench = Bench::new("named").await;
    let child = bench.source.image_as("amd64", Some("1-amd64")).await;
    bench.source.index(&[&child], Some("1")).await;
    assert!(bench.sync(&["1", "1-amd64"], "{}", &[]).await.is_success());
    let engine = engine(&bench.desk.ecr);
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true, "checkPolicy": "IfNotPresent"},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    let report = pass(&engine, &spec, true).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("ECR keeps it")), "{report:?}");
    let mark = bench.desk.ecr.mark();
    let report = pass(&engine, &spec, true).await;
    assert!(report.is_success() && report.warnings.is_empty(), "{report:?}");
    assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()));
}

#[tokio::test]
async fn an_archive_that_was_read_once_is_read_again_before_its_version_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
    let charts = ChartRepository::start(folder.path(), None).await.expect("a chart repository");
    let mut archives = Vec::new();
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        archives.push(charts.package("stable", "app", version).await.expect("helm packages"));
    }
    charts.index("stable").await.expect("helm indexes");
    let proxy = Proxy::start(charts.host()).await.expect("a proxy");
    let url = format!("http://{}/stable/app", proxy.host());
    let spec = |versions: &[&str]| {
        json!({"chart": {"pullUrl": url, "tags": versions},
               "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}})
    };
    let downloads = |since| proxy.log_since(since).iter().filter(|r| r.path.ends_with(".tgz")).count();
    assert!(pass(&engine(&ecr), &spec(&["1.0.0", "1.1.0", "2.0.0"]), false).await.is_success());
    // An engine that has not read the index yet.
    let engine = engine(&ecr);
    charts.package("stable", "app", "1.0.0").await.expect("helm packages it anew");
    charts.index("stable").await.expect("helm indexes");

    // 1.0.0 is another one by now, which is known from the first look on; 1.1.0 would go, but must not yet.
    ecr.deny("ecr:BatchDeleteImage", "app");
    let mark = proxy.mark();
    let report = pass(&engine, &spec(&["2.0.0"]), true).await;
    assert_eq!(report.pruning_blocked().map(|failure| failure.class), Some(Class::PruneBlocked), "{report:?}");
    ecr.allow_all();
    std::fs::remove_file(&archives[1]).expect("it was there");
    // Without what the status remembers, the wanted version's archive is read too.
    assert_eq!(downloads(mark), 3);
    let mark = proxy.mark();
    let report = pass(&engine, &spec(&["2.0.0"]), true).await;
    assert!(report.pruned() == 0 && report.pruning_blocked().is_none(), "{report:?}");
    let asked: Vec<_> = proxy.log_since(mark).into_iter().map(|record| (record.path, record.status)).collect();
    assert_eq!(downloads(mark), 2, "not that of which it is known to be another one: {asked:?}");
    assert_eq!(ecr.repository(ACCOUNT, REGION, "app").expect("there").tags.len(), 3);
}

#[tokio::test]
async fn a_repository_that_cannot_be_marked_or_got_another_mark_is_not_pruned() {
    let bench = Bench::with("marks", &["1", "2"]).await;
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    let blocked = |report: &Report| report.pruning_blocked().map(|f| f.message.clone()).unwrap_or_default();
    bench.desk.ecr.deny("ecr:TagResource", "app");
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(blocked(&report).ends_with("stay: the repository could not be marked as ours"), "{report:?}");
    bench.desk.ecr.allow_all();
    // Somebody else is quicker, after we looked.
    let tags = json!({"tags": [{"Key": "ecr-sync.io/owner", "Value": "other/ns/app"}]}).to_string();
    let second = Then::Status { code: 200, headers: Vec::new(), body: tags };
    bench.desk.ecr.faults().add(Fault::new(Match::operation("ListTagsForResource"), second).after(1));
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(blocked(&report).ends_with("stay: the repository has another ecr-sync.io/owner by now"), "{report:?}");
    assert_eq!(bench.tags(), ["1", "2"]);
    bench.desk.ecr.faults().clear();
    assert_eq!(pass(&engine(&bench.desk.ecr), &spec, true).await.pruned(), 1);
}

#[tokio::test]
async fn the_operator_prunes_on_demand_and_says_what_blocks_it() {
    let rig = Rig::new("pruning").await;
    let operator = rig.operator().await;
    let image = |tags: &[&str]| rig.image("library/demo", tags);
    let prune = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    rig.apply("app", json!({"image": image(&["1.26", "1.27"]), "prune": prune})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"image": image(&["1.27"]), "prune": prune})).await;
    rig.wait_synced("app").await;
    assert_eq!(rig.repository("app").tags.len(), 2, "not with the change: it may be a mistake");

    rig.ecr.deny("ecr:BatchDeleteImage", "app");
    let object = rig.request("app", "denied").await;
    let (status, reason, message) = condition(&object, "ConfigurationSynced").expect("a condition");
    assert_eq!((status, reason), ("False", "PruneBlocked"), "{message}");
    assert!(
        message.starts_with("tags that are no longer wanted stay: AccessDenied: ecr:BatchDeleteImage on app: "),
        "{message}"
    );
    assert_eq!(condition(&object, "Ready").map(|c| c.0), Some("True"), "all that is wanted is there");
    assert_eq!(rig.told("PruneBlocked").await[0].0, "Warning");

    rig.ecr.allow_all();
    let object = rig.request("app", "allowed").await;
    assert_eq!(
        condition(&object, "ConfigurationSynced").map(|(status, reason, _)| (status, reason)),
        Some(("True", "Succeeded"))
    );
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.27"]);
    let changes = &object.status.as_ref().expect("a status").history[0].changes;
    assert!(changes.starts_with("prune tag 1.26 (sha256:"), "{changes}");
    let (_, page) = operator.get("/metrics").await.expect("an answer");
    assert!(page.contains("ecrsync_tags_pruned_total 1\n"), "{page}");
    assert!(page.contains("ecrsync_drift_corrected_total{field=\"imageTag\"} 0\n"), "{page}");

    // A dry run shows it at every pass, not only when it is looked for.
    rig.apply("app", json!({"image": image(&["1.26", "1.27"])})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"image": image(&["1.27"]), "prune": prune, "dryRun": true})).await;
    let object = rig.wait_ready("app", "Unknown", "DryRun").await;
    let plan = object.status.expect("a status").plan;
    assert!(plan.len() == 1 && plan[0].starts_with("prune tag 1.26 (sha256:"), "{plan:?}");
    assert_eq!(rig.repository("app").tags.len(), 2);
}
