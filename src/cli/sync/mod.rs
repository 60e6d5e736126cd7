//! `ecr-sync sync`: one pass over the repositories of YAML files.
//!
//! ```text
//! arguments  the flags
//! input      PATHs     -> entries, or problems
//! identity   the AWS identity, checked once before the batch
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
mod identity;
mod input;
mod ledger;
mod outcome;
mod report;
mod sources;
mod summary;
mod traffic;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub(super) use arguments::{Arguments, Strategy};
pub(super) use input::report_problems;

use super::flags;
use super::screen::{self, Screen};
use crate::causes::with_causes;
use crate::ecr;
use crate::inventory::Entry;
use crate::mirrors::Mirrors;
use crate::registry::{Egress, Transport, TransportOptions};
use crate::signals::Signals;
use crate::sync::{Bounds, Defaults, Engine};
use crate::units::counted;
use arguments::Output;
use batch::Batch;
use ledger::Ledger;
use outcome::Outcome;
use report::Run;
use sources::Sources;
use summary::{Counts, Span};
use traffic::Traffic;

pub(super) async fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let start = Timestamp::now();
    if let Some(runtime) = arguments.container_runtime.as_ref().filter(|value| !value.is_empty()) {
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

    let entries = match input::entries(arguments) {
        Ok(entries) => entries,
        Err(problems) => return report_problems(&problems, screen),
    };
    let (batch, mut signals) = match load(arguments, &entries, screen).await {
        Ok(loaded) => loaded,
        Err(error) => return super::fail(&with_causes(&*error)),
    };

    let stop = CancellationToken::new();
    let work = async {
        let outcomes = batch.run(entries, &stop).await;
        batch.traffic.clear();
        finish(&batch, start, &outcomes, stop.is_cancelled()).await
    };
    let code = signals.guard(&stop, work).await;
    code.unwrap_or_else(|| ExitCode::from(super::FORCED))
}

/// Reads the files that the flags name, and the environment.
async fn load<'a>(
    arguments: &'a Arguments,
    entries: &[Entry],
    screen: &'a Screen,
) -> Result<(Batch<'a>, Signals), Box<dyn Error>> {
    let (mirrors, warning) =
        Mirrors::load(arguments.mirrors_file.as_deref(), arguments.mirror_fallback)?;
    warning.iter().for_each(|warning| screen.err(&format!("warning: {warning}\n")));
    let sources = Sources::load(mirrors, arguments.sources.public_ecr.login)?;
    let defaults = Defaults::load(&arguments.defaults.files())?;
    // The user chose the sources, and runs on a machine of its own: all but metadata services.
    let realms = flags::values(arguments.sources.allow_realm.clone());
    let egress = Arc::new(Egress::trusting().with_realms(realms));
    let memory = arguments.memory.limit();
    tracing::debug!(bytes = memory.total, origin = %memory.origin, "memory budget");
    let transport = Transport::new(&TransportOptions::default(), &egress)?.within(memory.budget());

    for entry in entries {
        for note in &entry.written.notes {
            screen.err(&format!("warning: {}: {note}\n", entry.written.position));
        }
    }

    let traffic = if arguments.prints_lines() && screen::is_terminal() {
        Traffic::shown(screen, entries.len())
    } else {
        Traffic::default()
    };
    let traffic = Arc::new(traffic);
    let aws = arguments.aws.options()?;
    let session = ecr::Session::load(aws, transport.clone(), traffic.clone(), None).await;
    let bounds = Bounds { reserve: arguments.sources.rate_reserve, ..Bounds::default() };
    let transport = transport.metered(traffic.clone());
    let engine = Engine::new(session, transport, egress, None, bounds).with_defaults(defaults);

    if let Err(error) = identity::check(&engine, entries).await {
        traffic.clear();
        return Err(error.into());
    }

    // From here on, an interrupt lets running work end.
    let signals = Signals::new()?;
    let ledger = Ledger::default();
    Ok((Batch { arguments, engine, sources, ledger, traffic, screen }, signals))
}

/// Prints the result, writes the report, and returns the exit code.
async fn finish(
    batch: &Batch<'_>,
    start: Timestamp,
    outcomes: &[Outcome],
    interrupted: bool,
) -> ExitCode {
    let Batch { arguments, screen, .. } = batch;
    let dry_run = arguments.dry_run;
    let span = Span { start, end: Timestamp::now() };
    let records = batch.ledger.all();
    let counts = Counts::new(outcomes, &records, batch.traffic.bytes());
    let run = Run::new(outcomes, &records, &counts, &span, (dry_run, interrupted));

    match arguments.output {
        Output::Json => screen.out(&run.text()),
        Output::Text if dry_run => print_plan(outcomes, arguments.quiet, screen),
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
    if let Some(file) = &arguments.report
        && let Err(message) = report::write(file.clone(), run.text()).await
    {
        return super::fail_with(super::FAILED, &message);
    }

    if interrupted || outcomes.iter().any(Outcome::is_failure) {
        ExitCode::from(super::FAILED)
    } else if arguments.exit_code && dry_run && outcomes.iter().any(Outcome::is_change) {
        ExitCode::from(super::CHANGES_PENDING)
    } else {
        ExitCode::SUCCESS
    }
}

fn print_plan(outcomes: &[Outcome], quiet: bool, screen: &Screen) {
    let color = screen::colors_results();
    if !quiet {
        outcomes.iter().for_each(|outcome| screen.out(&diff::text(outcome, color)));
    }
    screen.out(&format!("{}\n{}", diff::Totals::new(outcomes), summary::failures(outcomes)));
}
