//! Blocks of commands of the documents, in a shell, as they stand there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use testbed::tools::{self, workspace};

use super::Site;

/// The commands of a document's section: its blocks of `sh`, in order.
pub(super) fn blocks(document: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(document)).expect("a document");
    let section = text.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.unwrap_or_else(|| panic!("{document} has no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

/// A shell in the root of the repository, with kubectl on a site's cluster.
#[derive(Clone)]
pub(super) struct Shell {
    environment: Vec<(String, String)>,
    folders: Vec<PathBuf>,
    folder: PathBuf,
    deadline: Duration,
}

impl Shell {
    pub(super) fn on(site: &Site) -> Self {
        let deadline = tools::DEADLINE;
        let shell =
            Self { environment: Vec::new(), folders: Vec::new(), folder: workspace(), deadline };
        let helm = site.folder.path().join("helm").display().to_string();
        shell
            .with_tools(&["kubectl", "helm"])
            .with("KUBECONFIG", site.cluster.kubeconfig().display().to_string())
            .with("HELM_CACHE_HOME", &helm)
            .with("HELM_CONFIG_HOME", &helm)
            .with("HELM_DATA_HOME", &helm)
    }

    /// With these tools and `ecr-sync` in PATH.
    pub(super) fn with_tools(mut self, names: &[&str]) -> Self {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_ecr-sync"));
        let tools = names.iter().map(|tool| tools::find(tool).expect("make tools"));
        for program in tools.chain([ours]) {
            self.folders.extend(program.parent().map(Path::to_owned));
        }
        self
    }

    /// In another folder.
    pub(super) fn folder(mut self, folder: &Path) -> Self {
        self.folder = folder.to_owned();
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Pastes a block, and returns what it prints. The first command that fails ends it.
    pub(super) async fn paste(&self, block: &str) -> String {
        let mut path: Vec<_> =
            self.folders.iter().map(|folder| folder.display().to_string()).collect();
        path.push(std::env::var("PATH").unwrap_or_default());
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(&self.folder)
            .env_remove("MAKEFLAGS")
            .env("PATH", path.join(":"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(self.deadline, shell.output()).await;
        let output = output.unwrap_or_else(|_| panic!("no end in {:?}: {block}", self.deadline));
        let output = output.expect("a shell");
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{block}\n{out}\n{err}");
        out.into_owned()
    }
}
