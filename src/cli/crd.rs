//! `ecr-sync crd`.

use std::process::ExitCode;

use clap::Args;

use crate::api::v1alpha1::crd_yaml;

/// Prints the CustomResourceDefinition, for `kubectl apply -f -`
#[derive(Debug, Args)]
pub(super) struct Arguments {}

#[allow(clippy::print_stdout, reason = "printing is what this command is for")]
pub(super) fn run(Arguments {}: Arguments) -> ExitCode {
    match crd_yaml() {
        Ok(yaml) => {
            print!("{yaml}");
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}
