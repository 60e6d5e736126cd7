//! What all rounds found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::evidence::{Sent, State};
use super::place::Program;

/// Kills between two lines of progress.
const PROGRESS: usize = 10;

/// The part of a sync in which a program was killed, by what the stand-in had seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// No request.
    Start,
    /// Requests that only read, and the creation of the repository.
    Look,
    /// Blobs.
    Blobs,
    /// Manifests, while blobs are missing.
    BlobsAndManifests,
    /// Manifests, when all blobs are there.
    Manifests,
    /// All tags are there.
    Done,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Start,
        Self::Look,
        Self::Blobs,
        Self::BlobsAndManifests,
        Self::Manifests,
        Self::Done,
    ];

    /// The phase of a program that has sent this, and left `after` of `all`.
    pub(super) fn of(sent: &Sent, after: &State, all: &State) -> Self {
        if after.tags.len() == all.tags.len() {
            Self::Done
        } else if sent.requests == 0 {
            Self::Start
        } else if sent.sessions == 0 && sent.manifests.is_empty() {
            Self::Look
        } else if sent.manifests.is_empty() {
            Self::Blobs
        } else if after.blobs.len() < all.blobs.len() {
            Self::BlobsAndManifests
        } else {
            Self::Manifests
        }
    }
}

/// The result of the rounds of one program.
#[derive(Debug)]
pub(super) struct Summary {
    program: Program,
    wanted: usize,
    started: Instant,
    phases: BTreeMap<Phase, usize>,
    /// Restarts that synced everything: one per round.
    pub(super) finished: usize,
    /// Blobs and manifests that the target accepted in all rounds, and bytes of those blobs.
    accepted: (usize, usize, u64),
    /// Uploads that a kill cut, and their bytes.
    cut: (usize, u64),
    pub(super) problems: Vec<String>,
}

impl Summary {
    pub(super) fn new(program: Program, wanted: usize) -> Self {
        Self {
            program,
            wanted,
            started: Instant::now(),
            phases: BTreeMap::new(),
            finished: 0,
            accepted: (0, 0, 0),
            cut: (0, 0),
            problems: Vec::new(),
        }
    }

    /// Counts a kill, and prints the progress from time to time.
    pub(super) fn killed(&mut self, phase: Phase) {
        *self.phases.entry(phase).or_default() += 1;
        let kills = self.kills();
        if kills.is_multiple_of(PROGRESS) || kills == self.wanted {
            println!(
                "{}: {kills} of {} kills, {} syncs completed, {} problems, {} s",
                self.program.name(),
                self.wanted,
                self.finished,
                self.problems.len(),
                self.started.elapsed().as_secs()
            );
        }
    }

    /// Counts what a program sent.
    pub(super) fn sent(&mut self, sent: &Sent) {
        for (_, bytes, is_accepted) in &sent.blobs {
            if *is_accepted {
                self.accepted.0 += 1;
                self.accepted.2 += bytes;
            } else {
                self.cut.0 += 1;
                self.cut.1 += bytes;
            }
        }
        self.accepted.1 += sent.manifests.iter().filter(|(_, is_accepted)| *is_accepted).count();
    }

    pub(super) fn kills(&self) -> usize {
        self.phases.values().sum()
    }

    /// A table with the numbers of all programs.
    pub(super) fn table(all: &[Self], times: &[Duration]) -> String {
        let mut table = "| kills of | kills | at the start | while looking | blobs | blobs and \
                         manifests | manifests | when done | syncs completed | blobs accepted | \
                         manifests accepted | bytes accepted | uploads cut | bytes cut | a sync \
                         takes | problems |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\
                         ---|---|---|\n"
            .to_owned();
        for (summary, time) in all.iter().zip(times) {
            let phases = Phase::ALL.map(|phase| {
                format!(" {} |", summary.phases.get(&phase).copied().unwrap_or_default())
            });
            let _ok = writeln!(
                table,
                "| {} | {} |{} {} | {} | {} | {} | {} | {} | {:.1} s | {} |",
                summary.program.name(),
                summary.kills(),
                phases.concat(),
                summary.finished,
                summary.accepted.0,
                summary.accepted.1,
                summary.accepted.2,
                summary.cut.0,
                summary.cut.1,
                time.as_secs_f64(),
                summary.problems.len(),
            );
        }
        table
    }
}
