//! `ecr-sync crd`: the CustomResourceDefinition.

use std::process::ExitCode;

use clap::Args;

use super::screen::Screen;
use crate::api::v1alpha1::crd_yaml;

/// Prints the CustomResourceDefinition, for `kubectl apply -f -`
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(Arguments {}: Arguments, screen: &Screen) -> ExitCode {
    match crd_yaml() {
        Ok(yaml) => {
            screen.out(&yaml);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}
