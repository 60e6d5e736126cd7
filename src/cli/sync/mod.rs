//! `ecr-sync sync`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::validation;
use crate::class::Class;
use crate::credentials::{DockerConfig, chart_reference};
use crate::ecr;
use crate::inventory::{self, Entry};
use crate::meter::Silent;
use crate::registry::{Reference, Transport, TransportOptions};
use crate::sync::{
    Access, Accesses, ArtifactKind, Before, Claimant, Defaults, Engine, Failure, Job, Limits, Mode, Progress, Report,
};

/// Syncs the repositories of YAML files once, without a cluster
///
/// Reads EcrRepositorySync manifests, and lists of repositories (at top level or under `repositories:`):
///
///   - name: nginx-app
///     image: {pull_url: "docker.io/library/nginx", tags: ["1.27", "latest"]}
///     lifecyclePolicy: {rules: [...]}
///
/// Credentials of sources come from the docker or podman config. Exit code 0 when all is done, 1 when something
/// failed, 2 when an input is wrong (then nothing was done).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// Files, or folders that are read with everything below them (*.yml, *.yaml, *.json)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Show what would be done, and do nothing
    #[arg(long, env = "DRY_RUN", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true)]
    dry_run: bool,

    /// Work on repositories that an operator keeps, too; they stay marked as its own
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, value_parser = clap::builder::BoolishValueParser::new())]
    take_over: bool,

    /// Repositories to sync at the same time
    #[arg(long, env = "MAX_PARALLEL_OPERATIONS", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    max_parallel_operations: u16,

    #[command(flatten)]
    aws: super::Aws,

    #[command(flatten)]
    defaults: super::Defaults,
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "results go to standard output, problems to standard error"
)]
pub(super) async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { paths, dry_run, take_over, max_parallel_operations, aws, defaults } = arguments;
    let entries = match inventory::read(&paths) {
        Ok(entries) => entries,
        Err(problems) => {
            for problem in &problems {
                eprintln!("error: {problem}");
            }
            eprintln!("{} in the input; nothing was done", counted(problems.len(), "problem"));
            return ExitCode::from(super::WRONG_INPUT);
        }
    };
    let docker = match DockerConfig::load() {
        Ok(docker) => Arc::new(docker),
        Err(error) => return super::fail(&super::with_causes(&error)),
    };
    let defaults = match Defaults::load(defaults.into()) {
        Ok(defaults) => defaults,
        Err(error) => return super::fail(&super::with_causes(&error)),
    };
    let transport = match Transport::new(&TransportOptions::default()) {
        Ok(transport) => transport,
        Err(error) => return super::fail(&super::with_causes(&error)),
    };
    let aws = match aws.options() {
        Ok(aws) => aws,
        Err(error) => return super::fail(&error),
    };
    let session = ecr::Session::load(aws, transport.clone(), Arc::new(Silent), None).await;
    let engine = Engine::new(session, transport, None, Limits::default()).with_defaults(defaults);
    let mode = if dry_run { Mode::DryRun } else { Mode::Apply };
    let stop = CancellationToken::new();
    let stopping = tokio::spawn(stop_on_interrupt(stop.clone()));

    let (suspended, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.spec.suspend);
    for entry in suspended {
        println!("{}: suspended, left alone", entry.repository());
    }
    let mut failed = 0;
    let total = entries.len();
    let mut reports = stream::iter(entries)
        .map(|entry| async {
            let report = engine.sync(&job(&entry, take_over, &docker).await, mode, &stop).await;
            (entry, report)
        })
        // In the order of the files, so that two runs can be compared line by line.
        .buffered(max_parallel_operations.into());
    while let Some((entry, report)) = reports.next().await {
        failed += usize::from(!report.is_success());
        for note in &entry.notes {
            eprintln!("warning: {}: {note}", entry.place);
        }
        print!("{}", describe(&entry, &report));
    }
    stopping.abort();
    let what = if dry_run { "planned, nothing was written" } else { "done" };
    println!("{}: {} {what}, {failed} failed", counted(total, "repository"), total - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) }
}

async fn stop_on_interrupt(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
}

async fn job(entry: &Entry, take_over: bool, docker: &DockerConfig) -> Job {
    let image = entry.spec.image.as_ref().map(|image| image.pull_url.parse::<Reference>().map_err(Failure::from));
    let chart = entry.spec.chart.as_ref().map(|chart| chart_reference(&chart.pull_url).map_err(Failure::from));
    let access = async |reference: Option<Result<Reference, Failure>>| -> Result<Access, Failure> {
        let Some(reference) = reference else { return Ok(Access::default()) };
        let credential = docker.credential(&reference?).await?;
        Ok(Access { credential, transport: TransportOptions::default() })
    };
    Job {
        name: entry.name.clone(),
        spec: entry.spec.clone(),
        claimant: Claimant::CommandLine { take_over },
        identity: identity(entry),
        access: Accesses { image: access(image).await, chart: access(chart).await },
        chart_source: None,
        before: Before::default(),
        derived: BTreeMap::new(),
        timeout: validation::timeout(&entry.spec).unwrap_or(validation::MAX_INTERVAL),
        progress: Progress::default(),
    }
}

/// The role of the entry; ServiceAccounts are of a cluster.
fn identity(entry: &Entry) -> Result<ecr::Identity, Failure> {
    let registry = entry.spec.registry.clone().unwrap_or_default();
    if registry.service_account_name.is_some() {
        return Err(Failure::new(
            Class::InvalidSpec,
            "registry.serviceAccountName needs a cluster: leave it out for the command line, and use registry.roleArn or the \
             identity of the environment",
        ));
    }
    let role = registry.role_arn.as_deref().map(str::parse).transpose();
    let role = role.map_err(|error| Failure::new(Class::InvalidSpec, format!("registry.roleArn: {error}")))?;
    Ok(ecr::Identity { service_account: None, role })
}

/// `1 repository`, `2 repositories`.
fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// The lines of one repository.
fn describe(entry: &Entry, report: &Report) -> String {
    let name = entry.repository();
    let state = match (report.is_success(), report.changes.is_empty(), report.dry_run) {
        (false, _, _) => "failed",
        (true, true, _) => "in sync",
        (true, false, true) => "would change",
        (true, false, false) => "changed",
    };
    let mut tags = String::new();
    for artifact in &report.artifacts {
        let noun = if artifact.kind == ArtifactKind::Image { "tags" } else { "chart versions" };
        tags.push_str(&format!(
            ", {}/{} {noun} of {}",
            artifact.synced().count(),
            artifact.tags.len(),
            artifact.source
        ));
    }
    let mut text = format!("{name}: {state}{tags}\n");
    for change in &report.changes {
        text.push_str(&format!("  + {change}\n"));
    }
    for failure in report.failure.iter().chain(&report.configuration) {
        text.push_str(&format!("  ! {failure}\n"));
    }
    for artifact in &report.artifacts {
        if let Some(failure) = &artifact.listing {
            text.push_str(&format!("  ! {failure}\n"));
        }
        for (tag, failure) in artifact.kept() {
            text.push_str(&format!("  = tag {tag}: {}\n", failure.message));
        }
        for (tag, failure) in artifact.failures() {
            text.push_str(&format!("  ! tag {tag}: {failure}\n"));
        }
    }
    for drift in &report.drift {
        text.push_str(&format!("  ~ {drift}\n"));
    }
    for warning in &report.warnings {
        text.push_str(&format!("  ? {warning}\n"));
    }
    text
}
