//! Child processes that cannot outlive the process that started them.
//!
//! A test binary that is killed, or that panics with a server in a `static`, runs no destructor. So
//! a [`Process`] is the child of a small shell, its supervisor, which reads a pipe that only this
//! program holds. The kernel closes the pipe when this program ends in any way; the supervisor then
//! stops the process with SIGTERM, and SIGKILL after a grace period. No thread, no async task and
//! no unsafe code is involved, so a `Process` can live in a `static` across many runtimes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::Error;

/// Time for a program to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(10);

/// Interval between checks whether a program has ended, or is ready.
const POLL: Duration = Duration::from_millis(10);

/// Attempts with other ports if one of the first was taken.
const TRIES: usize = 5;

/// The supervisor. `$1` is the grace in tenths of a second, the rest is the program and its
/// arguments.
///
/// Descriptor 3 is the pipe: a line is the name of a signal to send, its end means "stop". A shell
/// starts a background command with /dev/null as its input, hence the copy. The program inherits
/// neither the pipe nor the output of this process.
const SUPERVISOR: &str = r#"
grace=$1; shift
exec 3<&0 4>&1 </dev/null >&2
"$@" 3<&- 4>&- &
child=$!
echo "$child" >&4
exec 4>&-
(
  while read -r signal; do kill -s "$signal" "$child"; done <&3
  kill -s TERM "$child"
  while [ "$grace" -gt 0 ] && kill -0 "$child"; do sleep 0.1; grace=$((grace - 1)); done
  kill -s KILL "$child"
) 2>/dev/null &
watcher=$!
wait "$child"; code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"#;

/// A running program, or one that has ended, with its exit code.
///
/// Dropping it kills the program at once and waits until it has ended; [`Process::stop`] sends
/// SIGTERM first.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    grace: Duration,
    supervisor: Mutex<Supervisor>,
}

#[derive(Debug)]
struct Supervisor {
    shell: Child,
    /// `None` once the program has been stopped.
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts a command (program, arguments, environment, folder), and appends its output to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the supervisor cannot be started. A program that does not
    /// exist exits with 127.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self, Error> {
        Self::spawn_with_grace(name, command, log, GRACE)
    }

    /// Starts a command like [`Process::spawn`], with another time between SIGTERM and SIGKILL.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn_with_grace(
        name: &str,
        command: &Command,
        log: &Path,
        grace: Duration,
    ) -> Result<Self, Error> {
        let cannot = |what: &str, e: &dyn std::fmt::Display| {
            Error::from(format!("cannot start {name}: {what}: {e}"))
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|e| cannot(&format!("cannot open its log {}", log.display()), &e))?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SUPERVISOR, "supervisor"]).arg((grace.as_millis() / 100).to_string());
        shell.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        // A separate process group: this program handles Ctrl-C at a terminal.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output);
        let mut shell = shell.spawn().map_err(|e| cannot("/bin/sh", &e))?;

        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|e| cannot("its pid cannot be read", &e))?;
        }
        let pid = line
            .trim()
            .parse()
            .map_err(|e| cannot(&format!("its pid cannot be read from {line:?}"), &e))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            pid,
            grace,
            supervisor: Mutex::new(Supervisor { shell, pipe }),
        })
    }

    /// Returns the name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the id of the program, not of its supervisor. After the program has ended, the id
    /// can belong to another process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the file with the program's output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the last `lines` lines of the program's output, for messages.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
            .unwrap_or_else(|e| format!("(cannot read {}: {e})", self.log.display()))
    }

    /// Returns the exit code once the program has ended; 128 + n if signal n ended it, as in a
    /// shell.
    pub fn exited(&self) -> Option<i32> {
        let status = self.supervisor.lock().shell.try_wait().ok().flatten()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }

    /// Sends a signal by name (`TERM`, `INT`, `STOP`, …), soon after this call. A program that has
    /// ended receives nothing.
    pub fn signal(&self, name: &str) {
        if let Some(pipe) = &mut self.supervisor.lock().pipe {
            // The only possible error is a closed pipe: the program has ended.
            let _ = writeln!(pipe, "{name}");
        }
    }

    /// Sends SIGKILL. See [`Process::wait`] for the end.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Stops the program with SIGTERM, or SIGKILL after the grace period. Returns its exit code.
    ///
    /// # Errors
    /// When the program still runs two seconds after SIGKILL.
    pub async fn stop(&self) -> Result<i32, Error> {
        drop(self.supervisor.lock().pipe.take());
        self.wait(self.grace + Duration::from_secs(2)).await
    }

    /// Waits until the program ends by itself or by a signal sent before. Returns its exit code.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn wait(&self, deadline: Duration) -> Result<i32, Error> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(code) = self.exited() {
                return Ok(code);
            }
            if Instant::now() >= end {
                let (name, pid, tail) = (&self.name, self.pid, self.tail(10));
                return Err(format!(
                    "{name} (pid {pid}) has not ended within {deadline:?}; its log ends:\n{tail}"
                )
                .into());
            }
            sleep(POLL).await;
        }
    }

    /// Returns an error with the exit code and the end of the log if the program has ended: for
    /// loops that wait for it to be ready.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn alive(&self) -> Result<(), Error> {
        match self.exited() {
            None => Ok(()),
            Some(code) => {
                Err(format!("{} exited with {code}; its log ends:\n{}", self.name, self.tail(20))
                    .into())
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let mut supervisor = self.supervisor.lock();
        drop(supervisor.pipe.take());
        let _ = supervisor.shell.wait();
    }
}

/// Returns a port of 127.0.0.1 that was free a moment ago. Another process can take it first.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> Result<u16, Error> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")
        .map_err(|e| format!("no free port on 127.0.0.1: {e}"))?;
    Ok(listener
        .local_addr()
        .map_err(|e| format!("cannot read the port of a listener: {e}"))?
        .port())
}

/// Whether a program's error or log reports that its port is in use.
fn port_was_taken(message: &str) -> bool {
    // Go writes it in lower case, Rust with a capital.
    message.to_ascii_lowercase().contains("address already in use")
}

/// Runs `start` with free ports, and again with others if a port was taken before the program bound
/// it.
pub(crate) async fn retry_ports<const N: usize, T>(
    start: impl AsyncFn([u16; N]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        let mut ports = [0; N];
        for port in &mut ports {
            *port = free_port()?;
        }
        match start(ports).await {
            Err(e) if tries < TRIES && port_was_taken(&e.to_string()) => tries += 1,
            other => return other,
        }
    }
}

/// Sends requests until one succeeds, the process has ended, or `limit` is over.
pub(crate) async fn wait_ready(
    process: &Process,
    request: reqwest::RequestBuilder,
    limit: Duration,
) -> Result<(), Error> {
    let end = Instant::now() + limit;
    loop {
        process.alive()?;
        let again = request.try_clone().ok_or("a request without a body can be cloned")?;
        let answer = match again.timeout(Duration::from_secs(5)).send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                format!("{}: {}", response.status(), response.text().await.unwrap_or_default())
            }
            Err(e) => e.to_string(),
        };
        if Instant::now() >= end {
            let (name, tail) = (process.name(), process.tail(20));
            return Err(format!(
                "{name} was not ready within {limit:?}: {answer}; its log ends:\n{tail}"
            )
            .into());
        }
        sleep(POLL).await;
    }
}

/// Whether a process with this id exists.
pub fn is_running(pid: u32) -> bool {
    let probe = Command::new("/bin/sh")
        .args(["-c", "kill -0 \"$1\"", "sh"])
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

fn tail(log: &Path, lines: usize) -> std::io::Result<String> {
    /// No program writes lines so long that 20 of them do not fit.
    const WINDOW: u64 = 64 * 1024;
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}
