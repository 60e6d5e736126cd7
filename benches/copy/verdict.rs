//! The limits, and the measured numbers.

use std::time::Duration;

use crate::compare::Row;
use crate::rig::PUT_IMAGE_RATE;

const OURS: &str = "ecr-sync";
const LOCAL: Duration = Duration::ZERO;
const WAN: Duration = Duration::from_millis(30);

/// The maximum or minimum of a measurement.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

/// Returns a table of the numbers in these rows.
pub fn table(rows: &[Row]) -> String {
    let mut lines = Vec::new();
    requests(rows, &mut lines);
    walls(rows, &mut lines);
    quota(rows, &mut lines);
    large(rows, &mut lines);
    let failed = rows.iter().filter(|row| row.tool == OURS && !row.ok()).count();
    lines.push(line("rows of ecr-sync that are not ok", AtMost(0.0), failed as f64));
    format!("| number | limit | measured | met |\n|---|---|---|---|\n{}", lines.concat())
}

fn find<'a>(
    rows: &'a [Row],
    tool: &str,
    corpus: &str,
    latency: Duration,
    phase: &str,
) -> Option<&'a Row> {
    rows.iter().find(|row| {
        row.tool == tool && row.corpus == corpus && row.latency == latency && row.phase == phase
    })
}

fn requests(rows: &[Row], lines: &mut Vec<String>) {
    for (corpus, phase, most) in [
        ("tags-20", "cold", 184.0),
        ("tags-20", "warm", 22.0),
        ("tags-200", "cold", 1_613.0),
        ("tags-200", "warm", 204.0),
        ("index-5", "cold", 179.0),
    ] {
        if let Some(row) = find(rows, OURS, corpus, WAN, phase) {
            lines.push(line(
                &format!("{corpus} {phase}: requests without logins"),
                AtMost(most),
                row.requests(),
            ));
        }
    }
}

fn walls(rows: &[Row], lines: &mut Vec<String>) {
    let ratios = [
        ("tags-20", "cold", "crane", 0.5),
        ("tags-20", "cold", "regsync", 0.15),
        ("tags-200", "cold", "crane", 0.3),
        ("tags-200", "warm", "crane", 0.3),
        ("index-5", "cold", "crane", 0.6),
    ];
    let named =
        ratios.iter().map(|(corpus, phase, peer, most)| (*corpus, WAN, *phase, *peer, *most));
    let rivals = rows.iter().filter(|row| row.tool == "ocync" && row.ok());
    let rivals = rivals.map(|row| (row.corpus, row.latency, row.phase, "ocync", 1.0));
    for (corpus, latency, phase, peer, most) in named.chain(rivals) {
        let [row, peer_row] = [OURS, peer].map(|tool| find(rows, tool, corpus, latency, phase));
        if let (Some(row), Some(peer_row)) = (row, peer_row) {
            let what = format!("{corpus} {phase}, +{} ms: wall / {peer}", latency.as_millis());
            lines.push(line(&what, AtMost(most), row.wall() / peer_row.wall()));
        }
    }
}

fn quota(rows: &[Row], lines: &mut Vec<String>) {
    let Some(row) = find(rows, OURS, "tags-200-limited", LOCAL, "cold") else { return };
    // At the start, the quota allows one second's manifests at once; the others come at its rate.
    let floor = (200.0 - f64::from(PUT_IMAGE_RATE)) / f64::from(PUT_IMAGE_RATE);
    lines.push(line(
        "200 tags, 10 PutImage/s: wall / minimum by the quota (19 s)",
        AtMost(1.1),
        row.wall() / floor,
    ));
    let throttled = row.median(|sample| sample.seen.throttled as f64);
    lines.push(line("200 tags, 10 PutImage/s: requests throttled", AtMost(5.0), throttled));
}

fn large(rows: &[Row], lines: &mut Vec<String>) {
    let [pipe, row] = ["pipe", OURS].map(|tool| find(rows, tool, "pipe", LOCAL, "cold"));
    if let (Some(pipe), Some(row)) = (pipe, row) {
        let transfer = |row: &Row| row.median(|sample| sample.seen.transfer.as_secs_f64());
        let cpu = |row: &Row| row.median(|sample| sample.cost.cpu.as_secs_f64());
        let bytes = transfer(pipe) / transfer(row);
        lines.push(line("8 x 32 MiB: throughput, first to last byte, / pipe", AtLeast(0.9), bytes));
        let whole = pipe.wall() / row.wall();
        lines.push(line("8 x 32 MiB: throughput, whole process, / pipe", AtLeast(0.9), whole));
        lines.push(line("8 x 32 MiB: CPU / pipe", AtMost(1.3), cpu(row) / cpu(pipe)));
    }
    for cold in rows.iter().filter(|row| row.corpus.starts_with("memory") && row.phase == "cold") {
        if let Some(warm) = find(rows, OURS, cold.corpus, cold.latency, "warm") {
            let what = format!("{}: MiB that the copy adds", cold.corpus);
            lines.push(line(&what, AtMost(32.0), cold.rss() - warm.rss()));
        }
    }
}

fn line(what: &str, bound: Bound, found: f64) -> String {
    let (bound, met) = match bound {
        AtMost(most) => (format!("<= {most}"), found <= most),
        AtLeast(least) => (format!(">= {least}"), found >= least),
    };
    format!(
        "| {what} | {bound} | {} | {} |\n",
        (found * 100.0).round() / 100.0,
        if met { "yes" } else { "NO" }
    )
}
