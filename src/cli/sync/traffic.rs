//! Bytes of running copies, and the progress bars on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::cli::screen::Screen;
use crate::meter::Meter;
use crate::sync::Progress;

/// Interval between redraws: smooth for the eye, and the rate falls when no bytes arrive.
const TICK: Duration = Duration::from_millis(200);

/// Counts bytes, and draws bars on a terminal.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    copied: AtomicU64,
    expected: AtomicU64,
    bars: Option<Bars>,
}

#[derive(Debug)]
struct Bars {
    repositories: ProgressBar,
    bytes: ProgressBar,
    running: Running,
    /// Task that writes the message of the bar of repositories.
    messages: AbortHandle,
}

/// Repositories in progress, in the order in which they began.
type Running = Arc<Mutex<Vec<(String, Progress)>>>;

/// Returns the message of the bar of repositories: the first one that copies, else the first one.
fn message(running: &[(String, Progress)]) -> String {
    let copying = running.iter().find(|(_, progress)| progress.snapshot().is_copying());
    let more = |text: String| match running.len() {
        0 | 1 => text,
        count => format!("{text}, and {} more", count - 1),
    };

    match (copying, running.first()) {
        (Some((repository, progress)), _) => more(format!("{repository}: {}", progress.snapshot())),
        (None, Some((repository, _))) => more(repository.clone()),
        (None, None) => String::new(),
    }
}

impl Traffic {
    /// Shows bars on the screen.
    pub(super) fn shown(screen: &Screen, repositories: usize) -> Self {
        let bars = screen.show_bars();
        let bar = |length: usize, template: &str| {
            let bar = bars.add(ProgressBar::new(length as u64));
            // The templates are constants and valid.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(TICK);
            bar
        };
        let repositories = bar(repositories, "repositories [{bar:30}] {pos}/{len} {wide_msg}");
        let bytes = bar(
            0,
            "copies       [{bar:30}] {decimal_bytes}/{decimal_total_bytes} \
             {decimal_bytes_per_sec}, {eta} left",
        );

        let running = Running::default();
        let messages = tokio::spawn({
            let running = running.clone();
            let bar = repositories.clone();
            async move {
                loop {
                    bar.set_message(message(&running.lock()));
                    tokio::time::sleep(TICK).await;
                }
            }
        });
        let messages = messages.abort_handle();

        Self { bars: Some(Bars { repositories, bytes, running, messages }), ..Self::default() }
    }

    /// Reports that a repository has begun.
    pub(super) fn began(&self, repository: &str, progress: &Progress) {
        if let Some(bars) = &self.bars {
            bars.running.lock().push((repository.to_owned(), progress.clone()));
        }
    }

    /// Reports that a repository is finished.
    pub(super) fn finished(&self, repository: &str) {
        if let Some(bars) = &self.bars {
            bars.running.lock().retain(|(name, _)| name != repository);
            bars.repositories.inc(1);
        }
    }

    /// Removes the bars.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.messages.abort();
            bars.repositories.finish_and_clear();
            bars.bytes.finish_and_clear();
        }
    }

    /// Returns the bytes of blobs copied so far.
    pub(super) fn bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }
}

impl Meter for Traffic {
    fn to_copy(&self, bytes: u64) {
        let expected = self.expected.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bars) = &self.bars {
            bars.bytes.set_length(expected);
        }
    }

    fn copied(&self, bytes: u64) {
        let copied = self.copied.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bars) = &self.bars {
            // A blob that is sent again counts twice; the bar must not pass its end.
            bars.bytes.set_position(copied.min(self.expected.load(Ordering::Relaxed)));
        }
    }
}
