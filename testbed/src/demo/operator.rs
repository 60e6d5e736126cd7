//! The operator in the demo: the binary next to this one, with the permissions of
//! deploy/rbac.yaml.

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
    /// Returns the path of the program.
    pub(super) fn program() -> Result<PathBuf, Error> {
        let here = std::env::current_exe()
            .map_err(|e| format!("cannot find the path of this program: {e}"))?;
        let program = here.with_file_name("ecr-sync");
        if program.is_file() {
            Ok(program)
        } else {
            Err(format!("{} does not exist: run `make build`", program.display()).into())
        }
    }

    /// Starts the operator, and returns when `/readyz` answers ok.
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
        // Variables of the user's environment are meant for other clusters and accounts.
        for name in ["WATCH_NAMESPACE", "CLUSTER_ID", "ECR_ACCOUNT_ID", "ECR_REGION"] {
            command.env_remove(name);
        }
        command.env("KUBECONFIG", kubeconfig).env("LOG_LEVEL", "info").env("LOG_FORMAT", "text");
        // The sources of the demo are on this machine.
        command.env("ALLOW_PRIVATE_SOURCES", "127.0.0.0/8");
        shell.set_aws(&mut command);

        let process = Process::spawn("ecr-sync", &command, &dir.join("operator.log"))?;
        process::wait_ready(
            &process,
            http::client().get(format!("http://{address}/readyz")),
            READY,
        )
        .await?;
        Ok(Self { process, address })
    }

    /// Returns `127.0.0.1:PORT` of /metrics and /readyz.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn log(&self) -> &Path {
        self.process.log()
    }

    /// Returns the last lines of the log.
    pub(super) fn tail(&self, lines: usize) -> String {
        self.process.tail(lines)
    }

    /// Returns an error if the operator has ended.
    pub(super) fn alive(&self) -> Result<(), Error> {
        match self.process.exited() {
            None => Ok(()),
            Some(code) => {
                Err(format!("the operator ended unexpectedly, with exit code {code}").into())
            }
        }
    }

    /// Returns a page of the HTTP server.
    pub(super) async fn page(&self, path: &str) -> Result<String, Error> {
        let url = format!("http://{}{path}", self.address);
        let answer =
            http::client().get(&url).send().await.map_err(|e| format!("cannot read {url}: {e}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            Ok(text)
        } else {
            Err(format!("{url} answers {status}: {text}").into())
        }
    }

    /// Sends SIGTERM, and returns the time until the operator ended.
    ///
    /// # Errors
    /// When the operator had to be killed, or its exit code is not 0.
    pub(super) async fn stop(&self) -> Result<Duration, Error> {
        self.alive()?;
        let start = Instant::now();
        match self.process.stop().await? {
            0 => Ok(start.elapsed()),
            code => Err(format!(
                "the operator ended {:.1} s after SIGTERM with exit code {code}; expected 0 within \
                 {} s",
                start.elapsed().as_secs_f64(),
                process::GRACE.as_secs()
            )
            .into()),
        }
    }
}
