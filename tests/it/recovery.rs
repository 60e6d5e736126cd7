//! Programs that are killed during a copy, and programs that copy the same content at the same
//! time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testbed::traffic::{Fault, Match, Record, Then};

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Rig, Sources, eventually, is_whole};

/// The point at which a program is killed: a request that gets no response. The copy is the index
/// `library/demo:1.27` with two images.
struct Step {
    name: &'static str,
    operation: &'static str,
    path: &'static str,
    /// Requests of this kind that get a response before.
    after: u32,
}

const STEPS: [Step; 5] = [
    Step { name: "before any blob", operation: "StartUpload", path: "", after: 0 },
    Step { name: "after two blobs", operation: "PutBlob", path: "", after: 2 },
    Step {
        name: "before the first manifest",
        operation: "PutManifest",
        path: "/manifests/sha256",
        after: 0,
    },
    Step {
        name: "between two children",
        operation: "PutManifest",
        path: "/manifests/sha256",
        after: 1,
    },
    Step { name: "before the tag", operation: "PutManifest", path: "/manifests/1.27", after: 0 },
];

impl Step {
    fn fault(&self) -> Fault {
        Fault::new(self.request(), Then::Stall).after(self.after)
    }

    fn request(&self) -> Match {
        Match::operation(self.operation).path(self.path)
    }
}

#[tokio::test]
async fn a_killed_run_leaves_no_broken_tag_and_the_next_run_succeeds() {
    let sources = Sources::shared().await;
    let mut all_blobs = None;
    for step in &STEPS {
        let desk = Desk::before(sources.open.host()).await;
        desk.ecr.faults().add(step.fault());
        let text = desk.entry("app", "library/demo", &["1.27"]);
        desk.write("all.yaml", &text);
        let mut first = desk.start(&["sync", "all.yaml"]);
        let reached = |desk: &Desk| {
            let hits = |path: &str| path.contains(step.path);
            desk.ecr.count(|record| record.operation == step.operation && hits(&record.path))
                > step.after as usize
        };
        eventually(step.name, async || reached(&desk)).await;
        first.kill();
        let app = desk.repository("app");
        assert!(app.tags.is_empty() && is_whole(&app), "{}: {app:?}", step.name);

        desk.ecr.faults().clear();
        let (source, ecr) = (desk.source.mark(), desk.ecr.mark());
        let run = desk.sync(&text, &[]).await;
        assert!(run.is_success(), "{}: {}", step.name, run.text);
        let now = desk.repository("app");
        assert_eq!(
            now.tags["1.27"],
            sources.seeded.digest("library/demo", "1.27"),
            "{}",
            step.name
        );
        assert!(is_whole(&now));
        // Blobs that the first program copied are not copied again.
        let count = |log: &[Record], operation: &str| {
            log.iter().filter(|record| record.operation == operation).count()
        };
        let (read, sent) = (desk.source.log_since(source), desk.ecr.log_since(ecr));
        let missing = now.blobs.len() - app.blobs.len();
        assert_eq!(
            (count(&read, "GetBlob"), count(&sent, "PutBlob")),
            (missing, missing),
            "{}",
            step.name
        );
        assert_eq!(*all_blobs.get_or_insert(now.blobs.len()), now.blobs.len(), "{}", step.name);
    }
}

#[tokio::test]
async fn the_operator_after_a_killed_one_completes_the_copy() {
    let rig = Rig::new("killed-copy").await;
    let step = &STEPS[3];
    rig.ecr.faults().add(step.fault());
    let operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.27"])})).await;
    let reached =
        || rig.ecr.count(|r| r.operation == step.operation && r.path.contains(step.path)) > 1;
    eventually(step.name, async || reached()).await;
    operator.kill().await;
    let left = rig.repository("app");
    assert!(left.tags.is_empty() && is_whole(&left));
    rig.ecr.faults().clear();
    let mark = rig.source.mark();
    let _next = rig.operator().await;
    rig.wait_synced("app").await;
    let now = rig.repository("app");
    assert_eq!(now.tags["1.27"], rig.sources.seeded.digest("library/demo", "1.27"));
    assert!(is_whole(&now));
    let again =
        rig.source.log_since(mark).iter().filter(|record| record.operation == "GetBlob").count();
    assert_eq!(again, now.blobs.len() - left.blobs.len(), "what is there is not read again");
}

/// Two programs that do not know each other, as with two clusters, or a pipeline and an operator.
/// Uploads are slow, so that both upload each blob at the same time, and one of the two fails.
#[tokio::test]
async fn two_programs_that_copy_the_same_content_at_once_both_succeed() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    desk.ecr.create_repository(ACCOUNT, REGION, "app", BTreeMap::new());
    let slow = Then::Delay(Duration::from_millis(300));
    desk.ecr.faults().add(Fault::new(Match::operation("PutBlob"), slow));
    desk.ecr.faults().add(Fault::new(Match::operation("PutBlob"), Then::ResetUpload(10)).times(2));
    desk.write("all.yaml", &desk.entry("app", "library/demo", &["1.26", "1.27"]));
    let run = || output(desk.command(&["sync", "all.yaml"]));
    let (first, second) = tokio::join!(run(), run());
    for run in [&first, &second] {
        assert!(
            run.status.success(),
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
    }
    let app = desk.repository("app");
    assert!(is_whole(&app));
    for tag in ["1.26", "1.27"] {
        assert_eq!(app.tags[tag], sources.seeded.digest("library/demo", tag));
    }
}
