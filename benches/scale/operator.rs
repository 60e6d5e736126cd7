//! The operator as a process, and what the kernel and its metrics tell about it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testbed::ecr::StandIn;
use testbed::http;
use testbed::process::{Process, free_port};

use crate::Error;
use crate::options::Build;

/// The account of all repositories.
pub const ACCOUNT: &str = "123456789012";
/// The region of all repositories.
pub const REGION: &str = "eu-west-1";
/// Timeout for a process that does not become ready.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running operator; dropping it kills it.
pub struct Operator {
    process: Process,
    address: String,
}

impl Operator {
    /// Starts a build and waits until it is ready.
    pub async fn start(
        build: &Build,
        folder: &Path,
        kubeconfig: &Path,
        ecr: &StandIn,
    ) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log: PathBuf = folder.join(format!("operator-{number}.log"));
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(&build.program);
        command
            .args(["controller", "--listen", &address, "--startup-spread", "0s"])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", format!("operator-{number}"))
            .env("ALLOW_PRIVATE_SOURCES", "127.0.0.0/8")
            .env("ADOPTION", "*")
            .env("AWS_ENDPOINT_URL", ecr.endpoint())
            .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_REGION", REGION);
        let operator = Self { process: Process::spawn("ecr-sync", &command, &log)?, address };
        operator.until("ready", || operator.page("/readyz")).await?;
        Ok(operator)
    }

    async fn until<T>(
        &self,
        what: &str,
        ask: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        loop {
            self.process.alive()?;
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if started.elapsed() > DEADLINE => {
                    return Err(format!("not {what}: {error}\n{}", self.process.tail(20)).into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// A page that is answered with 200.
    pub async fn page(&self, path: &str) -> Result<String, Error> {
        let answer = http::client().get(format!("http://{}{path}", self.address)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The sum of the series of a metric.
    pub async fn metric(&self, name: &str) -> Result<f64, Error> {
        let page = self.page("/metrics").await?;
        let of_metric =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        Ok(page.lines().filter(of_metric).filter_map(value).sum())
    }

    /// Waits until this process leads.
    pub async fn leads(&self) -> Result<(), Error> {
        let leads = async || match self.metric("leader_election_master_status").await? {
            0.0 => Err(Error::from("it does not lead")),
            _ => Ok(()),
        };
        self.until("the leader", leads).await
    }

    /// Resident memory, in MiB.
    pub fn rss(&self) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.ok_or("no VmRSS")? / 1024.0)
    }

    /// Processor time so far, in seconds.
    pub fn cpu(&self) -> Result<f64, Error> {
        /// Clock ticks in a second, which Linux has fixed for programs.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let times = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        Ok(times.sum::<f64>() / TICKS)
    }

    pub async fn stop(self) -> Result<(), Error> {
        self.process.stop().await?;
        Ok(())
    }

    pub async fn kill(self) -> Result<(), Error> {
        self.process.kill();
        self.process.wait(DEADLINE).await?;
        Ok(())
    }
}
