//! The operator: the binary next to this one, as a process with the rights of deploy/rbac.yaml.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::shell::Shell;
use crate::process::{self, Process};
use crate::{Error, http};

const READY: Duration = Duration::from_secs(30);

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Operator {
    process: Process,
    address: String,
}

impl Operator {
    /// The program to run.
    pub(super) fn program() -> Result<PathBuf, Error> {
        let here = std::env::current_exe()
            .map_err(|e| format!("cannot tell where this program is: {e}"))?;
        let program = here.with_file_name("ecr-sync");
        if program.is_file() {
            Ok(program)
        } else {
            Err(format!("{} is not there: run `make build`", program.display()).into())
        }
    }

    /// Starts it, and returns when `/readyz` says ok.
    pub(super) async fn start(
        program: &Path,
        dir: &Path,
        kubeconfig: &Path,
        shell: &Shell,
    ) -> Result<Self, Error> {
        process::retry_ports(async |[port]: [u16; 1]| {
            Self::start_at(port, program, dir, kubeconfig, shell).await
        })
        .await
    }

    async fn start_at(
        port: u16,
        program: &Path,
        dir: &Path,
        kubeconfig: &Path,
        shell: &Shell,
    ) -> Result<Self, Error> {
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["controller", "--listen", &address, "--startup-spread", "0s"]);
        // What a user's environment says about other clusters and accounts is not meant for this
        // one.
        for name in ["WATCH_NAMESPACE", "CLUSTER_ID", "ECR_ACCOUNT_ID", "ECR_REGION"] {
            command.env_remove(name);
        }
        command.env("KUBECONFIG", kubeconfig).env("LOG_LEVEL", "info").env("LOG_FORMAT", "text");
        shell.give_aws(&mut command);
        let process = Process::spawn("ecr-sync", &command, &dir.join("operator.log"))?;
        process::wait_ready(
            &process,
            http::client().get(format!("http://{address}/readyz")),
            READY,
        )
        .await?;
        Ok(Self { process, address })
    }

    /// `127.0.0.1:PORT` of /metrics and /readyz.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The last lines of its log.
    pub(super) fn tail(&self, lines: usize) -> String {
        self.process.tail(lines)
    }

    /// `Err` when it has ended.
    pub(super) fn alive(&self) -> Result<(), Error> {
        match self.process.exited() {
            None => Ok(()),
            Some(code) => {
                Err(format!("the operator has ended by itself, with exit code {code}").into())
            }
        }
    }

    /// A page of its HTTP server.
    pub(super) async fn page(&self, path: &str) -> Result<String, Error> {
        let url = format!("http://{}{path}", self.address);
        let answer =
            http::client().get(&url).send().await.map_err(|e| format!("cannot read {url}: {e}"))?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status.is_success() {
            Ok(text)
        } else {
            Err(format!("{url} says {status}: {text}").into())
        }
    }

    /// SIGTERM. Returns how long it took to end.
    ///
    /// # Errors
    /// When it had to be killed, or says that something went wrong.
    pub(super) async fn stop(&self) -> Result<Duration, Error> {
        self.alive()?;
        let told = Instant::now();
        match self.process.stop().await? {
            0 => Ok(told.elapsed()),
            code => Err(format!(
                "the operator ended with exit code {code} {:.1} s after SIGTERM; 0 within {} s was expected",
                told.elapsed().as_secs_f64(),
                process::GRACE.as_secs()
            )
            .into()),
        }
    }
}
