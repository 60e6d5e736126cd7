//! One run: a world, a program that is disturbed for some passes, and the checks.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::dice::Seed;
use super::invariants::{
    Broken, budgets_hold, budgets_hold_under_faults, converged, nothing_is_written,
    only_ours_is_written, tags_are_complete,
};
use super::process::Process;
use super::weather::Faults;
use super::world::{AFTER_ALL_PAUSES, World, spec};

/// Start of the run, for log lines.
pub(super) static CLOCK: Mutex<Option<Instant>> = Mutex::new(None);

/// The repository of the run.
const APP: &str = "app";
/// Simulated time after which a run hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Passes without faults after which everything is in place. One is enough unless the program
/// remembers a failure.
const CALM_PASSES: usize = 3;

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Injected faults.
    pub(super) faults: Faults,
    /// Number of passes.
    pub(super) passes: u64,
    /// Number of kills and cancelled passes.
    pub(super) interruptions: u64,
    /// Number of requests.
    pub(super) requests: u64,
    /// A hash of all requests with their times: equal for equal runs.
    pub(super) trace: u64,
}

/// A part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// Passes of the engine over one repository.
    Engine,
    /// The whole operator, with several resources.
    Controller,
}

impl Scenario {
    /// The scenario of a seed in a long run. Runs of the controller take longer.
    pub(super) fn of(seed: u64) -> Self {
        if seed % 4 == 3 { Self::Controller } else { Self::Engine }
    }
}

/// Runs one seed.
pub(super) fn run(scenario: Scenario, seed: u64) -> Result<Summary, Broken> {
    // The jitter of retries, ours and the SDK's.
    fastrand::seed(seed);
    // Without a driver for sockets: a socket would be an error.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        *CLOCK.lock() = Some(Instant::now());
        let seed = Seed(seed);
        let simulation = async {
            match scenario {
                Scenario::Engine => simulate(seed).await,
                Scenario::Controller => cluster::simulate(seed).await,
            }
        };
        match timeout(HANGS_AFTER, simulation).await {
            Ok(result) => result,
            Err(_) => Err("the program hangs".to_owned()),
        }
    })
}

async fn simulate(seed: Seed) -> Result<Summary, Broken> {
    let world = World::new(seed);
    let mut rng = seed.rng("run");
    let spec = spec(&world, &mut rng);
    let mut summary = Summary::default();
    let mut process = Process::start(&world);

    for _ in 0..rng.usize(1..6) {
        let mark = world.ecr.mark();
        summary.passes += 1;
        if disturbed_pass(&world, &process, &spec, &mut rng).await {
            summary.interruptions += 1;
            // A kill: only the outside is left.
            if rng.bool() {
                process = Process::start(&world);
            }
        }
        tags_are_complete(&world, APP)?;
        budgets_hold_under_faults(&world.ecr.log_since(mark))?;
        world.change(&mut rng, APP);
        sleep(Duration::from_secs(rng.u64(1..600))).await;
    }

    world.weather.calm();
    sleep(AFTER_ALL_PAUSES).await;
    settle(&world, &process, &spec).await?;
    summary.passes += 2;
    let records = world.ecr.log();
    only_ours_is_written(&world, &records, &[APP])?;
    drop(process);
    nothing_leaks()?;

    summary.faults = world.weather.faults();
    summary.requests = records.len() as u64;
    summary.trace = world.weather.trace();
    Ok(summary)
}

/// Runs a pass that may be stopped at any time. Returns whether it was.
async fn disturbed_pass(
    world: &World,
    process: &Process,
    spec: &Value,
    rng: &mut fastrand::Rng,
) -> bool {
    let stop = CancellationToken::new();
    let end = Duration::from_millis(rng.u64(1..60_000));
    let pass = process.pass(spec, &stop);
    match rng.u8(..4) {
        // Asked to stop.
        0 => {
            let mut pass = std::pin::pin!(pass);
            if timeout(end, &mut pass).await.is_ok() {
                return false;
            }
            stop.cancel();
            pass.await;
            true
        }
        // Dropped.
        1 => timeout(end, pass).await.is_err(),
        2 => {
            // Something changes while the pass is running.
            let change = async {
                sleep(end).await;
                world.change(&mut rng.clone(), APP);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                _ = pass => {}
                () = change => {}
            }
            false
        }
        _ => {
            pass.await;
            false
        }
    }
}

/// Without faults, everything is soon in place, and then nothing is written.
async fn settle(world: &World, process: &Process, spec: &Value) -> Result<(), Broken> {
    let mark = world.ecr.mark();
    let mut failure = String::new();
    for _ in 0..CALM_PASSES {
        let report = process.pass(spec, &CancellationToken::new()).await;
        let failures: Vec<_> = report.failures().map(ToString::to_string).collect();
        failure = failures.join("; ");
        if failure.is_empty() {
            break;
        }
        sleep(AFTER_ALL_PAUSES).await;
    }
    if !failure.is_empty() {
        return Err(format!("no convergence without faults: {failure}"));
    }
    tags_are_complete(world, APP)?;
    converged(world, APP, spec)?;
    budgets_hold(&world.ecr.log_since(mark), 1)?;

    let mark = world.ecr.mark();
    process.pass(spec, &CancellationToken::new()).await;
    nothing_is_written(&world.ecr.log_since(mark))
}

/// The program has ended: no task is left.
pub(super) fn nothing_leaks() -> Result<(), Broken> {
    match Handle::current().metrics().num_alive_tasks() {
        0 => Ok(()),
        tasks => Err(format!("{tasks} tasks are left after the end")),
    }
}
