//! Command line: one file per subcommand.

mod completions;
mod controller;
mod convert;
mod crd;
mod iam_policy;
mod import;
mod interrupt;
mod screen;
mod sync;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use screen::Screen;

use crate::ecr;
use crate::registry::Reserve;
use crate::reload::{self, Reloaded};
use crate::sync::DefaultFiles;
use crate::telemetry;

/// Exit code when the work could not be done, or not all of it.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a dry run with `--exit-code` that would change something, as `git diff --exit-code`
/// and Terraform tell it apart from a failure.
pub(crate) const CHANGES_PENDING: u8 = 2;
/// Exit code when the command line or a file is wrong, so that nothing was done: EX_USAGE of
/// sysexits.h, apart from both of the above.
pub(crate) const WRONG_INPUT: u8 = 64;
/// Exit code when a second interrupt did not wait for the end, as a shell has it for SIGINT.
pub(crate) const FORCED: u8 = 130;

/// Creates Amazon ECR repositories, keeps their policies as written, and copies images and Helm
/// charts into them.
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
struct Log {
    /// Show what is done in detail: --log-level debug
    #[arg(short, long, global = true, help_heading = "Logging")]
    verbose: bool,

    /// Log level (error, warning, info, debug) or a filter like `info,ecr_sync::registry=debug`
    ///
    /// Default: info, and warning for commands on a terminal.
    #[arg(long, global = true, env = "LOG_LEVEL", value_name = "LEVEL", help_heading = "Logging")]
    log_level: Option<String>,

    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_enum,
        default_value_t,
        help_heading = "Logging"
    )]
    log_format: telemetry::Format,
}

/// What is said about AWS on the command line.
#[derive(Debug, Args)]
struct Aws {
    /// Account of the ECR registry for repositories that name none
    ///
    /// Default: the account of the AWS identity in use.
    #[arg(long, env = "ECR_ACCOUNT_ID", value_name = "ID", value_parser = account_id, help_heading = "AWS")]
    account_id: Option<String>,

    /// Region of the ECR registry for repositories that name none
    ///
    /// Default: as for other AWS tools, AWS_REGION or the profile's.
    #[arg(long, env = "ECR_REGION", value_name = "REGION", value_parser = region, help_heading = "AWS")]
    region: Option<String>,

    /// Manifests to write per second and (account, region): ECR's PutImage quota
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "AWS")]
    put_image_rate: u32,

    /// Blobs to upload per second and (account, region): ECR's quotas InitiateLayerUpload and
    /// CompleteLayerUpload
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "AWS")]
    layer_upload_rate: u32,

    /// Where ECR's API is, for example a VPC endpoint; as AWS_ENDPOINT_URL_ECR for other AWS tools
    #[arg(long, env = "ECR_ENDPOINT_URL", value_name = "URL", value_parser = endpoint, help_heading = "AWS")]
    ecr_endpoint_url: Option<String>,

    /// YAML list of {roleArn, externalId}: the external ids of roles that repositories name
    /// (registry.roleArn)
    ///
    /// In roleArn * stands for any number of characters; the first that matches counts. Read again
    /// when it changes.
    #[arg(long, env = "ROLES_FILE", value_name = "FILE", help_heading = "AWS")]
    roles_file: Option<PathBuf>,
}

/// What is said about the places that images are copied from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sources")]
struct FromSources {
    /// Pulls to leave to others where a source says how many are left (Docker Hub does): a number
    /// or a share like 10%
    ///
    /// At the reserve, tags that need a pull fail as RateLimited until there are more; tags that
    /// are up to date are still checked, which is no pull. 0 uses everything.
    #[arg(long, env = "RATE_RESERVE", default_value_t, value_name = "N[%]")]
    rate_reserve: Reserve,

    /// Log in to public.ecr.aws with the AWS identity, which may read more than nobody in
    /// particular
    ///
    /// Needs ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken; without them it is
    /// read as before, and a warning says so. The API is in us-east-1 only.
    #[arg(long, env = "PUBLIC_ECR_LOGIN", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    public_ecr_login: bool,
}

fn endpoint(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("write for example https://vpce-0123-api.ecr.eu-west-1.vpce.amazonaws.com".to_owned())
    }
}

/// What repositories get whose spec says nothing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Defaults")]
struct Defaults {
    /// Lifecycle policy (JSON or YAML) for repositories whose lifecyclePolicy is absent
    ///
    /// Given to repositories that were created here; to others only where they have none.
    #[arg(long, env = "DEFAULT_LIFECYCLE_POLICY_FILE", value_name = "FILE")]
    default_lifecycle_policy_file: Option<OsString>,

    /// Permission policy (JSON or YAML) for repositories whose permissionPolicy is absent, likewise
    #[arg(long, env = "DEFAULT_PERMISSION_POLICY_FILE", value_name = "FILE")]
    default_permission_policy_file: Option<OsString>,

    /// Resource tags (JSON or YAML: a map) for repositories, likewise; `resourceTags: {}` opts out
    #[arg(long, env = "DEFAULT_RESOURCE_TAGS_FILE", value_name = "FILE")]
    default_resource_tags_file: Option<OsString>,
}

impl From<Defaults> for DefaultFiles {
    fn from(defaults: Defaults) -> Self {
        let Defaults {
            default_lifecycle_policy_file,
            default_permission_policy_file,
            default_resource_tags_file,
        } = defaults;
        // A variable that is set to nothing names no file; clap would refuse that as a path.
        let given =
            |path: Option<OsString>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            lifecycle_policy: given(default_lifecycle_policy_file),
            permission_policy: given(default_permission_policy_file),
            resource_tags: given(default_resource_tags_file),
        }
    }
}

fn account_id(text: &str) -> Result<String, String> {
    use crate::spec::validation::is_account_id;
    if is_account_id(text) {
        Ok(text.to_owned())
    } else {
        Err("an AWS account id has 12 digits".to_owned())
    }
}

fn region(text: &str) -> Result<String, String> {
    use crate::spec::validation::is_region;
    if is_region(text) {
        Ok(text.to_owned())
    } else {
        Err("write an AWS region, for example eu-west-1".to_owned())
    }
}

impl Aws {
    /// With the files that it names.
    fn options(self) -> Result<ecr::Options, reload::Error> {
        let Self {
            account_id,
            region,
            put_image_rate,
            layer_upload_rate,
            ecr_endpoint_url,
            roles_file,
        } = self;
        let roles = roles_file.map(|path| Reloaded::load(&path, ecr::Roles::parse)).transpose()?;
        Ok(ecr::Options {
            account: account_id,
            region,
            rates: ecr::Rates { put_image: put_image_rate, uploads: layer_upload_rate },
            endpoint: ecr_endpoint_url,
            roles,
            session_name: "ecr-sync".to_owned(),
        })
    }
}

/// Reads the command line.
///
/// # Errors
/// The exit code, when it is wrong or asks for help or the version, which have been printed.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // Help that nobody reads any more is no failure.
        let _closed = error.print();
        if error.use_stderr() { ExitCode::from(WRONG_INPUT) } else { ExitCode::SUCCESS }
    })
}

/// Runs the command.
pub async fn run(Arguments { command, log }: Arguments) -> ExitCode {
    let Log { verbose, log_level, log_format } = log;
    let screen = Screen::default();
    let is_controller = matches!(command, Command::Controller(_));
    let is_quiet = matches!(&command, Command::Sync(arguments) if arguments.quiet());
    let default = match (verbose, is_controller, is_quiet || screen::is_terminal()) {
        // At debug, the HTTP and AWS libraries say more than anybody wants to read.
        (true, ..) => "info,ecr_sync=debug",
        (false, true, _) => "info",
        (false, false, true) => "warn",
        (false, false, false) => "warn,ecr_sync=info",
    };
    let level =
        log_level.as_deref().filter(|level| !verbose && !level.is_empty()).unwrap_or(default);
    if let Err(error) =
        telemetry::init(log_format, level, screen.clone(), screen::has_color(screen::is_terminal()))
    {
        return fail(&error);
    }
    match command {
        Command::Controller(arguments) => controller::run(*arguments).await,
        Command::Sync(arguments) => sync::run(*arguments, &screen).await,
        Command::Convert(arguments) => convert::run(&arguments, &screen),
        Command::Import(arguments) => import::run(arguments, &screen).await,
        Command::IamPolicy(arguments) => iam_policy::run(*arguments, &screen),
        Command::Crd(arguments) => crd::run(arguments, &screen),
        Command::Completions(arguments) => completions::run(&arguments, &screen),
        Command::Version(arguments) => version::run(&arguments, &screen),
    }
}

/// Says why nothing could be done.
fn fail(message: &dyn std::fmt::Display) -> ExitCode {
    fail_with(WRONG_INPUT, message)
}

/// Says what went wrong, and ends with this code.
fn fail_with(code: u8, message: &dyn std::fmt::Display) -> ExitCode {
    Screen::default().err(&format!("error: {message}\n"));
    ExitCode::from(code)
}
