//! Time from the start of the operator until `/readyz` is ok: a real API server with the definition
//! and the permissions of `deploy/rbac.yaml`, a cold process each time. `make bench` runs it. It
//! fails if the median is one second or more.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use testbed::cluster::Cluster;
use testbed::ecr::{self, StandIn};
use testbed::process::{Process, free_port};
use testbed::{Error, http};

const RUNS: usize = 20;
/// The limit that the project promises.
const MOST: Duration = Duration::from_secs(1);
const ACCOUNT: &str = "123456789012";
/// Timeout for a process that does not become ready.
const DEADLINE: Duration = Duration::from_secs(30);

async fn prepare(cluster: &Cluster) -> Result<std::path::PathBuf, Error> {
    cluster.apply(&ecr_sync::api::v1alpha1::crd_yaml()?).await?;
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/ecrrepositorysyncs.ecr-sync.io",
        "--timeout=60s",
    ];
    cluster.kubectl(&established).await?;
    cluster.create_namespace("ecr-sync-system").await?;
    cluster
        .apply(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml"))?)
        .await?;
    cluster.service_account_kubeconfig("ecr-sync-system", "ecr-sync").await
}

/// Starts the operator as the kubelet would. The time includes the supervisor's shell.
async fn start(
    folder: &std::path::Path,
    kubeconfig: &std::path::Path,
    ecr: &StandIn,
) -> Result<Duration, Error> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    command
        .args(["controller", "--listen", &address])
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_ENDPOINT_URL", ecr.endpoint())
        .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_REGION", "eu-west-1");
    let (client, url) = (http::client(), format!("http://{address}/readyz"));
    let started = Instant::now();
    let process = Process::spawn("ecr-sync", &command, &folder.join("operator.log"))?;
    while started.elapsed() < DEADLINE {
        if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let took = started.elapsed();
            process.stop().await?;
            return Ok(took);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("not ready after {DEADLINE:?}: {}", process.tail(20)).into())
}

async fn measure() -> Result<bool, Error> {
    let folder = testbed::scratch::folder("start")?;
    let cluster = Cluster::start(folder.join("cluster")).await?;
    let ecr = StandIn::start(ecr::Config::default()).await?;
    let kubeconfig = prepare(&cluster).await?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(start(&folder, &kubeconfig, &ecr).await?);
    }
    times.sort();
    let (median, slowest) = (times[RUNS / 2], times[RUNS - 1]);
    println!("| starts | median s to ready | slowest s |\n|---|---|---|");
    println!("| {RUNS} | {:.3} | {:.3} |", median.as_secs_f64(), slowest.as_secs_f64());
    cluster.stop().await?;
    Ok(median < MOST)
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(measure()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the median is not below {MOST:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
