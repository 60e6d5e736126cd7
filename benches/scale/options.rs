//! Options: the number of resources, the builds, the rows.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::rows::Row;

/// Measures the operator with a crowd of resources.
#[derive(Debug, Parser)]
#[command(name = "scale")]
pub struct Options {
    /// Resources in the crowd
    #[arg(long, env = "N", default_value_t = 1000, value_name = "N")]
    pub resources: usize,

    /// Program of another build, measured in the same run
    #[arg(long, env = "AGAINST", value_name = "PROGRAM")]
    against: Option<PathBuf>,

    /// Rows to measure [default: all]
    #[arg(long = "row", value_enum, value_name = "ROW", value_delimiter = ',')]
    rows: Vec<Row>,

    /// Delay of each answer of the stand-in for ECR, in milliseconds
    #[arg(long, default_value_t = 20, value_name = "MS")]
    latency: u64,

    /// File for the results as JSON
    #[arg(long, env = "JSON", value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Ignored; cargo bench passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A program to measure.
#[derive(Debug, Clone)]
pub struct Build {
    pub name: String,
    pub program: PathBuf,
}

impl Options {
    pub fn rows(&self) -> Vec<Row> {
        if self.rows.is_empty() { Row::ALL.to_vec() } else { self.rows.clone() }
    }

    /// The other build first, so that both run on the same state of the machine.
    pub fn builds(&self) -> Vec<Build> {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_ecr-sync"));
        let build = |name: &str, program| Build { name: name.to_owned(), program };
        let other = self.against.clone().map(|program| build("against", program));
        other.into_iter().chain([build("this build", own)]).collect()
    }

    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }
}
