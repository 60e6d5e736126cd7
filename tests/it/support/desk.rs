//! `ecr-sync sync` as a user runs it: a folder, a stand-in, a proxy in front of a source, and no
//! cluster.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use testbed::ecr::{self, RepositoryView, StandIn};
use testbed::proxy::Proxy;

use super::{ACCOUNT, REGION};

/// The parts of one run.
pub struct Desk {
    pub folder: tempfile::TempDir,
    pub ecr: StandIn,
    /// The proxy in front of the source registry.
    pub source: Proxy,
}

impl Desk {
    /// A desk whose source is the plain HTTP registry at `upstream`.
    pub async fn before(upstream: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            ecr: StandIn::start(ecr::Config::default()).await.expect("the stand-in starts"),
            source: Proxy::start(upstream).await.expect("the proxy starts"),
        }
    }

    /// One entry of a file: copies tags of a source repository to the repository `name`.
    pub fn entry(&self, name: &str, repository: &str, tags: &[impl AsRef<str>]) -> String {
        let tags: Vec<_> = tags.iter().map(|tag| format!("{:?}", tag.as_ref())).collect();
        let host = self.source.host();
        format!(
            "- {{name: {name}, image: {{pull_url: \"{host}/{repository}\", tags: [{}], insecure: \
             true}}}}\n",
            tags.join(", ")
        )
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The command in the folder, with its own home directory and the stand-in as AWS.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("AWS_ENDPOINT_URL", self.ecr.endpoint())
            .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_REGION", REGION);
        command
    }

    /// Starts the command in the folder, with its output in the file `log`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let log = self.folder.path().join("log");
        let log = File::options().create(true).append(true).open(log).expect("a file");
        let mut command = self.command(arguments);
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        Running(command.spawn().expect("it starts"))
    }

    /// The output of the commands that were started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Syncs a file with these entries.
    pub async fn sync(&self, text: &str, flags: &[&str]) -> Run {
        self.write("all.yaml", text);
        let output = output(self.command(&[&["sync", "all.yaml"], flags].concat())).await;
        Run::new(&output)
    }

    /// The repository in the stand-in.
    pub fn repository(&self, name: &str) -> RepositoryView {
        self.ecr.repository(ACCOUNT, REGION, name).unwrap_or_else(|| panic!("{name} is not in ECR"))
    }
}

/// A command that was started. Dropping it kills it.
pub struct Running(Child);

impl Running {
    /// SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }

    /// The exit code once it has ended; `None` before, and if a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.0.try_wait().expect("it is a child").and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("it runs")
}

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    /// Both outputs, for messages.
    pub text: String,
}

impl Run {
    fn new(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        Self { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}
