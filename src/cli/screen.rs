//! Terminal output: results on standard output; log lines, problems and progress bars on standard
//! error.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines above the progress bars. Clones share one screen.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// Hidden until a command shows bars.
    bars: MultiProgress,
    /// The first result that could not be written.
    unwritten: Arc<OnceLock<std::io::Error>>,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            unwritten: Arc::default(),
        }
    }
}

impl Screen {
    /// Starts to draw the bars on standard error, and returns them.
    pub(super) fn show_bars(&self) -> &MultiProgress {
        self.bars.set_draw_target(ProgressDrawTarget::stderr());
        &self.bars
    }

    /// Writes results to standard output. A failure is kept for [`Self::unwritten`]: the work goes
    /// on.
    pub(super) fn out(&self, text: &str) {
        let written = self.bars.suspend(|| {
            let mut output = std::io::stdout().lock();
            output.write_all(text.as_bytes()).and_then(|()| output.flush())
        });
        if let Err(error) = written
            && !is_closed_pipe(&error)
        {
            let _later = self.unwritten.set(error);
        }
    }

    /// Returns the message for the user if results could not be written, as on a full disk.
    pub(super) fn unwritten(&self) -> Option<String> {
        self.unwritten.get().map(cannot_write)
    }

    /// Writes problems to standard error.
    pub(super) fn err(&self, text: &str) {
        self.bars.suspend(|| {
            let _closed = std::io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// Whether the reader of a pipe is gone, as in `| head`: not a failure.
pub(super) fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// Returns the message for results that could not be written to standard output.
pub(super) fn cannot_write(error: &std::io::Error) -> String {
    // Linux names the file behind a redirection; a pipe has a name like `pipe:[123]`.
    let file = std::fs::read_link("/proc/self/fd/1").ok().filter(|file| file.is_absolute());
    let file = file.map(|file| format!(" ({})", file.display())).unwrap_or_default();
    format!("cannot write to standard output{file}: {error}")
}

/// Whether standard error, where bars and log lines are written, is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether to use colours on a terminal: <https://no-color.org>.
pub(super) fn has_color(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether to use colours on standard output.
pub(super) fn colors_results() -> bool {
    has_color(
        std::io::stdout().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    )
}

impl<'w> MakeWriter<'w> for Screen {
    type Writer = LogLine<'w>;

    fn make_writer(&'w self) -> LogLine<'w> {
        LogLine { screen: self, bytes: Vec::new() }
    }
}

/// A log line; written in one piece when dropped.
#[derive(Debug)]
pub(super) struct LogLine<'w> {
    screen: &'w Screen,
    bytes: Vec<u8>,
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        self.screen.err(&String::from_utf8_lossy(&self.bytes));
    }
}
