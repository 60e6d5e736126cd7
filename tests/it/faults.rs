//! Faults that break other copy tools. After a single fault, the pass ends normally. A permanent
//! fault is reported, and the other tags are copied. The command line runs against real servers.
//! `registry::tests` tests timeouts, which take too long here.

mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use testbed::traffic::{Fault, Faults, Match, Plane, Record, Then};

use self::rows::{BLOBS, Ends, Loses, Row, Side, heals, peculiar, stays};
use crate::support::corpus::{Image, Maker};
use crate::support::desk::Desk;
use crate::support::{ACCOUNT, REGION, Sources, eventually, is_whole};

/// Number of concurrent rows: they mostly wait.
const CONCURRENT: usize = 16;

/// Every row copies v1 and v2 of one repository into `app`, where the fault affects v2, and another
/// repository into `other`, which has no fault. If the fault affects HEAD, the pass is a second
/// one.
struct Corpus {
    sources: &'static Sources,
    v2: Image,
    /// The config that only v2 has. It is text, so that a fault can return it.
    config: String,
}

impl Corpus {
    async fn new() -> Self {
        let sources = Sources::shared().await;
        let host = sources.open.host();
        let v2 = Image::read(host, "team/app", "v2").await;
        let url = format!("http://{host}/v2/team/app/blobs/{}", v2.config());
        let config = testbed::http::client()
            .get(url)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("JSON");
        Self { sources, v2, config }
    }

    fn digest(&self, tag: &str) -> String {
        self.sources.seeded.digest("team/app", tag).to_owned()
    }
}

#[tokio::test]
async fn each_single_fault_is_overcome() {
    let corpus = Corpus::new().await;
    assert_rows(&corpus, heals(&corpus)).await;
}

#[tokio::test]
async fn each_permanent_fault_is_reported_and_does_not_affect_the_others() {
    let corpus = Corpus::new().await;
    assert_rows(&corpus, stays(&corpus)).await;
}

#[tokio::test]
async fn each_peculiar_registry_is_tolerated() {
    let corpus = Corpus::new().await;
    assert_rows(&corpus, peculiar()).await;
}

/// Runs all rows and reports all failures.
async fn assert_rows(corpus: &Corpus, rows: Vec<Row>) {
    let results = stream::iter(rows).map(|row| async move {
        let name = row.name;
        run(corpus, row).await.map_err(|what| format!("{name}: {what}"))
    });
    let results: Vec<Result<(), String>> = results.buffer_unordered(CONCURRENT).collect().await;
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} rows failed:\n{}", failed.len(), failed.join("\n"));
}

fn strikes(when: &Match, record: &Record) -> bool {
    let is = |wanted: &Option<String>, value: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted == value)
    };
    is(&when.operation, &record.operation)
        && is(&when.repository, &record.repository)
        && when.path.as_deref().is_none_or(|part| record.path.contains(part))
}

async fn run(corpus: &Corpus, row: Row) -> Result<(), String> {
    let desk = Desk::before(corpus.sources.open.host()).await;
    let faults: &Faults =
        if row.side == Side::Source { desk.source.faults() } else { desk.ecr.faults() };
    let when = row.faults[0].when.clone();
    let text = desk.entry("app", "team/app", &["v1", "v2"])
        + &desk.entry("other", "library/demo", &["1.26"]);
    // Tags that ECR lacks are read with GET; HEAD is for tags that are in ECR.
    if row.side == Side::Source && when.operation.as_deref() == Some("HeadManifest") {
        desk.sync(&text, &[]).await;
    }
    let (source, ecr) = (desk.source.mark(), desk.ecr.mark());
    row.faults.into_iter().for_each(|fault| faults.add(fault));
    let run = desk.sync(&text, &[]).await;

    let check =
        |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}\n{}", run.text)) };
    let tags = |tags: &[&str]| -> BTreeMap<String, String> {
        tags.iter().map(|tag| ((*tag).to_owned(), corpus.digest(tag))).collect()
    };
    let log = if row.side == Side::Source {
        desk.source.log_since(source)
    } else {
        desk.ecr.log_since(ecr)
    };
    let struck: Vec<_> = log.iter().filter(|record| strikes(&when, record)).collect();
    let (app, other) = (desk.repository("app"), desk.repository("other"));
    let other_digest = corpus.sources.seeded.digest("library/demo", "1.26");
    check(
        other.tags.get("1.26").is_some_and(|digest| digest == other_digest),
        "the other repository is not done",
    )?;
    check(is_whole(&app) && is_whole(&other), "a tag cannot be pulled")?;
    match row.ends {
        Ends::Well(requests) | Ends::WellAfterAWait(requests)
            if !requests.contains(&struck.len()) =>
        {
            check(false, &format!("{} requests, not {requests:?}", struck.len()))
        }
        Ends::Well(_) => {
            check(run.is_success(), "it fails")?;
            check(app.tags == tags(&["v1", "v2"]), "wrong digests")
        }
        Ends::WellAfterAWait(_) => {
            check(run.is_success(), "it fails")?;
            check(app.tags == tags(&["v1", "v2"]), "wrong digests")?;
            let times = struck.iter().map(|record| record.started);
            let span = times
                .clone()
                .max()
                .zip(times.min())
                .and_then(|(last, first)| last.duration_since(first).ok());
            check(span >= Some(Duration::from_secs(1)), "Retry-After was not waited for")
        }
        Ends::Badly(class, loses) => {
            check(run.code == Some(1), "it does not exit with 1")?;
            check(
                run.text.contains(&format!("  ! image tag v2: {class}: cannot ")),
                "the failure is not told",
            )?;
            let (kept, failed): (&[&str], _) = match loses {
                Loses::V2 => (&["v1"], 1),
                Loses::Both => (&[], 2),
                Loses::Nothing => (&["v1", "v2"], 1),
            };
            check(app.tags == tags(kept), "wrong tags")?;
            let failures = run.text.matches("  ! image tag ").count();
            check(failures == failed, "more failures than were made")?;
            let is_blob =
                when.operation.as_deref().is_some_and(|operation| operation.ends_with("Blob"));
            let stored = app.blobs.contains_key(&corpus.v2.last_layer());
            check(!is_blob || !stored, "the broken blob was stored")
        }
    }
}

/// The token of the stand-in expires during a request, as after twelve hours.
#[tokio::test]
async fn a_token_that_expires_during_a_request_is_renewed() {
    for operation in ["StartUpload", "PutBlob", "PutManifest"] {
        let sources = Sources::shared().await;
        let desk = Desk::before(sources.open.host()).await;
        let late =
            Fault::new(Match::operation(operation), Then::Delay(Duration::from_millis(700))).once();
        desk.ecr.faults().add(late);
        let text = desk.entry("app", "team/app", &["v1", "v2"]);
        let expire = async {
            eventually(operation, async || {
                desk.ecr.count(|record| record.operation == operation) > 0
            })
            .await;
            desk.ecr.expire_tokens();
        };
        let (run, ()) = tokio::join!(desk.sync(&text, &[]), expire);
        assert!(run.is_success(), "{operation}: {}", run.text);
        assert_eq!(desk.repository("app").tags["v2"], sources.seeded.digest("team/app", "v2"));
        assert_eq!(
            desk.ecr.count(|record| record.operation == "GetAuthorizationToken"),
            2,
            "{operation}"
        );
    }
}

/// ECR as a source: every blob is redirected to a store that refuses an Authorization header.
#[tokio::test]
async fn a_redirect_to_a_host_that_refuses_authorization_is_followed_without() {
    let sources = Sources::shared().await;
    let first = Desk::before(sources.open.host()).await;
    let run = first.sync(&first.entry("app", "team/app", &["v1", "v2"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);

    let second = Desk::before(&first.ecr.registry(ACCOUNT, REGION).await).await;
    let login = json!({"auths": {second.source.host(): {"auth": first.ecr.authorization_token(ACCOUNT, REGION)}}});
    std::fs::create_dir(second.folder.path().join(".docker")).expect("a folder");
    std::fs::write(second.folder.path().join(".docker/config.json"), login.to_string())
        .expect("a file");
    let run = second.sync(&second.entry("copy", "app", &["v1", "v2"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(second.repository("copy").tags, first.repository("app").tags);
    let reads: Vec<_> =
        first.ecr.log().into_iter().filter(|record| record.plane == Plane::Storage).collect();
    assert_eq!(reads.len(), BLOBS, "each blob once");
    assert!(
        reads
            .iter()
            .all(|record| record.status == Some(200)
                && !record.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn duplicate_layers_move_once() {
    let sources = Sources::shared().await;
    let maker = Maker::new(sources.open.host());
    let layer = maker.layer("twice", 2_000);
    maker.image(&maker.reference("faults/duplicate", "1"), None, &[layer.clone(), layer]).await;
    let image = Image::read(sources.open.host(), "faults/duplicate", "1").await;
    assert_eq!(image.manifest["layers"].as_array().map(Vec::len), Some(2));
    let desk = Desk::before(sources.open.host()).await;
    let run = desk.sync(&desk.entry("app", "faults/duplicate", &["1"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(desk.repository("app").tags["1"], image.digest);
    assert_eq!(
        desk.source.count(|record| record.operation == "GetBlob"),
        2,
        "a layer and a config"
    );
    assert_eq!(desk.ecr.count(|record| record.operation == "PutBlob"), 2);
}

#[tokio::test]
async fn a_second_run_onto_immutable_tags_writes_nothing() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    desk.ecr.create_repository(ACCOUNT, REGION, "app", BTreeMap::new());
    assert!(desk.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]));
    // The first response is lost: the tag exists when the manifest is sent again, and ECR refuses
    // it.
    desk.ecr.faults().add(Fault::new(Match::operation("PutManifest"), Then::LoseAnswer).once());
    let text = desk.entry("app", "team/app", &["v1", "v2"]);
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success(), "{}", run.text);
    let mark = desk.ecr.mark();
    let run = desk.sync(&text, &[]).await;
    assert!(run.is_success() && run.text.contains("app: in sync, 2/2 image tags"), "{}", run.text);
    assert!(
        desk.ecr
            .log_since(mark)
            .iter()
            .all(|record| record.plane == Plane::Control && !record.is_write())
    );
}

/// Another client uses the quota, or the configured rate is not that of the account.
#[tokio::test]
async fn a_lower_quota_of_manifests_than_expected_loses_no_tag() {
    let sources = Sources::shared().await;
    let maker = Maker::new(sources.open.host());
    let tags = maker.tags_that_share("faults/many", 40, 1).await;
    let desk = Desk::before(sources.open.host()).await;
    desk.ecr.limits("PutImage", 10.0, 10);
    let run = desk.sync(&desk.entry("app", "faults/many", &tags), &["--put-image-rate=100"]).await;
    assert!(run.is_success(), "{}", run.text);
    assert_eq!(desk.repository("app").tags.len(), 40);
    assert!(desk.ecr.count(|record| record.status == Some(429)) > 0, "else nothing was proved");
}
