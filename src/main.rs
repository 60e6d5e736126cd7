//! `ecr-sync`: see the library's documentation.

// A release build lays out the nested futures of all commands here: the default of 128 is too low.
#![recursion_limit = "256"]

use std::process::ExitCode;

use ecr_sync::cli;

/// Stack of each thread in bytes. In a debug build, the futures of a pass nearly filled 2 MiB; the
/// deepest document is parsed with 1 MiB (see `nesting`).
const STACK: usize = 4 * 1024 * 1024;

fn main() -> ExitCode {
    let arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };

    // Only one provider is compiled in. Installed by name, since with a second one rustls would
    // panic at the first connection.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let code = runtime.block_on(cli::run(arguments));

    // Do not wait for blocked threads, such as a write that nobody reads.
    runtime.shutdown_background();
    code
}
