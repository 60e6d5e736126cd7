//! Cost of a copy, compared with other tools: requests as the servers count them, time, CPU and
//! memory.
//!
//! `make bench` runs it; `docs/benchmarks.md` has the method and the results.

#![allow(unreachable_pub, reason = "a benchmark is not a library")]

mod child;
mod compare;
mod corpus;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../tests/it/support/corpus.rs"]
mod maker;
mod memory;
mod options;
mod page;
mod pipe;
mod rig;
mod tools;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;
use testbed::scratch;
use testbed::upstream::{Auth, Upstream};

use options::Options;
use page::Page;
use tools::{Kind, Tool};

/// Nobody looks at more than the message.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(argument) if argument == child::WAITER => return child::waiter(arguments),
        Some(argument) if argument == pipe::PIPE => return pipe::pipe(arguments),
        _ => {}
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result =
        runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(bench(Options::parse())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: Options) -> Result<(), Error> {
    let mut tools = Vec::new();
    for kind in options.tools() {
        match Tool::find(kind)? {
            Some(tool) => tools.push(tool),
            None => eprintln!("{} is not on PATH and is skipped", kind.name()),
        }
    }
    let mut page = Page::start(&tools)?;
    if let Some(tool) = tools.iter().find(|tool| tool.kind == Kind::EcrSync) {
        if options.wants("pipe") {
            page.add(pipe::compare(tool, options.pipes()).await?)?;
        }
        if options.wants("memory") {
            page.add(memory::measure(tool, options.is_quick(), options.memories()).await?)?;
        }
    }
    let upstream = Upstream::start(scratch::folder("copy")?, Auth::None).await?;
    for corpus in corpus::make(upstream.host(), |name| options.wants(name)).await? {
        for latency in corpus.latencies.iter().filter(|latency| options.has_latency(**latency)) {
            page.add(
                compare::compare(&upstream, &corpus, *latency, &tools, options.runs()).await?,
            )?;
        }
    }
    page.end();
    Ok(())
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
