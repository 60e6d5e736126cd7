//! A quantity over time, and whether it grows.
//!
//! Memory, descriptors and tasks rise and fall with the work of the moment; a leak raises the
//! floor. So the growth is the slope of the line that fits best (least squares) to the minima of
//! windows.

use std::time::Duration;

/// Length of a window. Every resource is checked once in about this time.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The longest time between two samples, unless the machine is very slow.
const SAMPLES: Duration = Duration::from_secs(5);

/// Samples of a quantity, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<(Duration, f64)>);

/// The result over a period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Per hour.
    pub(super) slope: f64,
    /// The rise of the fitted line over the period.
    pub(super) rise: f64,
    pub(super) first: f64,
    pub(super) last: f64,
    pub(super) windows: usize,
}

impl Series {
    pub(super) fn add(&mut self, time: Duration, value: f64) {
        self.0.push((time, value));
    }

    pub(super) fn last(&self) -> f64 {
        self.0.last().map_or(f64::NAN, |(_, value)| *value)
    }

    /// The number and the minimum of each window from `start` on. The last window counts only if it
    /// is complete: a short one has missed its quiet moment.
    pub(super) fn minima(&self, start: Duration) -> Vec<(f64, f64)> {
        let measured = self.0.last().map_or(Duration::ZERO, |(last, _)| last.saturating_sub(start));
        let complete = (measured + SAMPLES).as_secs() / WINDOW.as_secs();
        let end = start + WINDOW * u32::try_from(complete).unwrap_or(u32::MAX);
        let samples = self.0.iter().filter(|(time, _)| (start..end).contains(time));
        let mut minima = Vec::<(f64, f64)>::new();
        for (time, value) in samples {
            let window = ((*time - start).as_secs() / WINDOW.as_secs()) as f64;
            match minima.last_mut().filter(|(last, _)| *last == window) {
                Some((_, least)) => *least = least.min(*value),
                None => minima.push((window, *value)),
            }
        }
        minima
    }

    /// The growth from `start` on. `None` with fewer than three windows.
    pub(super) fn growth(&self, start: Duration) -> Option<Growth> {
        let minima = self.minima(start);
        let (first, last) = (minima.first()?, minima.last()?);
        if minima.len() < 3 {
            return None;
        }

        let count = minima.len() as f64;
        let mean = |part: fn(&(f64, f64)) -> f64| minima.iter().map(part).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let above: f64 = minima.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let below: f64 = minima.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = above / below;
        Some(Growth {
            slope: slope * 3600.0 / WINDOW.as_secs_f64(),
            rise: slope * (last.0 - first.0),
            first: first.1,
            last: last.1,
            windows: minima.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample each 5 s for 20 minutes after 10 minutes of warm-up, with peaks of up to 50.
    fn series(floor: impl Fn(f64) -> f64) -> Series {
        let mut series = Series::default();
        let mut random = fastrand::Rng::with_seed(7);
        for second in (0..1800).step_by(5) {
            let peak = random.f64() * 50.0;
            let time = Duration::from_secs(second);
            series.add(time, floor(second as f64) + if second % 60 == 30 { 0.0 } else { peak });
        }
        series
    }

    #[test]
    fn peaks_are_no_growth_and_a_rising_floor_is() {
        let start = Duration::from_secs(600);
        let flat = series(|second| if second < 600.0 { second } else { 40.0 });
        let growth = flat.growth(start).expect("enough windows");
        assert_eq!((growth.windows, growth.first, growth.last), (20, 40.0, 40.0));
        assert!(growth.slope.abs() < 1e-9 && growth.rise.abs() < 1e-9, "{growth:?}");

        let rising = series(|second| 40.0 + second * 2.0 / 3600.0);
        let growth = rising.growth(start).expect("enough windows");
        assert!((growth.slope - 2.0).abs() < 0.01, "two per hour: {growth:?}");
        assert!((growth.rise - 2.0 * 19.0 / 60.0).abs() < 0.01, "{growth:?}");
    }

    #[test]
    fn a_peak_in_the_last_and_incomplete_window_does_not_count() {
        let mut flat = series(|_| 40.0);
        flat.add(Duration::from_secs(1805), 500.0);
        flat.add(Duration::from_secs(1815), 500.0);
        let growth = flat.growth(Duration::from_secs(600)).expect("enough windows");
        assert_eq!((growth.windows, growth.last), (20, 40.0));
    }

    #[test]
    fn two_windows_are_too_few() {
        let start = Duration::from_secs(1700);
        assert!(series(|_| 1.0).growth(start).is_none());
    }
}
