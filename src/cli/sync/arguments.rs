//! Flags of `ecr-sync sync`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::api::v1alpha1::TagStrategy;
use crate::cli::flags::{self, duration};
use crate::cli::switch::Switch;

/// Syncs the repositories of YAML files once, without a cluster
///
/// Reads EcrRepositorySync manifests, and lists of repositories (at top level or under
/// `repositories:`):
///
///   - name: nginx-app
///     image: {pull_url: "docker.io/library/nginx", tags: ["1.27", "latest"]}
///     lifecyclePolicy: {rules: [...]}
///
/// All files are read first: if any file is invalid, all problems are reported and nothing is
/// synced.
///
/// Logins for sources are read from the docker or podman config, including its credential helpers,
/// and from the environment: ECR_SYNC_USERNAME_<HOST> and ECR_SYNC_PASSWORD_<HOST>, where <HOST> is
/// the host with _ in place of each . - and :
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub(in crate::cli) struct Arguments {
    /// Files, or folders to read recursively (*.yml, *.yaml, *.json)
    ///
    /// Default: the folder of --config.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,

    /// Folder to read if no PATH is given
    ///
    /// Default: REPOSITORIES_DIR, or ./repositories.
    #[arg(long, value_name = "DIR", conflicts_with = "paths")]
    pub(super) config: Option<PathBuf>,

    /// Sync only repositories whose name matches, for example `team/*`; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) selector: Vec<String>,

    /// Tag strategy for images of list entries that do not set one
    #[arg(long, value_enum, default_value_t, value_name = "STRATEGY")]
    pub(super) tag_strategy: Strategy,

    /// Show the changes that would be made, and make none
    #[arg(long, env = "DRY_RUN", switch = false)]
    pub(super) dry_run: bool,

    /// With --dry-run: exit with code 2 if something would be changed
    #[arg(long)]
    pub(super) exit_code: bool,

    /// Also sync repositories that an operator owns; the owner tag is not changed
    #[arg(long, switch = false)]
    pub(super) take_over: bool,

    /// Repositories to sync at the same time
    #[arg(
        long,
        env = "MAX_PARALLEL_OPERATIONS",
        default_value_t = 5,
        value_name = "N",
        value_parser = flags::parallel()
    )]
    pub(super) max_parallel_operations: u16,

    /// Stop the whole run at the first repository that fails
    #[arg(long)]
    pub(super) fail_fast: bool,

    /// Stop the run after this time (30m, for example), in the same way as Ctrl-C
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Option<Duration>,

    /// YAML table of mirrors to read images from (docs/mirrors.md)
    ///
    /// `mirrors: [{match: docker.io/library, rewrite: mirror.example.com/hub}]`: match is a host,
    /// or a host and the beginning of a path; the longest match is used. Optional fields:
    /// credentialsFile (a docker config), fallback, insecure and direct. In GitLab CI, the
    /// dependency proxy is used as a mirror of docker.io if its four CI_DEPENDENCY_PROXY_ variables
    /// are set.
    #[arg(long, env = "MIRRORS_FILE", value_name = "FILE")]
    pub(super) mirrors_file: Option<PathBuf>,

    /// Read an image from its original registry if the mirror fails
    #[arg(long)]
    pub(super) mirror_fallback: bool,

    /// Format of standard output
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Output,

    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,

    /// Print only the summary and the failures: no progress bars, no line per repository
    #[arg(long, short)]
    pub(in crate::cli) quiet: bool,

    /// Accepted for pipelines of the older tool; a container runtime is not needed
    #[arg(long, env = "CONTAINER_RUNTIME", hide = true, action = ArgAction::Set)]
    pub(super) container_runtime: Option<String>,

    #[command(flatten)]
    pub(super) memory: flags::Memory,

    #[command(flatten)]
    pub(super) sources: flags::Sources,

    #[command(flatten)]
    pub(super) aws: flags::Aws,

    #[command(flatten)]
    pub(super) defaults: flags::Defaults,
}

impl Arguments {
    /// Whether a line is printed for each repository.
    pub(super) fn prints_lines(&self) -> bool {
        self.output == Output::Text && !self.quiet
    }
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync sync                                  sync the repositories in ./repositories
  ecr-sync sync --dry-run repositories/app.yaml  show the changes for one file
  ecr-sync sync --dry-run --exit-code            in CI: exit code 2 if ECR differs from the files
  ecr-sync sync --selector 'team/*' --output json --report report.json

Exit codes:
  0   everything is done
  1   something failed, and everything else is done; or the run was stopped (Ctrl-C, --timeout,
      --fail-fast)
  2   with --dry-run --exit-code: something would be changed
  64  a flag or a file is invalid, or AWS identity or region is missing; nothing was done";

/// Format of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object; log lines are on standard error as always.
    Json,
}

/// Values of --tag-strategy.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(in crate::cli) enum Strategy {
    /// Copy each tag from the source's tag of the same name.
    #[default]
    Mirror,
    /// Push the tag in pull_url as every tag in tags.
    Retag,
}

impl From<Strategy> for TagStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Mirror => Self::Mirror,
            Strategy::Retag => Self::Retag,
        }
    }
}
