//! `ecr-sync completions`: scripts for bash, zsh, fish and others.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::screen::Screen;

/// Prints a completion script for a shell
///
/// Example for bash: ecr-sync completions bash > /etc/bash_completion.d/ecr-sync
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "ecr-sync",
        &mut script,
    );
    screen.out(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
