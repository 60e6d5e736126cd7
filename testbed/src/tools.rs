//! External programs: their paths, and runs to their end.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::Error;

/// Longest time of a program that is run to its end.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Returns the path of a tool: etcd, kube-apiserver and kubectl from `KUBEBUILDER_ASSETS` if it has
/// them; all others from `ECR_SYNC_TOOLS_BIN` or `target/tools/bin`, where `make tools` puts them.
///
/// # Errors
/// When the tool is in neither folder.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    if matches!(name, "etcd" | "kube-apiserver" | "kubectl")
        && let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS")
    {
        let path = Path::new(&assets).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let bin = std::env::var_os("ECR_SYNC_TOOLS_BIN")
        .map_or_else(|| workspace().join("target/tools/bin"), PathBuf::from);
    let path = bin.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{name} is not in {}: run `make tools`", bin.display()).into())
}

/// Runs a tool to its end and returns its standard output.
///
/// # Errors
/// As [`Call::output`].
pub async fn run(tool: &str, args: &[&str], env: &[(&str, &str)]) -> Result<String, Error> {
    let mut call = Call::new(tool)?.args(args);
    for (key, value) in env {
        call = call.env(key, value);
    }
    call.output().await
}

/// One run of a tool to its end.
#[derive(Debug)]
pub struct Call {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    input: Vec<u8>,
    deadline: Duration,
}

impl Call {
    /// A run of a tool, see [`find`].
    ///
    /// # Errors
    /// When there is no such tool.
    pub fn new(tool: &str) -> Result<Self, Error> {
        let program = find(tool)?;
        Ok(Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            input: Vec::new(),
            deadline: DEADLINE,
        })
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets standard input; without it, there is none.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets another limit than [`DEADLINE`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the tool and returns its standard output.
    ///
    /// # Errors
    /// When the tool cannot be started, its exit code is not 0 (the message has its standard
    /// error), or it is still running at the deadline (it is killed).
    pub async fn output(self) -> Result<String, Error> {
        let line = shown(self.program.as_os_str(), self.args.iter());
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().map_err(|e| format!("cannot run `{line}`: {e}"))?;
        let stdin = child.stdin.take();
        let work = async {
            // A program that does not read all of its input is judged by its exit code.
            let feed = async {
                if let Some(mut stdin) = stdin {
                    let _ = stdin.write_all(&self.input).await;
                }
            };
            tokio::join!(feed, child.wait_with_output()).1
        };
        let output = tokio::time::timeout(self.deadline, work)
            .await
            .map_err(|_| format!("`{line}` was still running after {:?}", self.deadline))?
            .map_err(|e| format!("cannot run `{line}`: {e}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{line}` failed ({}): {}", output.status, stderr.trim()).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Returns a command as typed, for messages.
fn shown(program: &OsStr, args: impl Iterator<Item = impl AsRef<OsStr>>) -> String {
    let mut line = program.to_string_lossy().into_owned();
    for arg in args {
        line.push(' ');
        line.push_str(&arg.as_ref().to_string_lossy());
    }
    line
}
