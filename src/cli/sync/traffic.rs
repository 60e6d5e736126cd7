//! Bytes of running copies, and the bars that show them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::screen::Screen;
use crate::meter::Meter;

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
}

impl Traffic {
    /// With bars on the screen, for so many repositories.
    pub(super) fn shown(screen: &Screen, repositories: usize) -> Self {
        let bars = screen.show_bars();
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
        let bytes =
            bar(0, "copies       [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left");
        Self { bars: Some(Bars { repositories, bytes }), ..Self::default() }
    }

    /// A repository is under way.
    pub(super) fn began(&self, repository: &str) {
        if let Some(bars) = &self.bars {
            bars.repositories.set_message(repository.to_owned());
        }
    }

    /// A repository is finished.
    pub(super) fn finished(&self) {
        if let Some(bars) = &self.bars {
            bars.repositories.inc(1);
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.repositories.finish_and_clear();
            bars.bytes.finish_and_clear();
        }
    }

    /// Bytes of blobs so far.
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
            // A blob that is sent again counts twice: the bar does not run over its end.
            bars.bytes.set_position(copied.min(self.expected.load(Ordering::Relaxed)));
        }
    }
}
