//! `prune`: unwanted tags are removed if they can be copied again.

mod blocked;
mod bounds;
mod looks;
mod spared;

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::desk::{Desk, Run, output};
use crate::support::raw::Repository;
use crate::support::{ACCOUNT, REGION, Sources};

/// Prune everything at once, whatever its age.
const AT_ONCE: &str = "{enabled: true, max_percent: 100, min_unpulled: 0s}";
/// Prune one tag, whatever its age.
const ONE_AT_ONCE: &str = "{enabled: true, max_percent: 1, min_unpulled: 0s}";

/// A repository of the source, and a desk that syncs it to `app`.
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

    /// Syncs with these tags and this `prune`.
    async fn sync(&self, tags: &[&str], prune: &str, flags: &[&str]) -> Run {
        self.sync_image(&format!("tags: {tags:?}"), prune, flags).await
    }

    async fn sync_image(&self, image: &str, prune: &str, flags: &[&str]) -> Run {
        let url = format!("{}/{}", self.desk.source.host(), self.name);
        let text = format!(
            "- {{name: app, image: {{pull_url: {url:?}, insecure: true, {image}}}, prune: \
             {prune}}}\n"
        );
        self.desk.sync(&text, flags).await
    }

    fn tags(&self) -> Vec<String> {
        self.desk.repository("app").tags.into_keys().collect()
    }

    /// Sets the push time of an image in ECR, in hours before now.
    fn pushed(&self, tag: &str, hours: u64) {
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        assert!(self.desk.ecr.set_pushed(ACCOUNT, REGION, "app", tag, at));
    }
}

#[tokio::test]
async fn unwanted_tags_are_removed_if_the_source_has_the_same_digest() {
    let bench = Bench::with("again", &["1", "2", "moved", "taken"]).await;
    let digest = bench.desk.repository("app").tags["2"].clone();
    // A tag of another client: the source has no such tag.
    assert!(bench.desk.ecr.fill(ACCOUNT, REGION, "app", "1", 5));
    bench.source.image_as("moved since", Some("moved")).await;

    let mark = bench.desk.ecr.mark();
    let dry = bench.sync(&["1", "taken"], AT_ONCE, &["--dry-run"]).await;
    let from = format!("{}/{}:2", bench.desk.source.host(), bench.name);
    let line = format!(
        "app\n  - prune image tag 2 {}… ({from} has it)\n\
         Repositories: 0 to create, 1 to change, 0 in sync\n",
        &digest[..19]
    );
    assert!(dry.is_success() && dry.text.contains(&line), "{}", dry.text);
    assert!(dry.text.contains("\nTags to prune: 1\n"), "{}", dry.text);
    let dry = output(bench.desk.command(&[
        "sync",
        "all.yaml",
        "--dry-run",
        "--exit-code",
        "--output",
        "json",
    ]))
    .await;
    assert_eq!(dry.status.code(), Some(2), "{dry:?}");
    let json: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    assert_eq!(json["plan"]["prune"], 1, "{json}");
    assert!(
        json["repositories"][0]["diff"][0]
            .as_str()
            .is_some_and(|line| line.starts_with("- prune image tag 2 "))
    );
    assert!(
        bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()),
        "a dry run writes nothing"
    );

    let run = bench.sync(&["1", "taken"], AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("app: changed, 2/2 image tags"), "{}", run.text);
    assert!(
        run.text.contains(&format!("pruned tag 2 ({digest}), which {from} still has")),
        "{}",
        run.text
    );
    assert!(run.text.contains("\nTags Pruned: 1\n"), "{}", run.text);
    assert_eq!(bench.tags(), ["1", "filler-0", "moved", "taken"]);
    assert!(
        !bench.desk.repository("app").images.contains_key(&digest),
        "the image goes with its last tag"
    );
    let log = bench.desk.ecr.log_since(mark);
    let writes: Vec<_> =
        log.iter().filter(|request| request.is_write()).map(|r| r.operation.as_str()).collect();
    assert_eq!(writes, ["BatchDeleteImage"]);

    let mark = bench.desk.ecr.mark();
    let run = bench.sync(&["1", "taken"], AT_ONCE, &[]).await;
    assert!(run.is_success() && run.text.contains("app: in sync"), "{}", run.text);
    assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()));
    // The tag can be copied again, as promised.
    assert!(bench.sync(&["1", "2"], "{}", &[]).await.is_success());
    assert_eq!(bench.desk.repository("app").tags["2"], digest);
}

#[tokio::test]
async fn nothing_is_removed_without_prune() {
    let bench = Bench::with("off", &["1", "2"]).await;
    for prune in
        ["{}", "{enabled: false, min_unpulled: 0s}", "{min_unpulled: 0s, max_percent: 100}"]
    {
        let mark = bench.desk.ecr.mark();
        let run = bench.sync(&["1"], prune, &[]).await;
        assert!(run.is_success(), "{}", run.text);
        assert_eq!(bench.tags(), ["1", "2"]);
        let log = bench.desk.ecr.log_since(mark);
        assert_eq!(
            log.iter().filter(|request| request.operation == "DescribeImages").count(),
            1,
            "{prune}: {log:#?}"
        );
        assert_eq!(bench.desk.source.count(|request| request.operation == "ListTags"), 0);
    }
}
