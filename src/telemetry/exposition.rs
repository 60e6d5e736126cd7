//! Prometheus' text format, for gauges whose series are computed at the scrape. Metric vectors
//! would keep every series in memory: 7.4 kB a resource.

use std::fmt::Write;

/// The name of a gauge, and its text for `# HELP`.
pub(super) type Gauge = (&'static str, &'static str);

/// Writes the lines before the series of a gauge.
pub(super) fn header(page: &mut String, (name, help): Gauge) {
    // Writing to a String cannot fail.
    let _ok = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
}

/// Writes one series.
pub(super) fn series(page: &mut String, gauge: Gauge, labels: &[(&str, &str)], value: u64) {
    page.push_str(gauge.0);
    for (index, (name, value)) in labels.iter().enumerate() {
        page.push(if index == 0 { '{' } else { ',' });
        page.push_str(name);
        page.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => page.push_str("\\\\"),
                '"' => page.push_str("\\\""),
                '\n' => page.push_str("\\n"),
                other => page.push(other),
            }
        }
        page.push('"');
    }

    let end = if labels.is_empty() { "" } else { "}" };
    let _ok = writeln!(page, "{end} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_written_in_the_text_format() {
        let gauge = ("ecrsync_tags", "Wanted tags.");
        let mut page = String::new();
        header(&mut page, gauge);
        series(&mut page, gauge, &[("namespace", "a"), ("state", "b\"\\\n")], 3);
        series(&mut page, gauge, &[], 0);
        assert_eq!(
            page,
            "# HELP ecrsync_tags Wanted tags.\n# TYPE ecrsync_tags gauge\n\
             ecrsync_tags{namespace=\"a\",state=\"b\\\"\\\\\\n\"} 3\necrsync_tags 0\n"
        );
    }
}
