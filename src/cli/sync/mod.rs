//! `ecr-sync sync`.
//!
//! ```text
//! files -> entries -> engine, some at a time -> outcomes and a ledger of actions -> lines, diff, summary, JSON
//! ```

mod advice;
mod diff;
mod ledger;
mod outcome;
mod report;
mod sources;
mod summary;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::interrupt::Interrupts;
use super::screen::{self, Screen};
use crate::api::v1alpha1::TagStrategy;
use crate::causes::with_causes;
use crate::ecr;
use crate::inventory::{self, Entry};
use crate::mirrors::Mirrors;
use crate::registry::{Transport, TransportOptions};
use crate::spec::validation;
use crate::sync::{Defaults, Engine, Failure, Limits, Mode, Preview, Progress, Report};
use crate::wildcard;
use ledger::{Ledger, Status};
use outcome::{Outcome, State};
use report::Run;
use sources::Sources;
use summary::{Counts, Span};
use traffic::Traffic;

/// Where the older tool looks.
const DEFAULT_FOLDER: &str = "./repositories";

/// Syncs the repositories of YAML files once, without a cluster
///
/// Reads EcrRepositorySync manifests, and lists of repositories (at top level or under
/// `repositories:`):
///
///   - name: nginx-app
///     image: {pull_url: "docker.io/library/nginx", tags: ["1.27", "latest"]}
///     lifecyclePolicy: {rules: [...]}
///
/// Everything is read before anything is done: if a file is wrong, all that is wrong is told, and
/// nothing is synced.
///
/// Logins of sources come from the docker or podman config with its credential helpers, and from
/// the environment: ECR_SYNC_USERNAME_<HOST> and ECR_SYNC_PASSWORD_<HOST>, with _ for every . - and
/// : of the host.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Files, or folders that are read with everything below them (*.yml, *.yaml, *.json)
    ///
    /// Default: --config.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The folder to read where no PATH is given
    ///
    /// Default: REPOSITORIES_DIR, or ./repositories.
    #[arg(long, value_name = "DIR", conflicts_with = "paths")]
    config: Option<PathBuf>,

    /// Sync only repositories with such a name, for example `team/*`; may be given several times
    #[arg(long, value_name = "GLOB")]
    selector: Vec<String>,

    /// What the tags of a list entry's image stand for, where the entry does not say it
    #[arg(long, value_enum, default_value_t, value_name = "STRATEGY")]
    tag_strategy: Strategy,

    /// Show what would be done, and do nothing
    #[arg(long, env = "DRY_RUN", value_parser = BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true)]
    dry_run: bool,

    /// With --dry-run: end with exit code 2 if something would be changed
    #[arg(long)]
    exit_code: bool,

    /// Work on repositories that an operator keeps, too; they stay marked as its own
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, value_parser = BoolishValueParser::new())]
    take_over: bool,

    /// Repositories to sync at the same time
    #[arg(long, env = "MAX_PARALLEL_OPERATIONS", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    max_parallel_operations: u16,

    /// Stop everything at the first repository that fails
    #[arg(long)]
    fail_fast: bool,

    /// Stop after so long, for example 30m, as Ctrl-C does
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,

    /// YAML table of places to read images from instead of their own
    ///
    /// `mirrors: [{match: docker.io/library, rewrite: mirror.example.com/hub}]`: match is a host,
    /// or a host and the beginning of a path, the longest counts. Also credentialsFile (a docker
    /// config), fallback, insecure and direct (docs/mirrors.md). GitLab's dependency proxy is a
    /// mirror of docker.io by itself where its four CI_DEPENDENCY_PROXY_ variables are set.
    #[arg(long, env = "MIRRORS_FILE", value_name = "FILE")]
    mirrors_file: Option<PathBuf>,

    /// Read an image from its own place where its mirror fails
    #[arg(long)]
    mirror_fallback: bool,

    /// What goes to standard output
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,

    /// Write what was done to this file, too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// No bars and no lines of single repositories: only the summary and what failed
    #[arg(long, short)]
    quiet: bool,

    /// Accepted for the sake of pipelines of the older tool: no container runtime is needed
    #[arg(long, env = "CONTAINER_RUNTIME", hide = true, action = ArgAction::Set)]
    container_runtime: Option<String>,

    #[command(flatten)]
    from: super::FromSources,

    #[command(flatten)]
    aws: super::Aws,

    #[command(flatten)]
    defaults: super::Defaults,
}

impl Arguments {
    /// Whether little is to be shown.
    pub(super) const fn quiet(&self) -> bool {
        self.quiet
    }
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync sync                                  what ./repositories describes
  ecr-sync sync --dry-run repositories/app.yaml  what would be done for one file
  ecr-sync sync --dry-run --exit-code            in CI: exit code 2 when something is not as described
  ecr-sync sync --selector 'team/*' --output json --report report.json

Exit codes:
  0   all is done
  1   something failed, or the run was interrupted; what could be done is done
  2   with --dry-run --exit-code: something would be changed
  64  the command line or a file is wrong; nothing was done";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object; log lines go to standard error as always.
    Json,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Strategy {
    /// Each tag is copied from the source's same tag.
    #[default]
    Mirror,
    /// The tag in pull_url is pushed as every tag in tags.
    Retag,
}

fn duration(text: &str) -> Result<Duration, String> {
    validation::parse_duration(text)
        .ok_or_else(|| "write a duration like 90s, 10m or 1h30m".to_owned())
}

/// What a run needs to know beside its entries.
struct Plan {
    dry_run: bool,
    take_over: bool,
    at_once: usize,
    fail_fast: bool,
    timeout: Option<Duration>,
    lines: bool,
}

pub(super) async fn run(arguments: Arguments, screen: &Screen) -> ExitCode {
    let Arguments {
        paths,
        config,
        selector,
        tag_strategy,
        dry_run,
        exit_code,
        take_over,
        max_parallel_operations,
        fail_fast,
        timeout,
        mirrors_file,
        mirror_fallback,
        output,
        report,
        quiet,
        container_runtime,
        from,
        aws,
        defaults,
    } = arguments;
    let start = Timestamp::now();
    if let Some(runtime) = container_runtime.filter(|runtime| !runtime.is_empty()) {
        screen.err(&format!(
            "CONTAINER_RUNTIME={runtime} is not used: no container runtime is needed\n"
        ));
    }
    // Found out now, not when the work is done.
    if let Some(folder) = report.as_deref().and_then(missing_folder) {
        return super::fail(&format!(
            "cannot write the report: there is no folder {}",
            folder.display()
        ));
    }
    let entries = match entries(paths, config, &read_options(tag_strategy), &selector) {
        Ok(entries) => entries,
        Err(problems) => return tell_problems(&problems, screen),
    };
    let mirrors = match Mirrors::load(mirrors_file.as_deref(), mirror_fallback) {
        Ok((mirrors, warning)) => {
            warning.iter().for_each(|warning| screen.err(&format!("warning: {warning}\n")));
            mirrors
        }
        Err(error) => return super::fail(&error),
    };
    let sources = match Sources::load(mirrors, from.public_ecr_login) {
        Ok(sources) => sources,
        Err(error) => return super::fail(&error),
    };
    let defaults = match Defaults::load(defaults.into()) {
        Ok(defaults) => defaults,
        Err(error) => return super::fail(&with_causes(&error)),
    };
    let transport = match Transport::new(&TransportOptions::default()) {
        Ok(transport) => transport,
        Err(error) => return super::fail(&with_causes(&error)),
    };
    let mut interrupts = match Interrupts::new() {
        Ok(interrupts) => interrupts,
        Err(error) => return super::fail(&with_causes(&error)),
    };
    for entry in &entries {
        entry
            .notes
            .iter()
            .for_each(|note| screen.err(&format!("warning: {}: {note}\n", entry.place)));
    }
    let lines = output == Output::Text && !quiet;
    let traffic = if lines && screen::is_terminal() {
        Traffic::shown(screen, entries.len())
    } else {
        Traffic::default()
    };
    let traffic = Arc::new(traffic);
    let aws = match aws.options() {
        Ok(aws) => aws,
        Err(error) => return super::fail(&error),
    };
    let session = ecr::Session::load(aws, transport.clone(), traffic.clone(), None).await;
    let limits = Limits { reserve: from.rate_reserve, ..Limits::default() };
    let engine = Engine::new(session, transport.metered(traffic.clone()), None, limits);
    let engine = engine.with_defaults(defaults);

    let stop = CancellationToken::new();
    let ledger = Ledger::default();
    let plan = Plan {
        dry_run,
        take_over,
        at_once: max_parallel_operations.into(),
        fail_fast,
        timeout,
        lines,
    };
    let work = async {
        let pass = Pass {
            engine: &engine,
            sources: &sources,
            ledger: &ledger,
            traffic: &traffic,
            plan: &plan,
            screen,
        };
        let outcomes = pass.run(entries, &stop).await;
        traffic.clear();
        let span = Span { start, end: Timestamp::now() };
        let records = ledger.all();
        let counts = Counts::new(&outcomes, &records, traffic.bytes());
        let run = Run::new(&outcomes, &records, &counts, &span, (dry_run, stop.is_cancelled()));
        match output {
            Output::Json => screen.out(&run.text()),
            Output::Text if dry_run => show_plan(&outcomes, quiet, screen),
            Output::Text => screen.out(&format!(
                "{}{}",
                summary::block(&counts, &span),
                summary::failures(&outcomes)
            )),
        }
        if stop.is_cancelled() {
            let ended = outcomes.iter().filter(|outcome| !was_cut_off(outcome)).count();
            screen.err(&format!(
                "stopped early: {ended} of {} were finished\n",
                counted(outcomes.len(), "repository")
            ));
        }
        let written = match report {
            Some(file) => write_report(file, run.text()).await,
            None => Ok(()),
        };
        let failed = outcomes.iter().any(Outcome::is_failure) || stop.is_cancelled();
        match written {
            Err(problem) => super::fail_with(super::FAILED, &problem),
            Ok(()) if failed => ExitCode::from(super::FAILED),
            Ok(()) if exit_code && dry_run && outcomes.iter().any(Outcome::is_change) => {
                ExitCode::from(super::CHANGES_PENDING)
            }
            Ok(()) => ExitCode::SUCCESS,
        }
    };
    match interrupts.guard(&stop, work).await {
        Some(code) => code,
        None => ExitCode::from(super::FORCED),
    }
}

/// How files are read.
pub(super) const fn read_options(strategy: Strategy) -> inventory::Options {
    inventory::Options {
        tag_strategy: match strategy {
            Strategy::Mirror => TagStrategy::Mirror,
            Strategy::Retag => TagStrategy::Retag,
        },
    }
}

/// Tells all that is wrong with the files.
pub(super) fn tell_problems(problems: &[impl std::fmt::Display], screen: &Screen) -> ExitCode {
    problems.iter().for_each(|problem| screen.err(&format!("error: {problem}\n")));
    screen.err(&format!("{} in the input; nothing was done\n", counted(problems.len(), "problem")));
    ExitCode::from(super::WRONG_INPUT)
}

/// The entries to sync.
///
/// # Errors
/// Everything that is wrong with the files, or that no repository has such a name.
fn entries(
    paths: Vec<PathBuf>,
    config: Option<PathBuf>,
    options: &inventory::Options,
    selector: &[String],
) -> Result<Vec<Entry>, Vec<String>> {
    let folder = || {
        let variable = std::env::var_os("REPOSITORIES_DIR")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        config.or(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER))
    };
    let paths = if paths.is_empty() { vec![folder()] } else { paths };
    let mut entries = inventory::read(&paths, options)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if !selector.is_empty() {
        let count = entries.len();
        entries.retain(|entry| {
            selector.iter().any(|glob| wildcard::matches(glob, entry.repository()))
        });
        if entries.is_empty() {
            let globs = selector.join(", ");
            return Err(vec![format!(
                "--selector {globs}: none of {} has such a name",
                counted(count, "repository")
            )]);
        }
    }
    Ok(entries)
}

/// All that the repositories of a run share.
struct Pass<'a> {
    engine: &'a Engine,
    sources: &'a Sources,
    ledger: &'a Ledger,
    traffic: &'a Traffic,
    plan: &'a Plan,
    screen: &'a Screen,
}

impl Pass<'_> {
    /// Syncs all entries; the outcomes are in the order of the files.
    async fn run(&self, entries: Vec<Entry>, stop: &CancellationToken) -> Vec<Outcome> {
        // A failure under --fail-fast ends the others, but is no interrupt.
        let rest = stop.child_token();
        let work = async {
            let mut done = stream::iter(entries.into_iter().enumerate())
                .map(|(index, entry)| self.one(index, entry, &rest))
                // As they come: one that takes long does not hold up those after it.
                .buffer_unordered(self.plan.at_once);
            let mut outcomes = Vec::new();
            while let Some(outcome) = done.next().await {
                if outcome.is_failure() && self.plan.fail_fast {
                    rest.cancel();
                }
                self.traffic.finished(outcome.entry.repository());
                if self.plan.lines && !self.plan.dry_run {
                    self.screen.out(&format!("{}\n", outcome.line()));
                    for warning in summary::warnings(&outcome) {
                        self.screen
                            .err(&format!("warning: {}: {warning}\n", outcome.entry.repository()));
                    }
                }
                outcomes.push(outcome);
            }
            outcomes
        };
        tokio::pin!(work);
        let mut outcomes = tokio::select! {
            outcomes = &mut work => outcomes,
            () = after(self.plan.timeout) => {
                tracing::warn!(timeout = ?self.plan.timeout, "time is up (--timeout)");
                stop.cancel();
                work.await
            }
        };
        outcomes.sort_by_key(|outcome| outcome.index);
        outcomes
    }

    async fn one(&self, index: usize, entry: Entry, stop: &CancellationToken) -> Outcome {
        let repository = entry.repository().to_owned();
        let why = match (entry.spec.suspend, stop.is_cancelled()) {
            (true, _) => Some("suspended, left alone"),
            (_, true) => Some("not begun: the run was stopped"),
            _ => None,
        };
        if let Some(why) = why {
            self.ledger.note(&repository, "check", Status::Skipped, why.to_owned());
            return Outcome { index, entry, report: None, preview: None, state: State::Skipped };
        }
        let progress = Progress::witnessed(self.ledger.witness(&repository));
        self.traffic.began(&repository, &progress);
        let (report, preview) = tokio::select! {
            biased;
            done = self.sync(&entry, progress, stop) => done,
            // A credential helper that hangs; the engine itself minds `stop`, and comes first.
            () = stop.cancelled() => (Report::failed(Failure::cancelled()), None),
        };
        self.ledger.close(&repository, &report);
        let state = State::of(&repository, &report, self.ledger);
        Outcome { index, entry, report: Some(report), preview, state }
    }

    async fn sync(
        &self,
        entry: &Entry,
        progress: Progress,
        stop: &CancellationToken,
    ) -> (Report, Option<Preview>) {
        let job = self.sources.job(entry, self.plan.take_over, progress).await;
        if self.plan.dry_run {
            let (report, preview) = self.engine.preview(&job, stop).await;
            (report, Some(preview))
        } else {
            (self.engine.sync(&job, Mode::Apply, stop).await, None)
        }
    }
}

/// Returns after so long; never without.
async fn after(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// Whether the end of the run came before the repository's.
fn was_cut_off(outcome: &Outcome) -> bool {
    match &outcome.report {
        Some(report) => report
            .failure
            .as_ref()
            .is_some_and(|failure| failure.class == crate::class::Class::Cancelled),
        None => !outcome.entry.spec.suspend,
    }
}

fn show_plan(outcomes: &[Outcome], quiet: bool, screen: &Screen) {
    let color = screen::colors_results();
    if !quiet {
        outcomes.iter().for_each(|outcome| screen.out(&diff::text(outcome, color)));
    }
    screen.out(&format!("{}\n{}", diff::Totals::new(outcomes), summary::failures(outcomes)));
}

/// The folder of a file, if it is not there.
fn missing_folder(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
}

/// Writes beside and renames: nobody reads half a report.
async fn write_report(file: PathBuf, text: String) -> Result<(), String> {
    let name = file.display().to_string();
    let written = tokio::task::spawn_blocking(move || {
        // A pipe or a device is written into, not replaced.
        if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return std::fs::write(&file, text);
        }
        let mut beside = file.clone().into_os_string();
        beside.push(".new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &file)
    });
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot write the report {name}: {error}")),
        Err(_) => Err(format!("cannot write the report {name}")),
    }
}

/// `1 repository`, `2 repositories`.
fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
