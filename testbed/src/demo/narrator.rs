//! Output of the demo; each line begins with the seconds since the start.

use std::fmt::Display;
use std::io::{IsTerminal, Stdout, Write, stdout};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Prints on standard output. A closed pipe does not stop the demo.
#[derive(Debug)]
pub(super) struct Narrator {
    out: Stdout,
    start: Instant,
    steps: AtomicU32,
    colour: bool,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let out = stdout();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out, start: Instant::now(), steps: AtomicU32::new(0), colour }
    }

    /// Prints the next numbered step, before it is done.
    pub(super) fn step(&self, text: impl Display) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.line(&self.painted("1", &format!("{number}. {text}")));
    }

    /// Prints a result.
    pub(super) fn say(&self, text: impl Display) {
        self.line(&format!("   {text}"));
    }

    /// Prints a check that passed.
    pub(super) fn proven(&self, text: impl Display) {
        self.line(&format!("   {} {text}", self.painted("32", "ok")));
    }

    /// Prints a failure.
    pub(super) fn failed(&self, text: impl Display) {
        self.line(&self.painted("1;31", &format!("FAILED: {text}")));
    }

    /// Prints a command as typed, and its output.
    pub(super) fn shows(&self, command: &str, output: &str) {
        self.say(self.painted("1", &format!("$ {command}")));
        for line in output.trim_end().lines() {
            self.plain(format!("           {line}").trim_end());
        }
    }

    /// Prints a line without the time.
    pub(super) fn plain(&self, line: &str) {
        // A closed pipe (`make demo | head`) must not end the demo before it has cleaned up.
        let _ = writeln!(self.out.lock(), "{line}");
    }

    fn line(&self, text: &str) {
        let stamp = format!("{:>5.1} s", self.start.elapsed().as_secs_f64());
        self.plain(&format!("{}  {text}", self.painted("2", &stamp)));
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
