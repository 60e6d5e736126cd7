//! `ecr-sync`: see the library's documentation.

use std::process::ExitCode;

use ecr_sync::cli;

fn main() -> ExitCode {
    let arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    // One provider is compiled in; said aloud, since a second one would make rustls panic at the
    // first connection.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let code = runtime.block_on(cli::run(arguments));
    // What still blocks a thread, such as a write that nobody reads, does not hold up the end.
    runtime.shutdown_background();
    code
}
