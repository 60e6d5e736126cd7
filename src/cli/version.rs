//! `ecr-sync version`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// Prints the version
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// One line.
    #[default]
    Text,
    /// A JSON object, with the version of the resource.
    Json,
}

#[allow(clippy::print_stdout, reason = "printing is what this command is for")]
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    match arguments.output {
        Output::Text => println!("ecr-sync {version}"),
        Output::Json => {
            println!("{}", serde_json::json!({"version": version, "apiVersion": "ecr-sync.io/v1alpha1"}));
        }
    }
    ExitCode::SUCCESS
}
