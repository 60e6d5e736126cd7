//! Simulated runs of the program with random faults on every edge. docs/development.md says how to
//! run and replay them.
//!
//! ```text
//! seed -> World    ECR and the sources (the stand-in, in this process)
//!      -> Weather  delays and faults of every request, by its name and number
//!      -> Process  the program; dropping it is a kill
//! ```
//!
//! A run disturbs the program for some passes, lets everything become calm, and checks the
//! invariants. Time is simulated: a run of hours takes milliseconds. There is no socket and no
//! second thread.
//!
//! # What a seed decides
//! The content, the spec, every delay, fault, interruption and jitter. Faults depend on the name of
//! a request and its number, not on the order of requests. One order is not decided: tokio wakes
//! several tasks that wait for the same `watch` in a random order, which matters for images that
//! share a blob and then queue for a rate limit.

mod api_server;
mod cluster;
mod dice;
mod image;
mod invariants;
mod network;
mod process;
mod replica;
mod run;
mod weather;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use run::{CLOCK, Scenario, run};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Seeds that run with all tests.
const SEEDS: std::ops::Range<u64> = 0..16;

#[test]
fn invariants_hold_whatever_fails() {
    for seed in SEEDS {
        if let Err(broken) = run(Scenario::of(seed), seed) {
            panic!("{broken}\nreplay: make chaos SEED={seed} RUNS=1");
        }
    }
}

/// In these seeds, no images that share a blob queue for a rate limit.
#[test]
fn a_seed_replays_exactly() {
    for seed in SEEDS.take(4) {
        let once = run(Scenario::of(seed), seed);
        assert_eq!(once, run(Scenario::of(seed), seed), "seed {seed}");
    }
}

#[test]
#[ignore = "long: make chaos"]
#[allow(clippy::print_stderr, reason = "the output of make chaos")]
fn chaos() {
    start_log();
    let first = variable("CHAOS_SEED").unwrap_or(0);
    let runs = variable("CHAOS_RUNS").unwrap_or(1000);
    let began = std::time::Instant::now();
    let (mut faults, mut passes, mut interruptions, mut requests) = (BTreeMap::new(), 0, 0, 0);
    let mut broken = Vec::new();

    for (done, seed) in (1..).zip(first..first + runs) {
        match run(Scenario::of(seed), seed) {
            Ok(summary) => {
                for (edge, count) in summary.faults {
                    *faults.entry(edge).or_insert(0) += count;
                }
                passes += summary.passes;
                interruptions += summary.interruptions;
                requests += summary.requests;
            }
            Err(problem) => {
                eprintln!("BROKEN: {problem}\n  replay: make chaos SEED={seed} RUNS=1");
                broken.push(seed);
            }
        }
        if done % 100 == 0 {
            eprintln!("{done} of {runs} runs, {:.0} s", began.elapsed().as_secs_f64());
        }
    }

    eprintln!(
        "{runs} runs from seed {first} in {:.1} s: {passes} passes of the engine, {interruptions} \
         interruptions, {requests} requests, faults {faults:?}, {} broken",
        began.elapsed().as_secs_f64(),
        broken.len()
    );
    assert!(broken.is_empty(), "seeds with a broken invariant: {broken:?}");
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Writes log lines with simulated times if `CHAOS_LOG` has a filter.
fn start_log() {
    if let Ok(filter) = std::env::var("CHAOS_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_timer(Simulated)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
}

/// Seconds since the beginning of the run.
struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let began = *CLOCK.lock();
        let elapsed = began.map(|began| Instant::now().saturating_duration_since(began));
        write!(line, "{:9.3}", elapsed.unwrap_or_default().as_secs_f64())
    }
}
