//! Environment of kubectl, crane, helm and the AWS CLI in the demo: for its own calls, for the
//! operator, and as a file to source in another terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ACCOUNT, REGION};
use crate::ecr::StandIn;
use crate::{Error, tools};

/// Variables that take precedence over those of the demo, or are sent with them.
const UNWANTED: [&str; 4] =
    ["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"];

/// Proxies, which the demo does not need. The tools read NO_PROXY, but kube's client does not.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Environment variables, and the folder that they refer to.
#[derive(Debug)]
pub(super) struct Shell {
    dir: PathBuf,
    aws: Vec<(&'static str, String)>,
    kubeconfig: PathBuf,
}

impl Shell {
    pub(super) fn new(dir: &Path, ecr: &StandIn, kubeconfig: PathBuf) -> Result<Self, Error> {
        let no_proxy: Vec<_> =
            std::env::var("NO_PROXY").into_iter().chain(["127.0.0.1".to_owned()]).collect();
        let no_proxy = no_proxy.join(",");

        // A separate config: the user's may have a profile with another endpoint, or a pager.
        let config = dir.join("aws.config");
        let text = format!("[default]\nregion = {REGION}\ncli_pager =\n");
        fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;

        let config = config.display().to_string();
        let aws = vec![
            ("AWS_ENDPOINT_URL", ecr.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT)),
            ("AWS_SECRET_ACCESS_KEY", "any".to_owned()),
            ("AWS_CONFIG_FILE", config.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", config),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("NO_PROXY", no_proxy.clone()),
            ("no_proxy", no_proxy),
        ];
        Ok(Self { dir: dir.to_owned(), aws, kubeconfig })
    }

    /// Returns the folder of the docker config with the logins for source and ECR.
    pub(super) fn docker_config(&self) -> PathBuf {
        self.dir.join("docker")
    }

    /// Returns the variables of helm: it shares the docker logins, and has a separate home, since the
    /// user's may have other repositories and plugins.
    fn helm(&self) -> [(&'static str, String); 4] {
        let home = self.dir.join("helm").display().to_string();
        let logins = self.docker_config().join("config.json").display().to_string();
        [
            ("HELM_REGISTRY_CONFIG", logins),
            ("HELM_CACHE_HOME", home.clone()),
            ("HELM_CONFIG_HOME", home.clone()),
            ("HELM_DATA_HOME", home),
        ]
    }

    /// Sets the AWS variables of a command.
    pub(super) fn set_aws(&self, command: &mut Command) {
        for name in UNWANTED.iter().chain(&PROXIES) {
            command.env_remove(name);
        }
        command.envs(self.aws.iter().map(|(name, value)| (*name, value)));
    }

    /// Runs a tool, and returns its output without the last line end.
    pub(super) async fn run(&self, tool: &str, args: &[&str]) -> Result<String, Error> {
        self.run_with_input(tool, args, "").await
    }

    /// Runs a tool like [`Shell::run`], with standard input.
    pub(super) async fn run_with_input(
        &self,
        tool: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String, Error> {
        let mut call = tools::Call::new(tool)?.args(args).input(input);
        for (name, value) in self.aws.iter().chain(&self.helm()) {
            call = call.env(name, value);
        }
        // Calls inherit the environment of this process; these variables can only be overwritten.
        call = call.env("AWS_PROFILE", "default").env("AWS_SESSION_TOKEN", "");
        call = call.env("KUBECONFIG", &self.kubeconfig).env("DOCKER_CONFIG", self.docker_config());
        Ok(call.output().await?.trim_end().to_owned())
    }

    /// Writes the file for other terminals, and returns its path.
    pub(super) fn write_file(&self) -> Result<PathBuf, Error> {
        let mut text = format!("unset {}\n", UNWANTED.join(" "));
        for (name, value) in self.aws.iter().chain(&self.helm()) {
            text.push_str(&format!("export {name}={}\n", quoted(value)));
        }
        text.push_str(&format!(
            "export KUBECONFIG={}\n",
            quoted(&self.kubeconfig.display().to_string())
        ));
        text.push_str(&format!(
            "export DOCKER_CONFIG={}\n",
            quoted(&self.docker_config().display().to_string())
        ));

        for tool in ["crane", "kubectl"] {
            if let Some(folder) = tools::find(tool)?.parent() {
                text.push_str(&format!("PATH={}:$PATH\n", quoted(&folder.display().to_string())));
            }
        }

        let path = self.dir.join("env");
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path)
    }
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
