//! Command line: one file per subcommand; shared flags in `flags`, exit codes here.

mod completions;
mod controller;
mod convert;
mod crd;
mod flags;
mod iam_policy;
mod import;
mod screen;
mod switch;
mod sync;
mod version;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use screen::Screen;

use crate::telemetry;

/// Exit code when something failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a dry run with `--exit-code` that would change something: not a failure, as in
/// `git diff --exit-code` and `terraform plan -detailed-exitcode`.
pub(crate) const CHANGES_PENDING: u8 = 2;
/// Exit code when the command line or a file is invalid, or the AWS identity is missing, so that
/// nothing was done: EX_USAGE of sysexits.h, distinct from the two above.
pub(crate) const WRONG_INPUT: u8 = 64;
/// Exit code after a second interrupt: 128 + SIGINT, as shells report it.
pub(crate) const FORCED: u8 = 130;

/// Creates Amazon ECR repositories, keeps their policies in sync, and copies images and Helm charts
/// into them.
#[derive(Debug, Parser)]
#[command(name = "ecr-sync", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: Log,
}

#[derive(Debug, Subcommand)]
enum Command {
    Controller(Box<controller::Arguments>),
    Sync(Box<sync::Arguments>),
    Convert(convert::Arguments),
    Import(import::Arguments),
    IamPolicy(Box<iam_policy::Arguments>),
    Crd(crd::Arguments),
    Completions(completions::Arguments),
    Version(version::Arguments),
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
struct Log {
    /// Log in detail, same as --log-level debug
    #[arg(short, long, global = true)]
    verbose: bool,

    /// Log level (error, warning, info, debug) or a filter like `info,ecr_sync::registry=debug`
    ///
    /// Default: info; warning for commands on a terminal.
    #[arg(long, global = true, env = "LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,

    /// Format of log lines
    #[arg(long, global = true, env = "LOG_FORMAT", value_enum, default_value_t)]
    log_format: telemetry::Format,
}

impl Log {
    fn level(&self, command: &Command) -> &str {
        let is_controller = matches!(command, Command::Controller(_));
        let is_quiet = matches!(command, Command::Sync(arguments) if arguments.quiet);
        let default = match (self.verbose, is_controller, is_quiet || screen::is_terminal()) {
            // At debug level, the HTTP and AWS libraries log far too much.
            (true, ..) => "info,ecr_sync=debug",
            (false, true, _) => "info",
            (false, false, true) => "warn",
            (false, false, false) => "warn,ecr_sync=info",
        };

        let level = self.log_level.as_deref();
        level.filter(|level| !self.verbose && !level.is_empty()).unwrap_or(default)
    }
}

/// Reads the command line.
///
/// # Errors
/// Returns the exit code if the command line is invalid or asks for help or the version, after
/// printing the message.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        if error.use_stderr() {
            let _closed = error.print();
            return ExitCode::from(WRONG_INPUT);
        }
        match error.print().and_then(|()| std::io::stdout().flush()) {
            Err(error) if !screen::is_closed_pipe(&error) => {
                fail_with(FAILED, &screen::cannot_write(&error))
            }
            _ => ExitCode::SUCCESS,
        }
    })
}

/// Runs the command.
pub async fn run(Arguments { command, log }: Arguments) -> ExitCode {
    let screen = Screen::default();
    let color = screen::has_color(screen::is_terminal());
    if let Err(error) = telemetry::init(log.log_format, log.level(&command), screen.clone(), color)
    {
        return fail(&error);
    }

    let code = match command {
        Command::Controller(arguments) => controller::run(*arguments).await,
        Command::Sync(arguments) => sync::run(&arguments, &screen).await,
        Command::Convert(arguments) => convert::run(&arguments, &screen),
        Command::Import(arguments) => import::run(arguments, &screen).await,
        Command::IamPolicy(arguments) => iam_policy::run(*arguments, &screen),
        Command::Crd(arguments) => crd::run(arguments, &screen),
        Command::Completions(arguments) => completions::run(&arguments, &screen),
        Command::Version(arguments) => version::run(&arguments, &screen),
    };

    match screen.unwritten() {
        None => code,
        Some(message) => fail_with(FAILED, &message),
    }
}

/// Reports invalid input; nothing was done.
fn fail(message: &dyn std::fmt::Display) -> ExitCode {
    fail_with(WRONG_INPUT, message)
}

/// Reports an error and returns the exit code for it.
fn fail_with(code: u8, message: &dyn std::fmt::Display) -> ExitCode {
    Screen::default().err(&format!("error: {message}\n"));
    ExitCode::from(code)
}
