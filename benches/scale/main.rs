//! The operator with a crowd of resources: time until a new resource is worked on, memory, requests
//! and writes, the size of `/metrics`, failover, an API server that goes away.
//!
//! `make scale` runs it against a real API server; `docs/benchmarks.md` has the method and the
//! results.

#![allow(unreachable_pub, reason = "a benchmark is not a library")]

mod crowd;
mod operator;
mod options;
mod page;
mod rig;
mod rows;

use std::process::ExitCode;

use clap::Parser as _;

use options::Options;
use page::Page;
use rig::Rig;

/// Nobody looks at more than the message.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(Error::from);
    match runtime.and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<(), Error> {
    let rig = Rig::new(options).await?;
    let mut page = Page::new(options);
    for row in options.rows() {
        for build in options.builds() {
            eprintln!("{} of {}", row.name(), build.name);
            page.add(&build.name, row.measure(&rig, &build).await?);
        }
    }
    rig.stop().await?;
    page.end()
}
