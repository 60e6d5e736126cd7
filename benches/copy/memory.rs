//! Memory that a copy adds to the process, by the size of the layers.

use std::time::Duration;

use testbed::generated::Generated;

use crate::Error;
use crate::compare::{self, Row};
use crate::corpus::Corpus;
use crate::rig::Rig;
use crate::tools::Tool;

/// Corpus, repository, layers, bytes of each.
type Case = (&'static str, &'static str, usize, u64);

const FULL: [Case; 3] = [
    ("memory-32x64KiB", "flat/small", 32, 64 << 10),
    ("memory-32x64MiB", "flat/large", 32, 64 << 20),
    ("memory-1x10GB", "flat/huge", 1, 10_000_000_000),
];

const QUICK: [Case; 3] = [
    ("memory-32x64KiB", "flat/small", 32, 64 << 10),
    ("memory-32x8MiB", "flat/large", 32, 8 << 20),
    ("memory-1x1GB", "flat/huge", 1, 1_000_000_000),
];

/// Copies images with layers of several sizes, from a source that generates them to a target that
/// discards them. The second, warm run does everything except the copy.
pub async fn measure(tool: &Tool, quick: bool, runs: usize) -> Result<Vec<Row>, Error> {
    let cases = if quick { QUICK } else { FULL };
    let source =
        Generated::start(&cases.map(|(_, repository, layers, size)| (repository, layers, size)))
            .await?;
    let mut rows = Vec::new();
    for (name, repository, ..) in cases {
        let digest = source.digest(repository).ok_or("an image")?;
        let corpus = Corpus::of_one(name, repository, digest);
        let row = |phase| Row::new(tool.kind.name(), &tool.version, name, Duration::ZERO, phase);
        let mut pair = [row("cold"), row("warm")];
        for _ in 0..runs {
            let rig = Rig::direct(source.host(), source.traffic().clone()).await?;
            for row in &mut pair {
                row.samples
                    .push(compare::run(&rig, &corpus, tool, "memory", "memory.log", false).await?);
            }
        }
        rows.extend(pair);
    }
    Ok(rows)
}
