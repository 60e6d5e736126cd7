//! Numbers in messages: sizes (`41 MB`), counts (`2 repositories`) and durations (`1h30m`).

use std::time::Duration;

/// Returns a number of bytes with a unit: `41 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];

    if bytes < 1000 {
        return format!("{bytes} B");
    }

    let mut number = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if number < 999.5 {
            break;
        }
        number /= 1000.0;
        unit = next;
    }

    if number < 9.95 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

/// Returns a count with its noun: `1 repository`, `2 repositories`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// Returns a duration as a spec writes it: `1h30m`, `45s`.
pub(crate) fn period(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_in_a_spec() {
        let table = [(0, "0s"), (45, "45s"), (1800, "30m"), (5400, "1h30m"), (3605, "1h5s")];
        for (seconds, text) in table {
            assert_eq!(period(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_size_has_two_digits_and_a_unit() {
        let table =
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_960, "10 kB"), (41_234_567, "41 MB")];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(999_600), "1.0 MB");
        assert_eq!(size(5_000_000_000_000_000), "5000 TB");
    }
}
