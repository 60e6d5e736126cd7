//! The operator as a process.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testbed::process::Process;

use super::{Rig, eventually};

/// The variable with the file of a cgroup that takes the id of a process.
pub(super) const CGROUP: &str = "TEST_CGROUP";

/// A running operator. Dropping it kills it.
pub struct Operator {
    process: Process,
    address: String,
}

impl Operator {
    pub(super) async fn start(
        rig: &Rig,
        kubeconfig: &Path,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let aws = rig.aws_environment();
        let aws = aws.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = aws.chain(environment.iter().copied()).collect();
        let operator = Self::begin(rig, kubeconfig, flags, &environment);
        operator.ready().await;
        operator
    }

    /// Starts the operator with only this environment for AWS. Returns at once.
    pub(super) fn begin(
        rig: &Rig,
        kubeconfig: &Path,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log =
            rig.folder().join(format!("operator-{}.log", COUNT.fetch_add(1, Ordering::Relaxed)));
        let port = testbed::process::free_port().expect("a port");
        let address = format!("127.0.0.1:{port}");
        let is_not_spread = !flags.iter().any(|flag| flag.starts_with("--startup-spread"));
        // The shell moves itself into the cgroup, if there is one, and becomes the operator.
        let mut command = Command::new("/bin/sh");
        let script = format!("if [ \"${CGROUP}\" ]; then echo $$ >\"${CGROUP}\"; fi; exec \"$@\"");
        command
            .args(["-ec", &script, "sh", env!("CARGO_BIN_EXE_ecr-sync")])
            .args(["controller", "--listen", &address])
            .args(flags)
            // Tests of other things do not wait for the first checks.
            .args(is_not_spread.then_some("--startup-spread=0s"))
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("LOG_LEVEL", "info,ecr_sync=debug")
            // The sources of tests are on this machine.
            .env("ALLOW_PRIVATE_SOURCES", "127.0.0.0/8")
            // Tests of other things may prepare repositories. The default is tested in ownership.
            .env("ADOPTION", "*")
            .envs(environment.iter().copied());
        let process = Process::spawn("ecr-sync", &command, &log).expect("the operator starts");
        Self { process, address }
    }

    /// Starts an installed operator, with the arguments of its Deployment except the address, and
    /// with only `environment`. Returns at once.
    pub fn installed(log: &Path, arguments: &[String], environment: &[(String, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
        command.env_clear().envs(environment.iter().cloned());
        Self::run(log, command, arguments)
    }

    /// Like [`Operator::installed`], with a command that ends where these arguments begin.
    pub fn run(log: &Path, mut command: Command, arguments: &[String]) -> Self {
        let port = testbed::process::free_port().expect("a port");
        let address = format!("127.0.0.1:{port}");
        command.args(arguments.iter().map(|argument| argument.replace("0.0.0.0:8080", &address)));
        let process = Process::spawn("ecr-sync", &command, log).expect("the operator starts");
        Self { process, address }
    }

    /// Waits until /readyz says ok.
    pub async fn ready(&self) {
        eventually("ready", async || {
            self.process.alive().expect("the operator runs");
            self.get("/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Status and body of a page; `None` while the port is closed.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = testbed::http::client()
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The exit code once it has ended.
    pub fn exited(&self) -> Option<i32> {
        self.process.exited()
    }

    /// The last lines of its log.
    pub fn log_end(&self, lines: usize) -> String {
        self.process.tail(lines)
    }

    pub fn log(&self) -> String {
        self.process.tail(usize::MAX)
    }

    /// SIGTERM; returns the exit code.
    pub async fn terminate(&self) -> i32 {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(10)).await.expect("it ends in time")
    }

    /// Waits until it exits.
    pub async fn exit_code(&self) -> i32 {
        self.process.wait(super::DEADLINE).await.expect("it ends")
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.process.kill();
        self.process.wait(Duration::from_secs(10)).await.expect("it ends");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- operator ---\n{}\n--- end ---", self.process.tail(100));
        }
    }
}
