//! Options: the tools, corpora and latencies to measure.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::tools::Kind;

const PARTS: [&str; 7] =
    ["tags-20", "index-5", "layers-8", "tags-200", "tags-200-limited", "pipe", "memory"];

/// Measures copies by ecr-sync and by other tools.
#[derive(Debug, Parser)]
#[command(name = "copy")]
pub struct Options {
    /// `quick`: each tool once, and only ecr-sync, crane and regsync unless others are named
    #[arg(long = "mode", env = "BENCH", value_enum, default_value_t)]
    mode: Mode,

    /// Tools to measure [default: all available]
    #[arg(long = "tool", value_name = "NAME", value_delimiter = ',', value_parser = tool)]
    tools: Vec<Kind>,

    /// Corpora to measure [default: all]
    #[arg(long = "corpus", value_name = "NAME", value_delimiter = ',', value_parser = PARTS)]
    corpora: Vec<String>,

    /// Latencies to measure [default: all of each corpus]
    #[arg(long = "latency", value_name = "MS", value_delimiter = ',')]
    latencies: Vec<u64>,

    /// Runs of each tool
    #[arg(long, value_name = "N")]
    runs: Option<usize>,

    /// Ignored; cargo bench passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Five runs of everything.
    #[default]
    Full,
    /// One run of the tools that have limits.
    Quick,
}

fn tool(name: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name).join(", ");
        format!("the tools are {names}")
    })
}

impl Options {
    pub fn tools(&self) -> Vec<Kind> {
        match self.mode {
            _ if !self.tools.is_empty() => self.tools.clone(),
            Mode::Quick => vec![Kind::EcrSync, Kind::Crane, Kind::Regsync],
            Mode::Full => Kind::ALL.to_vec(),
        }
    }

    pub fn wants(&self, part: &str) -> bool {
        self.corpora.is_empty() || self.corpora.iter().any(|corpus| corpus == part)
    }

    pub fn has_latency(&self, latency: Duration) -> bool {
        self.latencies.is_empty()
            || self.latencies.iter().any(|wanted| latency.as_millis() == u128::from(*wanted))
    }

    pub fn is_quick(&self) -> bool {
        self.mode == Mode::Quick
    }

    /// Runs of each tool on each corpus.
    pub fn runs(&self) -> usize {
        self.count(5)
    }

    /// Runs of the pipe: they are short, so the median needs more of them.
    pub fn pipes(&self) -> usize {
        self.count(9)
    }

    /// Runs of the memory benchmarks, which copy gigabytes.
    pub fn memories(&self) -> usize {
        self.count(3)
    }

    fn count(&self, full: usize) -> usize {
        self.runs.unwrap_or(if self.is_quick() { 1 } else { full }).max(1)
    }
}
