//! `ecr-testbed`: the testbed as a program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::{demo, serve};

/// Runs ecr-sync for real on one machine, without AWS, a cluster or the internet
#[derive(Debug, Parser)]
#[command(name = "ecr-testbed", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Ecr(serve::Ecr),
    Cluster(serve::ClusterArguments),
    Upstream(serve::UpstreamArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Ecr(arguments) => serve::ecr(arguments).await,
        Command::Cluster(arguments) => serve::cluster(arguments).await,
        Command::Upstream(arguments) => serve::upstream(arguments).await,
    }
}
