//! Tests against a scripted chart repository that records requests.

mod hosts;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body as Answer;
use axum::http::{Request as Asked, Response as Answered};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::class::Class;
use crate::registry::Egress;

const INDEX: &str = "apiVersion: v1
entries:
  a:
  - {name: a, version: 1.0.0, urls: [charts/a-1.0.0.tgz]}
  b:
  - {name: b, version: 1.0.0, urls: [b.tgz]}
";

/// A recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    target: String,
    authorization: bool,
    validator: String,
}

struct Server {
    host: String,
    transport: Transport,
    log: Arc<Mutex<Vec<Seen>>>,
}

type Reply = Answered<Answer>;

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Answer>) -> Reply {
    let mut answer = Answered::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

impl Server {
    async fn new(script: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen_log, script) = (log.clone(), Arc::new(script));
        let app = axum::Router::new().fallback(move |request: Asked<Answer>| {
            let header = |name: &str| {
                request.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned()
            };
            let validator = [header("if-none-match"), header("if-modified-since")].concat();
            let target = request.uri().to_string();
            let authorization = !header("authorization").is_empty();
            seen_log.lock().unwrap().push(Seen {
                target: target.clone(),
                authorization,
                validator: validator.clone(),
            });
            let script = script.clone();
            async move { script(&target, &validator) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });

        Self {
            host,
            transport: Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting()))
                .unwrap(),
            log,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    fn repository(&self, path: &str) -> Repository {
        self.repository_as(path, login("ann"), &Arc::default())
    }

    fn repository_as(
        &self,
        path: &str,
        credential: Credential,
        indexes: &Arc<Indexes>,
    ) -> Repository {
        let mut access =
            Connection::new(self.transport.clone(), TransportOptions::default(), credential);
        access.retry = RetryPolicy {
            retries: 1,
            base: Duration::from_millis(1),
            longest: Duration::from_secs(1),
        };
        Repository::new(&format!("http://{}{path}", self.host), access, indexes.clone()).unwrap()
    }
}

fn login(name: &str) -> Credential {
    Credential::Basic { username: name.into(), password: "secret".into() }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn entry(urls: &[&str], digest: Option<&[u8]>) -> Entry {
    Entry {
        chart: "a".into(),
        version: "1.0.0".into(),
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        digest: digest.map(Digest::sha256_of),
        deprecated: false,
        app_version: None,
        kind: None,
    }
}

async fn bytes(repository: &Repository, entry: &Entry) -> Result<Bytes, Error> {
    Ok(repository.download(entry).await?.bytes)
}

#[tokio::test]
async fn a_cached_index_is_confirmed_by_its_validators() {
    let server = Server::new(|_, validator| match validator {
        "" => reply(
            200,
            &[("etag", "\"1\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            INDEX,
        ),
        _ => reply(304, &[], ""),
    })
    .await;
    let repository = server.repository("/charts/?token=x");
    for _ in 0..2 {
        assert_eq!(repository.versions("a", Duration::ZERO).await.unwrap().versions.len(), 1);
    }
    repository.versions("b", Duration::from_secs(60)).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "the third one is served from the copy");
    assert_eq!(seen[0].target, "/charts/index.yaml?token=x");
    assert_eq!(seen[1].validator, "\"1\"Sun, 06 Nov 1994 08:49:37 GMT");

    assert!(!repository.index_url().contains("token"));
}

#[tokio::test]
async fn gzip_is_read_with_and_without_its_header_and_in_several_members() {
    let (first, second) = INDEX.split_at(40);
    let members = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
    let bodies = [gzip(INDEX.as_bytes()), gzip(INDEX.as_bytes()), members, INDEX.into()];
    let server = Server::new(move |target, _| {
        let n: usize = target[1..2].parse().unwrap();
        let headers: &[_] = if n == 0 { &[("content-encoding", "gzip")] } else { &[] };
        reply(200, headers, bodies[n].clone())
    })
    .await;

    for n in 0..4 {
        let repository = server.repository(&format!("/{n}"));
        assert_eq!(
            repository.versions("a", Duration::ZERO).await.unwrap().versions.len(),
            1,
            "{n}"
        );
    }
}

#[tokio::test]
async fn bodies_that_are_truncated_damaged_or_too_large_are_refused() {
    let big = [INDEX, &"#".repeat(1 << 20)].concat();
    let truncated = {
        let whole = gzip(INDEX.as_bytes());
        whole[..whole.len() - 4].to_vec()
    };

    let mut damaged = gzip(big.as_bytes());
    damaged[30..40].fill(0xff);
    let bodies = [
        truncated,
        damaged,
        gzip(big.as_bytes()),
        big.into_bytes(),
        b" <html>".to_vec(),
        gzip(b"<html>"),
    ];
    let server = Server::new(move |target, _| {
        reply(200, &[], bodies[target[1..2].parse::<usize>().unwrap()].clone())
    })
    .await;

    for (n, why) in [
        "truncated",
        "gzip",
        "more than 100000 bytes",
        "more than 100000 bytes",
        "a web page",
        "a web page",
    ]
    .into_iter()
    .enumerate()
    {
        let mut repository = server.repository(&format!("/{n}"));
        repository.access.max_index_bytes = 100_000;
        let error = repository.index(Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains(why), "{n}: {error}");
        assert_eq!(error.class(), Class::SourceInvalid);
    }
}

#[tokio::test]
async fn a_thousand_concurrent_calls_are_one_request() {
    let server = Server::new(|_, _| reply(200, &[("etag", "\"1\"")], INDEX)).await;
    let indexes = Arc::default();
    let repositories: Vec<_> =
        (0..1000).map(|_| server.repository_as("/", login("ann"), &indexes)).collect();
    let all =
        futures::future::join_all(repositories.iter().map(|r| r.index(Duration::from_secs(60))))
            .await;
    let first = all[0].as_ref().unwrap();
    assert!(
        all.iter().all(|index| Arc::ptr_eq(index.as_ref().unwrap(), first)),
        "one copy, read once"
    );
    assert_eq!(server.seen().len(), 1);
    futures::future::join_all(repositories.iter().map(|r| r.index(Duration::ZERO))).await;
    assert!(server.seen().len() <= 4, "calls without a copy share a later request");
}

#[tokio::test]
async fn a_failure_fails_all_waiting_calls_at_once() {
    let server = Server::new(|_, _| reply(503, &[], "")).await;
    let indexes = Arc::default();
    let repositories: Vec<_> =
        (0..100).map(|_| server.repository_as("/", login("ann"), &indexes)).collect();
    let all = futures::future::join_all(repositories.iter().map(|r| r.index(Duration::ZERO))).await;
    assert!(
        all.iter()
            .all(|result| result.as_ref().is_err_and(|e| e.class() == Class::RegistryUnavailable))
    );
    assert_eq!(server.seen().len(), 2, "one fetch, tried twice");
    repositories[0].index(Duration::from_secs(3600)).await.unwrap_err();
    assert_eq!(server.seen().len(), 4, "a failed fetch is not cached for later calls");
}

#[tokio::test]
async fn a_missing_index_is_cached_as_long_as_an_index() {
    let server = Server::new(|_, _| reply(404, &[], "")).await;
    let indexes = Arc::default();
    for _ in 0..3 {
        let repository = server.repository_as("/", login("ann"), &indexes);
        let error = repository.index(Duration::from_secs(3600)).await.unwrap_err();
        assert_eq!(error.class(), Class::SourceNotFound);
    }
    assert_eq!(server.seen().len(), 1);
    server.repository_as("/", login("ann"), &indexes).index(Duration::ZERO).await.unwrap_err();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn an_index_is_not_shared_between_credentials() {
    let server = Server::new(|_, _| reply(200, &[], INDEX)).await;
    let indexes = Arc::default();
    for credential in [login("ann"), login("bob"), Credential::Anonymous, login("ann")] {
        server
            .repository_as("/", credential, &indexes)
            .index(Duration::from_secs(60))
            .await
            .unwrap();
    }
    let authorized: Vec<bool> = server.seen().iter().map(|seen| seen.authorization).collect();
    assert_eq!(authorized, [true, true, false]);
}

#[tokio::test]
async fn the_least_recently_used_index_is_evicted_first() {
    let server = Server::new(|_, _| reply(200, &[], INDEX)).await;
    // With its bookkeeping, an index of this test takes some 3,300 bytes.
    let indexes = Arc::new(Indexes::new(9000));
    let hour = Duration::from_secs(3600);
    for path in ["/1", "/2", "/3", "/2", "/3", "/1"] {
        server.repository_as(path, login("ann"), &indexes).index(hour).await.unwrap();
    }
    let held = server.repository_as("/1", login("ann"), &indexes).index(hour).await.unwrap().size();
    assert!((1000..1300).contains(&held), "two fit, three do not: {held}");
    assert_eq!(
        server.targets(),
        ["/1/index.yaml", "/2/index.yaml", "/3/index.yaml", "/1/index.yaml"]
    );
}

#[tokio::test]
async fn statuses_have_their_classes() {
    use Class::*;
    let server = Server::new(|target, _| {
        let status = target[1..4].parse().unwrap();
        let headers: &[_] = if status == 429 { &[("retry-after", "77")] } else { &[] };
        reply(status, headers, "")
    })
    .await;

    for (status, credential, class, elsewhere) in [
        (401, login("ann"), AuthenticationFailed, true),
        (403, login("ann"), AccessDenied, true),
        (403, Credential::Anonymous, AuthenticationFailed, true),
        (404, login("ann"), SourceNotFound, true),
        (410, login("ann"), SourceNotFound, true),
        (429, login("ann"), RateLimited, false),
        (500, login("ann"), RegistryUnavailable, false),
        (503, login("ann"), RegistryUnavailable, false),
        (304, login("ann"), RegistryUnavailable, false),
        (204, login("ann"), RegistryUnavailable, false),
    ] {
        let repository = server.repository_as(&format!("/{status}"), credential, &Arc::default());
        let error = repository.index(Duration::ZERO).await.unwrap_err();
        assert_eq!((error.class(), error.is_elsewhere()), (class, elsewhere), "{status}: {error}");
        assert_eq!(error.retry_after().map(|wait| wait.as_secs()), (status == 429).then_some(77));
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot read http://{}/{status}/index.yaml: ", server.host)),
            "{error}"
        );
    }

    let gone = Server {
        host: "127.0.0.1:1".into(),
        transport: server.transport.clone(),
        log: Arc::default(),
    };
    let error = gone.repository("/").index(Duration::ZERO).await.unwrap_err();

    assert_eq!(error.class(), RegistryUnavailable, "{error}");
}

#[tokio::test]
async fn urls_are_resolved_as_by_helm_and_credentials_sent_to_the_repository_only() {
    let other = Server::new(|_, _| reply(200, &[], "archive")).await;
    let server = Server::new(|_, _| reply(200, &[], "archive")).await;
    let repository = server.repository("/repo?token=x");
    let elsewhere = format!("http://{}/a.tgz?sig=1", other.host);
    let home = format!("http://{}/abs.tgz", server.host);
    for url in ["charts/a+b.tgz", "/root.tgz", "../up.tgz", "q.tgz?own=1", &home, &elsewhere] {
        assert_eq!(bytes(&repository, &entry(&[url], None)).await.unwrap(), "archive");
    }
    assert_eq!(
        server.targets(),
        [
            "/repo/charts/a+b.tgz?token=x",
            "/root.tgz?token=x",
            "/up.tgz?token=x",
            "/repo/q.tgz?own=1&token=x",
            "/abs.tgz"
        ]
    );
    assert!(server.seen().iter().all(|seen| seen.authorization));
    assert_eq!(other.targets(), ["/a.tgz?sig=1"]);

    assert!(!other.seen()[0].authorization, "another host gets no credential");
}

#[tokio::test]
async fn redirects_to_other_hosts_get_no_credentials() {
    let other = Server::new(|_, _| reply(200, &[], INDEX)).await;
    let to = format!("http://{}/moved.yaml", other.host);
    let server = Server::new(move |_, _| reply(302, &[("location", &to)], "")).await;
    server.repository("/").index(Duration::ZERO).await.unwrap();
    assert!(server.seen()[0].authorization && !other.seen()[0].authorization);
}

#[tokio::test]
async fn the_next_url_is_tried_when_one_fails() {
    let server = Server::new(|target, _| match target {
        "/good.tgz" => reply(200, &[], "archive"),
        "/other.tgz" => reply(200, &[], "other"),
        _ => reply(404, &[], ""),
    })
    .await;
    let repository = server.repository("/");
    let digest = Some(&b"archive"[..]);
    let got =
        bytes(&repository, &entry(&["gone.tgz", "other.tgz", "ftp://x/y", "good.tgz"], digest))
            .await
            .unwrap();
    assert_eq!(got, "archive");

    let error = repository.download(&entry(&["other.tgz", "gone.tgz"], digest)).await.unwrap_err();
    assert_eq!(error.class(), Class::SourceInvalid);
    let expected = Digest::sha256_of(b"archive");
    let host = &server.host;
    assert_eq!(
        error.to_string(),
        format!(
            "http://{host}/other.tgz of chart a 1.0.0 does not have the digest {expected} of the \
             index"
        )
    );

    let error = repository.download(&entry(&["gone.tgz"], digest)).await.unwrap_err();
    assert_eq!(error.class(), Class::SourceNotFound);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot read http://{host}/gone.tgz of chart a 1.0.0: 404")),
        "{error}"
    );

    for url in ["ftp://x/y.tgz", "http://169.254.169.254/latest"] {
        assert_eq!(
            repository.download(&entry(&[url], None)).await.unwrap_err().class(),
            Class::SourceInvalid,
            "{url}"
        );
    }

    let error = repository.download(&entry(&["gone.tgz", "oci://r/a:1"], None)).await.unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (
            Class::InvalidSpec,
            "according to the index, a 1.0.0 is at oci://r/a:1: set chart.pullUrl to that"
        )
    );
}

#[tokio::test]
async fn archives_are_bounded_and_retried() {
    let asked = AtomicUsize::new(0);
    let server = Server::new(move |target, _| match target {
        "/big.tgz" => reply(200, &[], vec![0; MAX_BYTES + 1]),
        _ if asked.fetch_add(1, Ordering::Relaxed) == 0 => reply(502, &[], ""),
        _ => reply(200, &[], "archive"),
    })
    .await;
    let repository = server.repository("/");
    let error = repository.download(&entry(&["big.tgz"], None)).await.unwrap_err();
    assert_eq!(error.class(), Class::SourceInvalid, "{error}");
    assert_eq!(bytes(&repository, &entry(&["a.tgz"], None)).await.unwrap(), "archive");
}

#[tokio::test]
async fn provenance_is_read_missing_or_an_error() {
    let signed = "-----BEGIN PGP SIGNED MESSAGE-----\n";
    let server = Server::new(move |target, _| match target {
        "/a.tgz.prov?t=1" => reply(200, &[], signed),
        "/c.tgz.prov?t=1" => reply(503, &[], ""),
        "/d.tgz.prov?t=1" => reply(200, &[], "<html>"),
        path if path.contains(".prov") => reply(404, &[], ""),
        _ => reply(200, &[], "archive"),
    })
    .await;
    let repository = server.repository("/?t=1");
    let mut results = Vec::new();

    for url in ["a.tgz", "b.tgz", "c.tgz", "d.tgz"] {
        let archive = repository.download(&entry(&[url], None)).await.unwrap();
        results.push(repository.provenance(&archive).await.map_err(|error| error.class()));
    }

    let signed = Bytes::from_static(signed.as_bytes());
    assert_eq!(
        results,
        [Ok(Some(signed)), Ok(None), Err(Class::RegistryUnavailable), Err(Class::SourceInvalid)]
    );
}

#[test]
fn errors_of_addresses_say_what_to_write() {
    let trust = TransportOptions::default();
    let transport = Transport::new(&trust, &Arc::new(Egress::trusting())).unwrap();
    for (url, why) in [
        ("charts.example", "not a URL"),
        ("oci://r/charts", "not the http"),
        ("https://ann:secret@charts.example/", "put it into a Secret"),
    ] {
        let access = Connection::new(transport.clone(), trust.clone(), Credential::Anonymous);
        let error = Repository::new(url, access, Arc::default()).unwrap_err();
        assert!(
            error.to_string().contains(why) && !error.to_string().contains("secret@"),
            "{error}"
        );
        assert_eq!(error.class(), Class::InvalidSpec);
    }
}
