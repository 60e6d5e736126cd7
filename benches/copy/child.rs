//! Runs a program to its end, and measures its cost.
//!
//! Until a program has started, the kernel counts the memory of its parent as the program's own. So
//! a program is not our child (we hold servers and logs) but the child of a second, small copy of
//! this binary, which waits for it and returns the result of `wait4`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wait4::Wait4 as _;

use crate::Error;

/// The first argument of the copy of this binary that waits.
pub const WAITER: &str = "wait-for";

/// Much longer than the slowest tool needs for the largest corpus.
const DEADLINE: &str = "400";

/// The cost of a run of a program.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub succeeded: bool,
    pub wall: Duration,
    /// User and system time, including children.
    pub cpu: Duration,
    /// The largest resident set, including children.
    pub rss: u64,
}

/// Runs a command with its output in `log`.
pub async fn run(command: Command, log: PathBuf) -> Result<Cost, Error> {
    tokio::task::spawn_blocking(move || wait(&command, &log)).await?
}

fn wait(command: &Command, log: &Path) -> Result<Cost, Error> {
    let result = log.with_extension("cost");
    let mut waiter = Command::new(std::env::current_exe()?);
    waiter.arg(WAITER).arg(&result).args(["timeout", "-k", "5", DEADLINE]);
    waiter.arg(command.get_program()).args(command.get_args()).env_clear();
    // Only variables for programs and temporary folders, none that would configure a tool.
    waiter.envs(["PATH", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    waiter.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        waiter.current_dir(folder);
    }
    let output = File::options().create(true).append(true).open(log)?;
    waiter.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let status = waiter.status()?;
    if !status.success() {
        return Err(format!("{:?} cannot be run: {}", command.get_program(), tail(log)).into());
    }
    let cost: Value = serde_json::from_slice(&std::fs::read(&result)?)?;
    let seconds = |name: &str| Duration::from_secs_f64(cost[name].as_f64().unwrap_or_default());
    Ok(Cost {
        succeeded: cost["succeeded"] == true,
        wall: seconds("wall"),
        cpu: seconds("cpu"),
        rss: cost["rss"].as_u64().unwrap_or_default(),
    })
}

/// The waiter: `RESULT PROGRAM ARGUMENT...`.
pub fn waiter(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(result), Some(program)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    match measure(&result, &program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn measure(
    result: &OsStr,
    program: &OsStr,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(), Error> {
    let started = Instant::now();
    let child = Command::new(program).args(arguments).spawn()?;
    let used = child.wait4()?;
    let wall = started.elapsed();
    let cpu = used.rusage.utime + used.rusage.stime;
    let cost = json!({
        "succeeded": used.status.success(),
        "wall": wall.as_secs_f64(),
        "cpu": cpu.as_secs_f64(),
        "rss": used.rusage.maxrss,
    });
    Ok(std::fs::write(result, cost.to_string())?)
}

/// The end of a log, for messages.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}
