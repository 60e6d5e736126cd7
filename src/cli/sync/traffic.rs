//! Bytes of running copies, and the bars that show them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::AbortHandle;

use crate::cli::screen::Screen;
use crate::meter::Meter;
use crate::sync::Progress;

/// Often enough for the eye, and for a rate that falls when nothing comes.
const TICK: Duration = Duration::from_millis(200);

/// Counts bytes, and draws them where somebody watches.
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
    /// Repositories under way, in the order in which they began.
    running: Arc<Mutex<Vec<(String, Progress)>>>,
    /// Says so behind the bar of repositories.
    told: AbortHandle,
}

/// What stands behind the bar of repositories: the first one under way that copies, else the first
/// one.
fn running(all: &[(String, Progress)]) -> String {
    let copying = all.iter().find(|(_, progress)| progress.standing().is_copying());
    let more = |text: String| {
        if all.len() > 1 { format!("{text}, and {} more", all.len() - 1) } else { text }
    };
    match (copying, all.first()) {
        (Some((repository, progress)), _) => more(format!("{repository}: {}", progress.standing())),
        (None, Some((repository, _))) => more(repository.clone()),
        (None, None) => String::new(),
    }
}

impl Traffic {
    /// With bars on the screen, for so many repositories.
    pub(super) fn shown(screen: &Screen, repositories: usize) -> Self {
        let bars = screen.show_bars();
        let under_way: Arc<Mutex<Vec<(String, Progress)>>> = Arc::default();
        let bar = |length: usize, template: &str| {
            let bar = bars.add(ProgressBar::new(length as u64));
            // A template is a constant of ours.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(TICK);
            bar
        };
        let repositories = bar(repositories, "repositories [{bar:30}] {pos}/{len} {wide_msg}");
        let bytes = bar(
            0,
            "copies       [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        );
        let (shown, line) = (under_way.clone(), repositories.clone());
        let told = tokio::spawn(async move {
            loop {
                line.set_message(running(&shown.lock().unwrap_or_else(PoisonError::into_inner)));
                tokio::time::sleep(TICK).await;
            }
        });
        let told = told.abort_handle();
        Self {
            bars: Some(Bars { repositories, bytes, running: under_way, told }),
            ..Self::default()
        }
    }

    /// A repository is under way.
    pub(super) fn began(&self, repository: &str, progress: &Progress) {
        if let Some(bars) = &self.bars {
            bars.running().push((repository.to_owned(), progress.clone()));
        }
    }

    /// A repository is finished.
    pub(super) fn finished(&self, repository: &str) {
        if let Some(bars) = &self.bars {
            bars.running().retain(|(of, _)| of != repository);
            bars.repositories.inc(1);
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.told.abort();
            bars.repositories.finish_and_clear();
            bars.bytes.finish_and_clear();
        }
    }

    /// Bytes of blobs so far.
    pub(super) fn bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }
}

impl Bars {
    fn running(&self) -> MutexGuard<'_, Vec<(String, Progress)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
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
            // A blob that is sent again counts twice: the bar does not run over its end.
            bars.bytes.set_position(copied.min(self.expected.load(Ordering::Relaxed)));
        }
    }
}
