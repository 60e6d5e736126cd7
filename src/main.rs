//! `ecr-sync`: see the library's documentation.

use std::process::ExitCode;

use clap::Parser;
use ecr_sync::cli;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    // One provider is compiled in; said aloud, since a second one would make rustls panic at the first connection.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(cli::run(arguments)),
        Err(_) => ExitCode::FAILURE,
    }
}
