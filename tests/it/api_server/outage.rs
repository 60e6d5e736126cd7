//! An API server that is away for longer than the term of the lease: copies go on, and tags wait.

use std::time::Duration;

use serde_json::json;
use testbed::traffic::{Fault, Match, Then};

use super::trouble::Trouble;
use crate::support::{Rig, eventually};

/// The layer of `large/blob` takes longer than the right to write lasts without a renewal (6 s),
/// and the outage lasts until then.
const RATE: u64 = 1 << 20;

/// Number of downloads of the large layer.
fn downloads(rig: &Rig) -> usize {
    rig.source.count(|request| request.operation == "GetBlob" && request.repository == "large/blob")
}

#[tokio::test]
async fn an_outage_of_the_api_server_does_not_end_copies() {
    let t = Trouble::new("outage").await;
    let slow = Match::operation("GetBlob").repository("large/blob");
    t.rig.source.faults().add(Fault::new(slow, Then::Slow(RATE)));
    let leader = t.elected().await;
    t.rig.apply("copying", json!({"image": t.rig.image("large/blob", &["1"])})).await;
    eventually("copying", async || {
        t.rig.source.under_way(|request| request.repository == "large/blob") > 0
    })
    .await;
    let follower = t.elected().await;
    let before = downloads(&t.rig);

    t.api.faults().add(Fault::new(Match::any(), Then::Reset));
    t.api.hang_up(|_| true);
    eventually("the right to write has ended", async || {
        leader.log().contains("cannot renew the lease: another process may acquire it")
    })
    .await;
    let blobs = || t.rig.repository("copying").blobs.len();
    eventually("the layer was copied", async || {
        blobs() == 2 && t.rig.source.under_way(|request| request.operation == "GetBlob") == 0
    })
    .await;
    eventually("the follower does not take over", async || {
        follower.log().matches("cannot read or acquire the lease").count() > 15
    })
    .await;
    assert!(t.rig.repository("copying").tags.is_empty(), "a tag was written without the lease");

    t.api.faults().clear();
    t.rig.wait_synced("copying").await;
    assert!(leader.log().contains("renewed the lease; writing again"), "{}", leader.log());
    assert!(!follower.log().contains("acquired the leader lease"), "{}", follower.log());
    assert_eq!(downloads(&t.rig), before, "the layer was begun again");
    tokio::time::timeout(Duration::from_secs(30), leader.ready()).await.expect("ready again");
}
