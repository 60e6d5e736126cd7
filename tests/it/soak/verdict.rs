//! The numbers at the end of a soak, with their limits.

use std::fmt::Write;
use std::time::Duration;

use super::looks::{Gap, Looks};
use super::replicas::Usage;
use super::series::{Growth, Series, WINDOW};

/// MiB per hour.
const RSS_SLOPE: f64 = 1.0;
/// Rise of the floor of descriptors, tasks and threads over the measured time: a few more may be in
/// use in each quiet moment.
const COUNTS: f64 = 5.0;
/// Seconds for which a pass may be due: the deadline of looks, twice.
const LONGEST_DUE: f64 = 60.0;
/// MiB by which the bytes of a cache may rise over the measured time.
const KEPT: f64 = 1.0;
/// A slope of a shorter time says nothing: a jump of 0.2 MiB in ten minutes is 1.2 MiB per hour.
const LEAST_WINDOWS: usize = 10;

/// One number.
#[derive(Debug)]
struct Row {
    name: String,
    limit: String,
    measured: String,
    /// `None`: too little time to judge.
    is_met: Option<bool>,
}

/// All numbers.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<Row>);

impl Verdict {
    /// Judges what the leader has used since `start`.
    pub(super) fn usage(&mut self, usage: &Usage, start: Duration) {
        let memory = usage.rss.growth(start);
        self.growth("RSS: MiB per hour", RSS_SLOPE, memory, |growth| growth.slope);
        let minima = usage.rss.minima(start);
        let minima: Vec<_> = minima.iter().map(|(_, least)| format!("{least:.1}")).collect();
        self.note("RSS of each window: MiB", minima.join(" "));
        let anonymous = usage.anonymous.growth(start).map_or_else(String::new, describe);
        self.note("RSS without files: MiB", anonymous);
        for (name, series) in [
            ("descriptors: rise", &usage.descriptors),
            ("tasks: rise", &usage.tasks),
            ("threads: rise", &usage.threads),
        ] {
            self.growth(name, COUNTS, series.growth(start), |growth| growth.rise);
        }
        // A resource that is gone must not count as due for ever.
        self.0.push(Row {
            name: "longest due pass: s".to_owned(),
            limit: format!("< {LONGEST_DUE}"),
            measured: format!("{:.1}", usage.longest_due),
            is_met: Some(usage.longest_due < LONGEST_DUE),
        });
        for (name, series) in &usage.kept {
            let mib = 1024.0 * 1024.0;
            let growth = series.growth(start);
            self.growth(&format!("{name}: rise"), KEPT * mib, growth, |growth| growth.rise);
        }
    }

    /// Judges the looks.
    pub(super) fn looks(&mut self, looks: &Looks) {
        let text = |gap: &Gap| {
            format!(
                "{:.1} s ({}; allowed {:.1} s)",
                gap.lasted.as_secs_f64(),
                gap.name,
                gap.allowed.as_secs_f64()
            )
        };
        self.note("looks at resources", looks.count.to_string());
        self.note("longest time between two looks", text(&looks.longest[0]));
        self.note("the same, without a leader in between", text(&looks.longest[1]));
        let vacancies: Vec<_> =
            looks.vacancies().iter().map(|time| format!("{:.1}", time.as_secs_f64())).collect();
        self.note("times without a leader: s", vacancies.join(", "));
        self.none("missed intervals", looks.missed.len());
    }

    /// Judges a number that should be 0.
    pub(super) fn none(&mut self, name: &str, count: usize) {
        self.0.push(Row {
            name: name.to_owned(),
            limit: "0".to_owned(),
            measured: count.to_string(),
            is_met: Some(count == 0),
        });
    }

    /// Adds a number without a limit.
    pub(super) fn note(&mut self, name: &str, measured: String) {
        let (name, limit) = (name.to_owned(), String::new());
        self.0.push(Row { name, limit, measured, is_met: Some(true) });
    }

    fn growth(
        &mut self,
        name: &str,
        limit: f64,
        growth: Option<Growth>,
        number: fn(&Growth) -> f64,
    ) {
        let is_long = |growth: &Growth| growth.windows >= LEAST_WINDOWS;
        let number = growth.as_ref().map(|growth| (number(growth), is_long(growth)));
        self.0.push(Row {
            name: name.to_owned(),
            limit: format!("< {limit}"),
            measured: match (number, growth) {
                (Some((number, _)), Some(growth)) => format!("{number:.2} ({})", describe(growth)),
                _ => format!("fewer than three windows of {} s", WINDOW.as_secs()),
            },
            is_met: number.filter(|(_, is_long)| *is_long).map(|(number, _)| number < limit),
        });
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = "| number | limit | measured | met |\n|---|---|---|---|\n".to_owned();
        for row in &self.0 {
            let met = match row.is_met {
                _ if row.limit.is_empty() => "",
                None => "too short to tell",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            let _ok =
                writeln!(table, "| {} | {} | {} | {met} |", row.name, row.limit, row.measured);
        }
        table
    }

    /// The numbers that are not met.
    pub(super) fn failures(&self) -> Vec<String> {
        let failed = self.0.iter().filter(|row| row.is_met == Some(false));
        failed.map(|row| format!("{}: {}, not {}", row.name, row.measured, row.limit)).collect()
    }
}

fn describe(growth: Growth) -> String {
    format!(
        "minima of {} windows, from {:.1} to {:.1}, slope {:.2} per hour",
        growth.windows, growth.first, growth.last, growth.slope
    )
}

/// The last value of a series, for the lines of progress.
pub(super) fn last(series: &Series) -> String {
    format!("{:.1}", series.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rise: f64) -> Usage {
        let mut usage = Usage::default();
        for minute in 0..20_u32 {
            let time = Duration::from_secs(60 * u64::from(minute));
            usage.rss.add(time, 80.0 + rise * f64::from(minute));
            for series in [&mut usage.descriptors, &mut usage.tasks, &mut usage.threads] {
                series.add(time, 40.0);
            }
        }
        usage
    }

    #[test]
    fn a_leader_that_grows_by_a_mebibyte_per_hour_fails() {
        let failures = |rise| {
            let mut verdict = Verdict::default();
            verdict.usage(&usage(rise), Duration::ZERO);
            verdict.failures()
        };
        assert_eq!(failures(0.9 / 60.0), Vec::<String>::new());
        let failed = failures(1.1 / 60.0);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with("RSS: MiB per hour: 1.10"), "{failed:?}");
    }

    #[test]
    fn a_missed_interval_fails() {
        let mut verdict = Verdict::default();
        let mut looks = Looks::default();
        looks.missed.push(Gap::default());
        verdict.looks(&looks);
        assert_eq!(verdict.failures(), ["missed intervals: 1, not 0"]);
    }
}
