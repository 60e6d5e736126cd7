//! Terminal output: results on standard output; log lines, problems and progress bars on standard
//! error.

use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines above the progress bars. Clones share one screen.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// Hidden until a command shows bars.
    bars: MultiProgress,
}

impl Default for Screen {
    fn default() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()) }
    }
}

impl Screen {
    /// Starts to draw the bars on standard error, and returns them.
    pub(super) fn show_bars(&self) -> &MultiProgress {
        self.bars.set_draw_target(ProgressDrawTarget::stderr());
        &self.bars
    }

    /// Writes results to standard output. A closed pipe, as in `| head`, is not a failure.
    pub(super) fn out(&self, text: &str) {
        self.bars.suspend(|| {
            let mut output = std::io::stdout().lock();
            let _closed = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        });
    }

    /// Writes problems to standard error.
    pub(super) fn err(&self, text: &str) {
        self.bars.suspend(|| {
            let _closed = std::io::stderr().lock().write_all(text.as_bytes());
        });
    }
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
