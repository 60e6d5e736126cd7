//! Targets, or proxies in front of them, that do not accept a blob in one request.

use testbed::traffic::{Fault, Match, Then};

use crate::support::Sources;
use crate::support::desk::Desk;

/// Minimum size of the layer of `large/blob`.
const LARGE: usize = 24 << 20;
const PART: usize = 5 << 20;

#[tokio::test]
async fn a_target_that_refuses_a_whole_blob_gets_it_in_parts() {
    let sources = Sources::shared().await;
    for (name, lost) in [("once", false), ("answer-lost", true)] {
        let desk = Desk::before(sources.open.host()).await;
        let whole = Match::operation("PutBlob").body(1);
        desk.ecr.faults().add(Fault::new(
            whole,
            Then::aws_error(405, "UNSUPPORTED", "The operation is unsupported."),
        ));
        if lost {
            // The response to the second part is lost. ECR's session does not report its offset, so
            // the whole blob is sent again.
            let second = Match::operation("PatchUpload").body(1 << 20);
            desk.ecr.faults().add(Fault::new(second, Then::LoseAnswer).after(1).once());
        }
        let run = desk.sync(&desk.entry(name, "large/blob", &["1"]), &[]).await;
        assert!(run.is_success(), "{}", run.text);
        assert_eq!(desk.repository(name).tags["1"], sources.seeded.digest("large/blob", "1"));
        let log = desk.ecr.log();
        let parts = log.iter().filter(|record| record.operation == "PatchUpload");
        assert!(parts.clone().all(|record| record.received <= PART as u64));
        assert!(parts.count() > LARGE / PART);
        let refused =
            log.iter().filter(|record| record.operation == "PutBlob" && record.status == Some(405));
        assert!(
            refused.count() <= 4,
            "config and layer at once, and never again; each may be asked for the reason"
        );
        assert_eq!(log.iter().any(|record| record.status == Some(416)), lost);
    }
}

#[tokio::test]
async fn a_proxy_with_a_body_limit_gets_small_parts_for_large_blobs_only() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let large =
        |operation| Fault::new(Match::operation(operation).body(6 << 20), Then::status(413));
    ["PutBlob", "PatchUpload"]
        .into_iter()
        .for_each(|operation| desk.ecr.faults().add(large(operation)));
    let text = desk.entry("app", "large/blob", &["1"]) + &desk.entry("small", "team/app", &["v1"]);
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(desk.repository("app").tags["1"], sources.seeded.digest("large/blob", "1"));
    let patched =
        |name: &str| desk.ecr.count(|r| r.operation == "PatchUpload" && r.repository == name);
    assert!(patched("app") > LARGE / PART);
    assert_eq!(patched("small"), 0);
}
