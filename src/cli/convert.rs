//! `ecr-sync convert`: files of repositories -> manifests.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::screen::Screen;
use super::sync::{Strategy, report_problems};
use crate::inventory;

/// Prints the repositories of YAML files as EcrRepositorySync manifests
///
/// Reads the same files as `sync`. Resource names are made valid and unique; repositories keep
/// their names. Comments name the origin of each manifest and each change. Applying the
/// manifests has the same result as syncing the files.
///
/// Logins are not converted: for a private source, create a Secret and set `secretRef`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Files, or folders to read recursively (*.yml, *.yaml, *.json)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Namespace of the resources
    ///
    /// Default: none; kubectl's current namespace applies.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Tag strategy for images of list entries that do not set one
    #[arg(long, value_enum, default_value_t, value_name = "STRATEGY")]
    tag_strategy: Strategy,
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync convert repositories/ > manifests.yaml
  ecr-sync convert --namespace platform repositories/ | kubectl apply --dry-run=server -f -";

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let Arguments { paths, namespace, tag_strategy } = arguments;
    let entries = match inventory::read(paths, (*tag_strategy).into()) {
        Ok(entries) => entries,
        Err(problems) => return report_problems(&problems, screen),
    };
    let written: Vec<_> = entries.into_iter().map(|entry| entry.written).collect();
    screen.out(&inventory::manifests(&written, namespace.as_deref()));
    ExitCode::SUCCESS
}
