//! `ecr-sync convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::screen::Screen;
use super::sync::{Strategy, read_options, tell_problems};
use crate::inventory::{self, Manifest};

/// Prints the repositories of YAML files as EcrRepositorySync manifests
///
/// Reads what `sync` reads. Names are made valid and unique, repositories keep theirs; comments say
/// where a manifest comes from and what was changed. Syncing the files and applying the manifests
/// come to the same.
///
/// Logins are not part of it: a private source needs a Secret, and `secretRef` in the manifest.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Files, or folders that are read with everything below them (*.yml, *.yaml, *.json)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Namespace of the resources
    ///
    /// Default: none, which is that of whoever applies them.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// What the tags of a list entry's image stand for, where the entry does not say it
    #[arg(long, value_enum, default_value_t, value_name = "STRATEGY")]
    tag_strategy: Strategy,
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync convert repositories/ > manifests.yaml
  ecr-sync convert --namespace platform repositories/ | kubectl apply --dry-run=server -f -";

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let Arguments { paths, namespace, tag_strategy } = arguments;
    let entries = match inventory::read(paths, &read_options(*tag_strategy)) {
        Ok(entries) => entries,
        Err(problems) => return tell_problems(&problems, screen),
    };
    let manifests = inventory::manifests(&entries, namespace.as_deref());
    screen.out(&manifests.iter().map(Manifest::yaml).collect::<String>());
    ExitCode::SUCCESS
}
