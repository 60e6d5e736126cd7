//! `ecr-sync sync`: one pass over the repositories of YAML files.
//!
//! ```text
//! arguments  the flags
//! input      PATHs     -> entries, or problems
//! sources    entry     -> a job for the engine, with its logins
//! batch      entries   -> outcomes, several repositories at a time
//! ledger     each action as it ends; outcome: the result for one repository
//! traffic    progress bars
//! summary    ECR SYNC SUMMARY, failures (with advice); diff: a dry run; report: JSON
//! ```

mod advice;
mod arguments;
mod batch;
mod diff;
mod input;
mod ledger;
mod outcome;
mod report;
mod sources;
mod summary;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub(super) use arguments::{Arguments, Strategy};
pub(super) use input::{read_options, report_problems};

use super::interrupt::Interrupts;
use super::screen::{self, Screen};
use crate::causes::with_causes;
use crate::ecr;
use crate::inventory::Entry;
use crate::mirrors::Mirrors;
use crate::registry::{Transport, TransportOptions};
use crate::sync::{Bounds, Defaults, Engine};
use crate::units::counted;
use arguments::Output;
use batch::{Batch, Settings};
use ledger::Ledger;
use outcome::Outcome;
use report::Run;
use sources::Sources;
use summary::{Counts, Span};
use traffic::Traffic;

pub(super) async fn run(mut arguments: Arguments, screen: &Screen) -> ExitCode {
    let start = Timestamp::now();
    if let Some(runtime) = arguments.container_runtime.take().filter(|value| !value.is_empty()) {
        screen.err(&format!(
            "CONTAINER_RUNTIME={runtime} is not used: no container runtime is needed\n"
        ));
    }
    // Checked now, so that a wrong path is not noticed only after the work.
    if let Some(folder) = arguments.report.as_deref().and_then(report::missing_folder) {
        return super::fail(&format!(
            "cannot write the report: there is no folder {}",
            folder.display()
        ));
    }

    let paths = std::mem::take(&mut arguments.paths);
    let config = arguments.config.take();
    let options = read_options(arguments.tag_strategy);
    let entries = match input::entries(paths, config, &options, &arguments.selector) {
        Ok(entries) => entries,
        Err(problems) => return report_problems(&problems, screen),
    };
    match Session::new(arguments, &entries, screen).await {
        Ok((session, interrupts)) => session.run(entries, start, interrupts, screen).await,
        Err(message) => super::fail(&message),
    }
}

/// A run whose flags and files have been read: the engine, the logins, and how to print.
struct Session {
    engine: Engine,
    sources: Sources,
    traffic: Arc<Traffic>,
    settings: Settings,
    output: Output,
    quiet: bool,
    exit_code: bool,
    report: Option<PathBuf>,
}

impl Session {
    /// # Errors
    /// The message for the user if a file or the environment cannot be used.
    async fn new(
        arguments: Arguments,
        entries: &[Entry],
        screen: &Screen,
    ) -> Result<(Self, Interrupts), String> {
        let (mirrors, warning) =
            Mirrors::load(arguments.mirrors_file.as_deref(), arguments.mirror_fallback)
                .map_err(|error| error.to_string())?;
        warning.iter().for_each(|warning| screen.err(&format!("warning: {warning}\n")));
        let sources = Sources::load(mirrors, arguments.sources.public_ecr.login)?;
        let defaults =
            Defaults::load(&arguments.defaults.into()).map_err(|error| error.to_string())?;
        let transport =
            Transport::new(&TransportOptions::default()).map_err(|error| with_causes(&error))?;
        let interrupts = Interrupts::new().map_err(|error| with_causes(&error))?;

        for entry in entries {
            for note in &entry.written.notes {
                screen.err(&format!("warning: {}: {note}\n", entry.written.position));
            }
        }

        let lines = arguments.output == Output::Text && !arguments.quiet;
        let traffic = if lines && screen::is_terminal() {
            Traffic::shown(screen, entries.len())
        } else {
            Traffic::default()
        };
        let traffic = Arc::new(traffic);
        let aws = arguments.aws.options().map_err(|error| error.to_string())?;
        let session = ecr::Session::load(aws, transport.clone(), traffic.clone(), None).await;
        let bounds = Bounds { reserve: arguments.sources.rate_reserve, ..Bounds::default() };
        let engine = Engine::new(session, transport.metered(traffic.clone()), None, bounds)
            .with_defaults(defaults);

        let settings = Settings {
            dry_run: arguments.dry_run,
            take_over: arguments.take_over,
            concurrency: arguments.max_parallel_operations.into(),
            fail_fast: arguments.fail_fast,
            timeout: arguments.timeout,
            lines,
        };
        let session = Self {
            engine,
            sources,
            traffic,
            settings,
            output: arguments.output,
            quiet: arguments.quiet,
            exit_code: arguments.exit_code,
            report: arguments.report,
        };
        Ok((session, interrupts))
    }

    async fn run(
        &self,
        entries: Vec<Entry>,
        start: Timestamp,
        mut interrupts: Interrupts,
        screen: &Screen,
    ) -> ExitCode {
        let stop = CancellationToken::new();
        let ledger = Ledger::default();
        let batch = Batch {
            engine: &self.engine,
            sources: &self.sources,
            ledger: &ledger,
            traffic: &self.traffic,
            settings: &self.settings,
            screen,
        };
        let work = async {
            let outcomes = batch.run(entries, &stop).await;
            self.traffic.clear();
            self.finish(start, &outcomes, &ledger, stop.is_cancelled(), screen).await
        };

        match interrupts.guard(&stop, work).await {
            Some(code) => code,
            None => ExitCode::from(super::FORCED),
        }
    }

    /// Prints the result, writes the report, and returns the exit code.
    async fn finish(
        &self,
        start: Timestamp,
        outcomes: &[Outcome],
        ledger: &Ledger,
        interrupted: bool,
        screen: &Screen,
    ) -> ExitCode {
        let dry_run = self.settings.dry_run;
        let span = Span { start, end: Timestamp::now() };
        let records = ledger.all();
        let counts = Counts::new(outcomes, &records, self.traffic.bytes());
        let run = Run::new(outcomes, &records, &counts, &span, (dry_run, interrupted));

        match self.output {
            Output::Json => screen.out(&run.text()),
            Output::Text if dry_run => self.print_plan(outcomes, screen),
            Output::Text => screen.out(&format!(
                "{}{}",
                summary::block(&counts, &span),
                summary::failures(outcomes)
            )),
        }
        if interrupted {
            let finished = outcomes.iter().filter(|outcome| !outcome.was_interrupted()).count();
            screen.err(&format!(
                "stopped early: {finished} of {} finished\n",
                counted(outcomes.len(), "repository")
            ));
        }
        if let Some(file) = &self.report
            && let Err(message) = report::write(file.clone(), run.text()).await
        {
            return super::fail_with(super::FAILED, &message);
        }

        if interrupted || outcomes.iter().any(Outcome::is_failure) {
            ExitCode::from(super::FAILED)
        } else if self.exit_code && dry_run && outcomes.iter().any(Outcome::is_change) {
            ExitCode::from(super::CHANGES_PENDING)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn print_plan(&self, outcomes: &[Outcome], screen: &Screen) {
        let color = screen::colors_results();
        if !self.quiet {
            outcomes.iter().for_each(|outcome| screen.out(&diff::text(outcome, color)));
        }
        screen.out(&format!("{}\n{}", diff::Totals::new(outcomes), summary::failures(outcomes)));
    }
}
