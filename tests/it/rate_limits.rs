//! Sources that limit the pulls of a login, as Docker Hub does.

use serde_json::json;
use testbed::traffic::{Fault, Match, Pulls, Then};

use crate::support::corpus::Maker;
use crate::support::desk::Desk;
use crate::support::{Rig, Sources, eventually};

/// From now on the source counts pulls.
pub(crate) fn limit(faults: &testbed::traffic::Faults, pulls: &Pulls) {
    for operation in ["GetManifest", "HeadManifest"] {
        faults.add(Fault::new(Match::operation(operation), Then::Pulls(pulls.clone())));
    }
}

#[tokio::test]
async fn pulls_stop_at_the_reserve_and_continue_when_there_are_more() {
    let sources = Sources::shared().await;
    let tags = Maker::new(sources.open.host()).tags_that_share("limits/hub", 6, 1).await;
    let desk = Desk::before(sources.open.host()).await;
    let pulls = Pulls::new(100, 13);
    limit(desk.source.faults(), &pulls);
    let text = desk.entry("app", "limits/hub", &tags);
    let read = || desk.source.count(|record| record.operation == "GetManifest");

    let run = desk.sync(&text, &[]).await;
    assert_eq!((run.code, read(), pulls.left()), (Some(1), 3, 10), "{}", run.text);
    assert_eq!(desk.repository("app").tags.len(), 3);
    let failed: Vec<_> = run
        .text
        .lines()
        .filter(|line| line.contains(": RateLimited: cannot read ") && line.starts_with("  ! "))
        .collect();
    assert_eq!(failed.len(), 3, "{}", run.text);
    let words = ": 10 of 100 pulls per 6 h left for 203.0.113.7; the last 10 are reserved \
                 (--rate-reserve 10%)";
    assert!(failed.iter().all(|line| line.contains(words)), "{}", run.text);

    // The other tags, without a reserve, until the source refuses.
    pulls.set_left(1);
    let run = desk.sync(&text, &["--rate-reserve=0"]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(
        run.text.contains("unauthenticated pull rate limit") && run.text.contains("log in"),
        "{}",
        run.text
    );
    pulls.set_left(100);
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);

    // Tags in sync are checked with HEAD, which is not a pull, even with no remaining pulls.
    pulls.set_left(0);
    let before = read();
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success() && read() == before, "{}", run.text);
}

#[tokio::test]
async fn uploads_keep_to_ecrs_rate_and_a_lower_one_loses_none() {
    let sources = Sources::shared().await;
    let tags = Maker::new(sources.open.host()).tags_that_share("limits/blobs", 40, 1).await;
    for (flags, throttled) in [
        (["--layer-upload-rate=20", "--put-image-rate=1000"], false),
        (["--layer-upload-rate=1000", "--put-image-rate=1000"], true),
    ] {
        let desk = Desk::before(sources.open.host()).await;
        for action in ["InitiateLayerUpload", "CompleteLayerUpload"] {
            // A second's worth more than the burst of the client: on a busy machine, requests that
            // were sent apart arrive together.
            desk.ecr.limits(action, 20.0, 40);
        }
        let run = desk.sync(&desk.entry("app", "limits/blobs", &tags), &flags).await;
        assert!(run.is_success(), "{}", run.text);
        assert_eq!(desk.repository("app").tags.len(), 40);
        assert_eq!(desk.ecr.count(|record| record.status == Some(429)) > 0, throttled);
    }
}

/// The account has one quota: 200 manifests of one repository do not delay two of another one.
#[tokio::test]
async fn a_repository_of_few_tags_does_not_wait_for_one_of_many() {
    let rig = Rig::new("fairness").await;
    let upstream = rig.sources.open.host();
    let many = Maker::new(upstream).tags_that_share("limits/fairness", 120, 1).await;
    let _operator = rig.operator_with(&["--put-image-rate=20"], &[]).await;
    let written = |repository: &str| {
        rig.ecr.count(|record| record.operation == "PutManifest" && record.repository == repository)
    };
    rig.apply(
        "many",
        json!({"image": rig.image("limits/fairness",
            &many.iter().map(String::as_str).collect::<Vec<_>>())}),
    )
    .await;
    // The burst is used up, and the rest of the 120 requests wait.
    eventually("waiting", async || written("many") >= 24).await;
    let mark = rig.ecr.mark();
    rig.apply("few", json!({"image": rig.image("team/app", &["v1", "v2"])})).await;
    rig.wait_synced("few").await;
    let log = rig.ecr.log_since(mark);
    let writes: Vec<_> = log.iter().filter(|record| record.operation == "PutManifest").collect();
    let last = writes.iter().rposition(|record| record.repository == "few").expect("written");
    let ready =
        log.iter().rposition(|record| record.operation == "PutBlob" && record.repository == "few");
    let before = log[..ready.expect("blobs were sent")]
        .iter()
        .filter(|r| r.operation == "PutManifest")
        .count();
    // After its last blob: manifests in the queue, and manifests in transfer.
    let between = last.saturating_sub(before);
    assert!(between <= 24, "{between} manifests of the other repository were written first");
    rig.wait_synced("many").await;
    assert_eq!(rig.repository("many").tags.len(), 120);
}

#[tokio::test]
async fn put_image_keeps_to_ecrs_rate() {
    let rig = Rig::new("throttled").await;
    let operator = rig.operator().await;
    rig.ecr.limits_like_ecr();
    let tags: Vec<_> = (0..25).map(|n| format!("t{n}")).collect();
    let mut image = rig.image("library/demo", &[]);
    image["tags"] = json!(tags);
    image["pullUrl"] = json!(format!("{}/library/demo:1.27", rig.source.host()));
    image["tagStrategy"] = json!("Retag");
    rig.apply("app", json!({"image": image})).await;
    rig.wait_synced("app").await;
    assert_eq!(rig.repository("app").tags.len(), 25);
    assert_eq!(
        rig.ecr.count(|request| request.status == Some(429)),
        0,
        "never faster than allowed"
    );
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    assert!(page.contains("ecrsync_syncs_total{result=\"Succeeded\"} 1"), "{page}");
}
