//! Faults that break other copy tools. After a single fault, the pass ends normally. A permanent
//! fault is reported, and the other tags are copied. The command line runs against real servers.
//! `registry::tests` tests timeouts, which take too long here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use testbed::traffic::{Fault, Faults, Match, Plane, Record, Then};

use crate::support::corpus::{Image, Maker};
use crate::support::desk::Desk;
use crate::support::{ACCOUNT, REGION, Sources, eventually, is_whole};

/// Number of concurrent rows: they mostly wait.
const CONCURRENT: usize = 16;

const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// The part that a permanent fault prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loses {
    V2,
    /// All blobs: a request that opens an upload does not name the blob.
    Both,
    /// Nothing: the content of ECR is kept, unverified.
    Nothing,
}

/// The end of a pass.
#[derive(Clone, Debug)]
enum Ends {
    /// Everything is copied, after this number of the requests that the fault affects.
    Well(RangeInclusive<usize>),
    /// As [`Ends::Well`], and at least the requested second passes between the first and the last
    /// of those requests.
    WellAfterAWait(RangeInclusive<usize>),
    /// A failure with this class.
    Badly(&'static str, Loses),
}

#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    side: Side,
    faults: Vec<Fault>,
    ends: Ends,
}

/// The hexadecimal part, because the colon is escaped in a query.
fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// The requests that the faults affect.
struct Requests {
    blob: Match,
    config: Match,
    manifest: Match,
    head: Match,
    start: Match,
    upload: Match,
    tag: Match,
}

impl Requests {
    fn of(corpus: &Corpus) -> Self {
        let layer = corpus.v2.last_layer();
        Self {
            blob: Match::operation("GetBlob").path(hex(&layer)),
            config: Match::operation("GetBlob").path(hex(&corpus.v2.config())),
            manifest: Match::operation("GetManifest").path("team/app/manifests/v2"),
            head: Match::operation("HeadManifest").path("team/app/manifests/v2"),
            start: Match::operation("StartUpload").repository("app"),
            upload: Match::operation("PutBlob").repository("app").path(hex(&layer)),
            tag: Match::operation("PutManifest").repository("app").path("/manifests/v2"),
        }
    }
}

fn once(name: &'static str, side: Side, when: &Match, then: Vec<Then>, ends: Ends) -> Row {
    Row {
        name,
        side,
        faults: then.into_iter().map(|then| Fault::new(when.clone(), then).once()).collect(),
        ends,
    }
}

fn always(name: &'static str, side: Side, when: &Match, then: Then, ends: Ends) -> Row {
    Row { name, side, faults: vec![Fault::new(when.clone(), then)], ends }
}

/// Four blobs are copied to `app`: base and config of v1, layer and config of v2.
const BLOBS: usize = 4;

/// Two uploads. A server that responds during the upload may close the connection before its
/// response is read; then a PUT without a body gets the reason.
const UPLOADS: RangeInclusive<usize> = 2..=3;

fn heals(corpus: &Corpus) -> Vec<Row> {
    use Ends::{Well, WellAfterAWait};
    use Side::{Source, Target};
    let at = Requests::of(corpus);
    let whole = Then::Status { code: 200, headers: Vec::new(), body: corpus.config.clone() };
    let expired = || Then::aws_error(403, "DENIED", EXPIRED);
    let asked = || vec![Then::too_many_requests(Some(1))];
    let unasked = || vec![Then::too_many_requests(None)];
    let gone = Then::aws_error(404, "BLOB_UPLOAD_UNKNOWN", "The upload could not be found.");
    let missing = Then::aws_error(
        404,
        "LAYERS_NOT_FOUND",
        "LayersNotFoundException: one or more layers do not exist",
    );
    vec![
        once("source blob truncated", Source, &at.blob, vec![Then::Truncate(1000)], Well(2..=2)),
        once(
            "source blob truncated, Range ignored",
            Source,
            &at.config,
            vec![Then::Truncate(100), whole],
            Well(2..=2),
        ),
        once(
            "source blob truncated, Range answered by 416",
            Source,
            &at.blob,
            vec![Then::Truncate(1000), Then::status(416)],
            Well(3..=3),
        ),
        once("source blob corrupt", Source, &at.blob, vec![Then::Corrupt(500)], Well(2..=2)),
        once("source blob 500", Source, &at.blob, vec![Then::status(500)], Well(2..=2)),
        once("source blob 503", Source, &at.blob, vec![Then::status(503)], Well(2..=2)),
        once("source blob reset", Source, &at.blob, vec![Then::Reset], Well(2..=2)),
        once("source blob 429", Source, &at.blob, asked(), WellAfterAWait(2..=2)),
        once("source manifest 429", Source, &at.manifest, asked(), WellAfterAWait(2..=2)),
        once("source manifest HEAD 429", Source, &at.head, asked(), WellAfterAWait(2..=2)),
        once("source manifest corrupt", Source, &at.manifest, vec![Then::Corrupt(50)], Well(2..=2)),
        once(
            "source manifest truncated",
            Source,
            &at.manifest,
            vec![Then::Truncate(50)],
            Well(2..=2),
        ),
        once("upload 503", Target, &at.upload, vec![Then::status(503)], Well(UPLOADS)),
        once("upload 429", Target, &at.upload, unasked(), Well(UPLOADS)),
        once("upload reset", Target, &at.upload, vec![Then::ResetUpload(1000)], Well(UPLOADS)),
        once("upload answer lost", Target, &at.upload, vec![Then::LoseAnswer], Well(UPLOADS)),
        once("upload session lost", Target, &at.upload, vec![gone], Well(UPLOADS)),
        once("upload, token expired", Target, &at.upload, vec![expired()], Well(UPLOADS)),
        once("POST 429", Target, &at.start, unasked(), Well(BLOBS + 1..=BLOBS + 1)),
        once(
            "POST 429, Retry-After",
            Target,
            &at.start,
            asked(),
            WellAfterAWait(BLOBS + 1..=BLOBS + 1),
        ),
        once("POST reset", Target, &at.start, vec![Then::Reset], Well(BLOBS + 1..=BLOBS + 1)),
        once(
            "POST, token expired",
            Target,
            &at.start,
            vec![expired()],
            Well(BLOBS + 1..=BLOBS + 1),
        ),
        once("manifest PUT 429", Target, &at.tag, unasked(), Well(2..=2)),
        once("manifest PUT 429, Retry-After", Target, &at.tag, asked(), WellAfterAWait(2..=2)),
        once(
            "manifest PUT 429 five times",
            Target,
            &at.tag,
            vec![Then::too_many_requests(None); 5],
            Well(6..=6),
        ),
        once("manifest PUT 500", Target, &at.tag, vec![Then::status(500)], Well(2..=2)),
        once("manifest PUT 503", Target, &at.tag, vec![Then::status(503)], Well(2..=2)),
        once("manifest PUT reset", Target, &at.tag, vec![Then::Reset], Well(2..=2)),
        once("manifest PUT answer lost", Target, &at.tag, vec![Then::LoseAnswer], Well(2..=2)),
        once("manifest PUT, token expired", Target, &at.tag, vec![expired()], Well(2..=2)),
        once("manifest PUT, layers not found", Target, &at.tag, vec![missing], Well(2..=2)),
    ]
}

fn stays(corpus: &Corpus) -> Vec<Row> {
    use Ends::Badly;
    use Loses::{Both, Nothing, V2};
    use Side::{Source, Target};
    let at = Requests::of(corpus);
    let expired = || Then::aws_error(403, "DENIED", EXPIRED);
    let asked = || Then::too_many_requests(Some(1));
    let unasked = || Then::too_many_requests(None);
    let gone = Then::aws_error(404, "BLOB_UPLOAD_UNKNOWN", "The upload could not be found.");
    let missing = Then::aws_error(
        404,
        "LAYERS_NOT_FOUND",
        "LayersNotFoundException: one or more layers do not exist",
    );
    vec![
        always(
            "source blob truncated",
            Source,
            &at.blob,
            Then::Truncate(1000),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "source blob corrupt",
            Source,
            &at.blob,
            Then::Corrupt(500),
            Badly("SourceInvalid", V2),
        ),
        always("source blob 429", Source, &at.blob, asked(), Badly("RateLimited", V2)),
        always(
            "source blob 500",
            Source,
            &at.blob,
            Then::status(500),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "source blob 503",
            Source,
            &at.blob,
            Then::status(503),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "source blob reset",
            Source,
            &at.blob,
            Then::Reset,
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "source blob gone",
            Source,
            &at.blob,
            Then::status(404),
            Badly("SourceNotFound", V2),
        ),
        always("source manifest 429", Source, &at.manifest, asked(), Badly("RateLimited", V2)),
        always(
            "source manifest HEAD 429",
            Source,
            &at.head,
            asked(),
            Badly("RateLimited", Nothing),
        ),
        always(
            "source manifest corrupt",
            Source,
            &at.manifest,
            Then::Corrupt(50),
            Badly("SourceInvalid", V2),
        ),
        always(
            "source manifest truncated",
            Source,
            &at.manifest,
            Then::Truncate(50),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "upload 503",
            Target,
            &at.upload,
            Then::status(503),
            Badly("RegistryUnavailable", V2),
        ),
        always("upload 429", Target, &at.upload, unasked(), Badly("RateLimited", V2)),
        always(
            "upload reset",
            Target,
            &at.upload,
            Then::ResetUpload(1000),
            Badly("RegistryUnavailable", V2),
        ),
        always("upload session lost", Target, &at.upload, gone, Badly("RegistryUnavailable", V2)),
        always(
            "upload, token expired",
            Target,
            &at.upload,
            expired(),
            Badly("AuthenticationFailed", V2),
        ),
        always("POST 429", Target, &at.start, unasked(), Badly("RateLimited", Both)),
        always("POST 429, Retry-After", Target, &at.start, asked(), Badly("RateLimited", Both)),
        always("POST reset", Target, &at.start, Then::Reset, Badly("RegistryUnavailable", Both)),
        always(
            "POST, token expired",
            Target,
            &at.start,
            expired(),
            Badly("AuthenticationFailed", Both),
        ),
        always("manifest PUT 429", Target, &at.tag, unasked(), Badly("RateLimited", V2)),
        always("manifest PUT 429, Retry-After", Target, &at.tag, asked(), Badly("RateLimited", V2)),
        always(
            "manifest PUT 500",
            Target,
            &at.tag,
            Then::status(500),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "manifest PUT 503",
            Target,
            &at.tag,
            Then::status(503),
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "manifest PUT, layers not found",
            Target,
            &at.tag,
            missing,
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "manifest PUT reset",
            Target,
            &at.tag,
            Then::Reset,
            Badly("RegistryUnavailable", V2),
        ),
        always(
            "manifest PUT, token expired",
            Target,
            &at.tag,
            expired(),
            Badly("AuthenticationFailed", V2),
        ),
    ]
}

/// Not faults, but registries that differ from the specification.
fn peculiar() -> Vec<Row> {
    use Ends::Well;
    use Side::{Source, Target};
    let head = Match::operation("HeadManifest").repository("team/app");
    let get = Match::operation("GetManifest").repository("team/app");
    let blob = Match::operation("GetBlob").repository("team/app");
    let header = |name: &str, value: &str| Then::WithHeader(name.to_owned(), value.to_owned());
    let no_digest = || Then::WithoutHeader("docker-content-digest".to_owned());
    vec![
        always("source HEAD 405", Source, &head, Then::status(405), Well(2..=2)),
        always("source HEAD 404", Source, &head, Then::status(404), Well(2..=2)),
        always("source HEAD without digest", Source, &head, no_digest(), Well(2..=2)),
        always("source GET without digest", Source, &get, no_digest(), Well(2..=2)),
        always(
            "source GET without type",
            Source,
            &get,
            header("content-type", "text/plain"),
            Well(2..=2),
        ),
        always(
            "source blob Content-Encoding",
            Source,
            &blob,
            header("content-encoding", "gzip"),
            Well(4..=4),
        ),
        always(
            "target HEAD blob 405",
            Target,
            &Match::operation("HeadBlob"),
            Then::status(405),
            Well(0..=0),
        ),
        always(
            "target HEAD 405",
            Target,
            &Match::operation("HeadManifest"),
            Then::status(405),
            Well(0..=0),
        ),
        always(
            "target PATCH",
            Target,
            &Match::operation("PatchUpload"),
            Then::status(500),
            Well(0..=0),
        ),
        always(
            "target mount",
            Target,
            &Match::any().path("mount="),
            Then::status(400),
            Well(0..=0),
        ),
    ]
}

#[tokio::test]
async fn each_fault_that_comes_once_heals() {
    let corpus = Corpus::new().await;
    assert_rows(&corpus, heals(&corpus)).await;
}

#[tokio::test]
async fn each_fault_that_stays_is_told_and_spares_the_others() {
    let corpus = Corpus::new().await;
    assert_rows(&corpus, stays(&corpus)).await;
}

#[tokio::test]
async fn each_peculiar_registry_is_lived_with() {
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
async fn a_token_that_ends_on_the_way_is_renewed() {
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
async fn a_quota_of_manifests_that_is_less_than_thought_loses_no_tag() {
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
