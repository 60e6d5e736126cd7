//! Cost of the one-shot command without copies: repositories that are in sync, the start, and large
//! files.
//!
//! `make bench` runs it; `docs/benchmarks.md` has the limits.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ecr_sync::api::v1alpha1::TagStrategy;
use ecr_sync::inventory;
use testbed::ecr::{self, StandIn};
use testbed::generated::Generated;
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Then};

const ACCOUNT: &str = "123456789012";
/// Repositories of a run without differences.
const REPOSITORIES: usize = 100;
/// Latency of each server.
const LATENCY: Duration = Duration::from_millis(20);
/// Entries of a large file.
const ENTRIES: usize = 10_000;
/// Number of runs; the median counts.
const RUNS: usize = 9;

/// Only the message is used.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(bench())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    println!("| number | limit | median of {RUNS} | met |\n|---|---|---|---|");
    let (took, requests) = in_sync(folder.path()).await?;
    let what =
        format!("{REPOSITORIES} repositories in sync, 20 at once, +20 ms ({requests} requests): s");
    row(&what, 3.0, took.as_secs_f64());
    row("start to first request: ms", 50.0, first_request(folder.path())?.as_secs_f64() * 1e3);
    row(&format!("{ENTRIES} entries read: s"), 1.0, entries(folder.path())?.as_secs_f64());
    Ok(())
}

fn row(what: &str, bound: f64, measured: f64) {
    let met = if measured < bound { "yes" } else { "**no**" };
    println!("| {what} | < {bound} | {measured:.2} | {met} |");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// `ecr-sync sync` over a file, with the testbed for AWS.
fn sync(folder: &Path, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    command
        .args(["sync", "all.yaml", "--quiet"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_REGION", "eu-west-1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Returns the duration of a run without differences, and its number of requests.
async fn in_sync(folder: &Path) -> Result<(Duration, usize), Error> {
    let source = Generated::start(&[("app", 2, 1024)]).await?;
    let (proxy, ecr) =
        (Proxy::start(source.host()).await?, StandIn::start(ecr::Config::default()).await?);
    let entry = |number| {
        let host = proxy.host();
        format!(
            "- {{name: team/app-{number}, image: {{pull_url: '{host}/app', tags: ['1'], insecure: \
             true}}}}\n"
        )
    };
    std::fs::write(folder.join("all.yaml"), (0..REPOSITORIES).map(entry).collect::<String>())?;
    let run = || {
        let mut command = sync(folder, &ecr.endpoint(), &["--max-parallel-operations", "20"]);
        async move {
            let started = Instant::now();
            let status = tokio::task::spawn_blocking(move || command.status()).await??;
            if status.success() { Ok(started.elapsed()) } else { Err(Error::from("a run failed")) }
        }
    };
    run().await?;
    proxy.faults().add(Fault::new(Match::any(), Then::Delay(LATENCY)));
    ecr.set_latency(LATENCY);
    let (at_source, at_ecr) = (proxy.mark(), ecr.mark());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(run().await?);
    }
    if ecr.log_since(at_ecr).iter().any(|request| request.is_write()) {
        return Err("a repository was not in sync".into());
    }
    let requests = proxy.log_since(at_source).len() + ecr.log_since(at_ecr).len();
    Ok((median(times), requests / RUNS))
}

/// Returns the time from process start to the first request.
fn first_request(folder: &Path) -> Result<Duration, Error> {
    std::fs::write(folder.join("all.yaml"), "- name: app\n")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let mut child = sync(folder, &endpoint, &[]).spawn()?;
        let (mut connection, _) = listener.accept()?;
        // The time ends when the first bytes arrive, not when the connection opens.
        connection.read_exact(&mut [0])?;
        times.push(started.elapsed());
        child.kill()?;
        child.wait()?;
    }
    Ok(median(times))
}

/// Returns the time to read a large file.
fn entries(folder: &Path) -> Result<Duration, Error> {
    let file = folder.join("large.yaml");
    let entry = |number| {
        format!(
            "- name: team/app-{number}\n  image: {{pull_url: \"docker.io/library/nginx\", tags: \
             [\"1.27\", \"latest\"]}}\n  lifecyclePolicy:\n    rules:\n    \
             - rulePriority: 1\n      selection: {{tagStatus: any, countType: imageCountMoreThan, \
             countNumber: 10}}\n      action: {{type: expire}}\n"
        )
    };
    std::fs::write(&file, (0..ENTRIES).map(entry).collect::<String>())?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let read = inventory::read(std::slice::from_ref(&file), TagStrategy::default());
        times.push(started.elapsed());
        let read =
            read.map_err(|problems| problems.iter().map(ToString::to_string).collect::<String>())?;
        assert_eq!(read.len(), ENTRIES);
    }
    Ok(median(times))
}
