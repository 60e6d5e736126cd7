//! The results of a run: `target/bench/copy.json`, and `copy.md` for docs/benchmarks.md.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::compare::{HEAD, Row};
use crate::tools::Tool;
use crate::{Error, verdict};

/// Writes rows to standard output, and to the files, which are complete after each corpus.
#[derive(Debug)]
pub struct Page {
    folder: PathBuf,
    about: String,
    rows: Vec<Row>,
}

impl Page {
    /// Prints the table head.
    pub fn start(tools: &[Tool]) -> Result<Self, Error> {
        let folder = testbed::tools::workspace().join("target/bench");
        std::fs::create_dir_all(&folder)?;
        let tools: Vec<_> =
            tools.iter().map(|tool| format!("{} {}", tool.kind.name(), tool.version)).collect();
        let about = format!("{}\n{}.\n", machine()?, tools.join(", "));
        println!("{about}\n{HEAD}");
        Ok(Self { folder, about, rows: Vec::new() })
    }

    pub fn add(&mut self, found: Vec<Row>) -> Result<(), Error> {
        found.iter().for_each(|row| println!("{}", row.line()));
        self.rows.extend(found);
        let list: Vec<Value> = self.rows.iter().map(Row::json).collect();
        std::fs::write(self.folder.join("copy.json"), serde_json::to_string_pretty(&list)? + "\n")?;
        let lines: String = self.rows.iter().map(|row| row.line() + "\n").collect();
        let text = format!("{}\n{}\n{HEAD}\n{lines}", self.about, verdict::table(&self.rows));
        Ok(std::fs::write(self.folder.join("copy.md"), text)?)
    }

    /// Prints the numbers and their limits.
    pub fn end(self) {
        println!("\n{}", verdict::table(&self.rows));
    }
}

/// Returns the machine, the day, and the load.
fn machine() -> Result<String, Error> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, m)| m);
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let day = Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    let day = String::from_utf8_lossy(&day.stdout).trim().to_owned();
    Ok(format!("{cores} cores of {model}, {day}, load {load} at the start."))
}
