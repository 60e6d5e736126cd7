//! Sources that let a login pull only so much, as Docker Hub does.

use testbed::traffic::{Fault, Match, Pulls, Then};

use crate::support::Sources;
use crate::support::corpus::Maker;
use crate::support::desk::Desk;

/// From now on the source counts pulls.
pub(crate) fn limit(faults: &testbed::traffic::Faults, pulls: &Pulls) {
    for operation in ["GetManifest", "HeadManifest"] {
        faults.add(Fault::new(Match::operation(operation), Then::Pulls(pulls.clone())));
    }
}

#[tokio::test]
async fn pulls_stop_at_the_reserve_and_go_on_when_there_are_more() {
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
    let words =
        "allows 100 pulls in 6 h to 203.0.113.7, 10 are left, and the last 10 are kept for others (--rate-reserve 10%)";
    assert!(failed.iter().all(|line| line.contains(words)), "{}", run.text);

    // The rest, without a reserve, until the source refuses.
    pulls.set_left(1);
    let run = desk.sync(&text, &["--rate-reserve=0"]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("unauthenticated pull rate limit") && run.text.contains("log in"), "{}", run.text);
    pulls.set_left(100);
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);

    // What is up to date is checked by HEAD, which is no pull, with nothing left at all.
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
            desk.ecr.limits(action, 20.0, 20);
        }
        let run = desk.sync(&desk.entry("app", "limits/blobs", &tags), &flags).await;
        assert!(run.is_success(), "{}", run.text);
        assert_eq!(desk.repository("app").tags.len(), 40);
        assert_eq!(desk.ecr.count(|record| record.status == Some(429)) > 0, throttled);
    }
}
