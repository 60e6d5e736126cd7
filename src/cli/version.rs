//! `ecr-sync version`: of the program and of the resource.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::screen::Screen;

/// Prints the version
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// One line.
    #[default]
    Text,
    /// A JSON object with the API version of the resource, too.
    Json,
}

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let text = match arguments.output {
        Output::Text => format!("ecr-sync {version}"),
        Output::Json => {
            serde_json::json!({"version": version, "apiVersion": "ecr-sync.io/v1alpha1"})
                .to_string()
        }
    };
    screen.out(&(text + "\n"));
    ExitCode::SUCCESS
}
