//! Numbers as people say them.

/// A number of bytes as people say it: `41 MB`.
#[must_use]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_say_them() {
        let table =
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_960, "10 kB"), (41_234_567, "41 MB")];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(999_600), "1.0 MB");
        assert_eq!(size(5_000_000_000_000_000), "5000 TB");
    }
}
