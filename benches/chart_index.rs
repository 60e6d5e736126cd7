//! Cost of a chart index similar to Bitnami's: 350 charts of 200 versions, 26 MB of YAML, over HTTP
//! on this machine.
//!
//! `make bench` runs it. CPU time and memory are those of the whole process, including the small
//! server that sends the index.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use ecr_sync::helm::{Connection, Indexes, Repository};
use ecr_sync::registry::{Credential, Egress, Transport, TransportOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, stream};

const CHARTS: usize = 350;
const VERSIONS: usize = 200;
const RESOURCES: usize = 1000;
/// The operator's default.
const JOBS: usize = 16;

fn index() -> String {
    let mut text = String::from("apiVersion: v1\nentries:\n");
    for chart in 0..CHARTS {
        let _ = writeln!(text, "  chart-{chart}:");
        for version in 0..VERSIONS {
            let name = format!("chart-{chart}");
            let number = format!("{}.{}.{}", version / 50, version / 10 % 5, version % 10);
            let digest = format!("d{:063x}", chart * VERSIONS + version);
            let _ = write!(
                text,
                "  - annotations:\n      category: Infrastructure\n    apiVersion: v2\n    \
                 appVersion: {number}\n    created: \"2026-01-02T03:04:05.678901234Z\"\n    \
                 description: What {name} is for\n    digest: {digest}\n    \
                 home: https://example.com\n    keywords:\n    - database\n    name: {name}\n    \
                 urls:\n    - charts/{name}-{number}.tgz\n    version: {number}\n"
            );
        }
    }
    text
}

struct Server {
    url: String,
    transport: Transport,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(body: Bytes, encoding: Option<&'static str>) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = requests.clone();
        let app = axum::Router::new().fallback(move |asked: HeaderMap| {
            seen.fetch_add(1, Ordering::Relaxed);
            let body = body.clone();
            async move {
                if asked.contains_key(header::IF_NONE_MATCH) {
                    return StatusCode::NOT_MODIFIED.into_response();
                }
                let mut answer = ([(header::ETAG, "\"1\"")], body).into_response();
                if let Some(encoding) = encoding {
                    answer.headers_mut().insert(
                        header::CONTENT_ENCODING,
                        header::HeaderValue::from_static(encoding),
                    );
                }
                answer
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let egress = Arc::new(Egress::trusting());
        let transport = Transport::new(&TransportOptions::default(), &egress).expect("a transport");
        Self { url, transport, requests }
    }

    fn repository(&self, indexes: &Arc<Indexes>) -> Repository {
        let access = Connection::new(
            self.transport.clone(),
            TransportOptions::default(),
            Credential::Anonymous,
        );
        Repository::new(&self.url, access, indexes.clone()).expect("a URL")
    }
}

/// CPU seconds of this process so far, in units of 1/100 s.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux's /proc");
    let fields: Vec<&str> =
        stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    let ticks: u32 =
        fields[11..=12].iter().map(|field| field.parse::<u32>().expect("a number")).sum();
    f64::from(ticks) / 100.0
}

/// `VmRSS` or `VmHWM` of this process in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux's /proc");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    let kib: u32 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    f64::from(kib) / 1024.0
}

async fn measured<T>(what: &str, server: &Server, work: impl Future<Output = T>) -> T {
    // "5" resets VmHWM to VmRSS.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux's /proc");
    let (before, asked) = (memory("VmRSS"), server.requests.load(Ordering::Relaxed));
    let (started, used) = (Instant::now(), cpu());
    let result = work.await;
    println!(
        "| {what} | {} | {:.2} | {:.2} | {:.0} |",
        server.requests.load(Ordering::Relaxed) - asked,
        started.elapsed().as_secs_f64(),
        cpu() - used,
        (memory("VmHWM") - before).max(0.0),
    );
    result
}

async fn bench(name: &str, server: &Server) {
    let indexes = Arc::default();
    let one = server.repository(&indexes);
    let hour = Duration::from_secs(3600);
    let found =
        measured(&format!("{name}, one chart of it"), server, one.versions("chart-123", hour))
            .await;
    let found = found.expect("the chart");
    assert_eq!((found.versions.len(), found.problems), (VERSIONS, Vec::new()));
    measured(&format!("{name}, not changed"), server, one.versions("chart-123", Duration::ZERO))
        .await
        .expect("the chart");

    let indexes = Arc::default();
    let all: Vec<Repository> = (0..RESOURCES).map(|_| server.repository(&indexes)).collect();
    let asked = server.requests.load(Ordering::Relaxed);
    let wanted = stream::iter(all.iter().enumerate().map(|(i, repository)| async move {
        repository
            .versions(&format!("chart-{}", i % CHARTS), hour)
            .await
            .expect("the chart")
            .versions
            .len()
    }))
    .buffer_unordered(JOBS)
    .collect::<Vec<_>>();
    let found =
        measured(&format!("{name}, {RESOURCES} resources, {JOBS} at a time"), server, wanted).await;
    assert!(found.iter().all(|versions| *versions == VERSIONS));
    assert_eq!(server.requests.load(Ordering::Relaxed) - asked, 1, "one download for all of them");
}

fn main() {
    // Each case has its own process, so that none starts with the memory of another.
    let Some(encoding) =
        std::env::args().find(|argument| ["plain", "gzip"].contains(&argument.as_str()))
    else {
        println!(
            "| case | requests | seconds | CPU seconds | peak MiB above idle |\n\
             |---|---|---|---|---|"
        );
        for encoding in ["plain", "gzip"] {
            let program = std::env::current_exe().expect("our path");
            assert!(
                std::process::Command::new(program)
                    .arg(encoding)
                    .status()
                    .expect("it runs")
                    .success()
            );
        }
        return;
    };
    let text = index();
    let (body, header) = if encoding == "gzip" {
        let mut deflated = GzEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(text.as_bytes()).expect("memory");
        (deflated.finish().expect("memory"), Some("gzip"))
    } else {
        (text.into_bytes(), None)
    };
    let name = format!("{encoding}, {:.1} MB", body.len() as f64 / 1e6);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { bench(&name, &Server::start(body.into(), header).await).await });
}
