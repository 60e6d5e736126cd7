//! The faults, a row for each.

use std::ops::RangeInclusive;

use testbed::traffic::{Fault, Match, Then};

use super::Corpus;

const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

/// The part that a permanent fault prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loses {
    V2,
    /// All blobs: a request that opens an upload does not name the blob.
    Both,
    /// Nothing: the content of ECR is kept, unverified.
    Nothing,
}

/// The end of a pass.
#[derive(Clone, Debug)]
pub(super) enum Ends {
    /// Everything is copied, after this number of the requests that the fault affects.
    Well(RangeInclusive<usize>),
    /// As [`Ends::Well`], and at least the requested second passes between the first and the last
    /// of those requests.
    WellAfterAWait(RangeInclusive<usize>),
    /// A failure with this class.
    Badly(&'static str, Loses),
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) side: Side,
    pub(super) faults: Vec<Fault>,
    pub(super) ends: Ends,
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
pub(super) const BLOBS: usize = 4;

/// Two uploads. A server that responds during the upload may close the connection before its
/// response is read; then a PUT without a body gets the reason.
const UPLOADS: RangeInclusive<usize> = 2..=3;

pub(super) fn heals(corpus: &Corpus) -> Vec<Row> {
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

pub(super) fn stays(corpus: &Corpus) -> Vec<Row> {
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
pub(super) fn peculiar() -> Vec<Row> {
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
