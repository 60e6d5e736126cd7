//! The plots of docs/observability.md can be read.

use std::path::Path;
use std::process::Command;

use regex::Regex;

use super::read;

const NAMES: [&str; 5] = ["sync", "queue", "aws", "bytes", "throttle"];

/// A text of a plot, with the box that it covers.
#[derive(Debug)]
struct Label {
    text: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split_once(&format!(" {name}=\""))?.1;
    Some(value.split('"').next()?.to_owned())
}

fn number(tag: &str, name: &str) -> Option<f64> {
    attribute(tag, name)?.parse().ok()
}

/// The texts of a plot. A character is at most 0.62 of the font size wide, and 0.8 high.
fn labels(svg: &str) -> Vec<Label> {
    let text = Regex::new("<text[^>]*>[^<]*</text>").expect("a pattern");
    let label = |element: &str| {
        let (tag, rest) = element.split_once('>').expect("a tag");
        let text = rest.trim_end_matches("</text>").to_owned();
        let size = number(tag, "font-size").unwrap_or(12.0);
        let (x, y) = (number(tag, "x").expect("x"), number(tag, "y").expect("y"));
        let width = 0.62 * size * f64::from(u32::try_from(text.chars().count()).expect("short"));
        let left = match attribute(tag, "text-anchor").as_deref() {
            Some("end") => x - width,
            Some("middle") => x - width / 2.0,
            _ => x,
        };
        Label { text, left, right: left + width, top: y - 0.8 * size, bottom: y }
    };
    text.find_iter(svg).map(|found| label(found.as_str())).collect()
}

/// Values of the labels that `anchor` places, without their unit.
fn ticks(svg: &str, anchor: &str) -> Vec<f64> {
    let tick = Regex::new(&format!("text-anchor=\"{anchor}\">([0-9.]+)")).expect("a pattern");
    tick.captures_iter(svg).map(|found| found[1].parse().expect("a number")).collect()
}

fn plot(name: &str) -> String {
    read(&format!("docs/plots/{name}.svg"))
}

#[test]
fn labels_do_not_overprint_one_another_nor_leave_the_picture() {
    for name in NAMES {
        let svg = plot(name);
        let view = attribute(&svg, "viewBox").expect("a box");
        let [_, _, width, height] =
            view.split(' ').map(|side| side.parse::<f64>().expect("a number")).collect::<Vec<_>>()
                [..]
        else {
            panic!("{view}")
        };
        let labels = labels(&svg);
        assert!(labels.len() > 8, "{name}: {labels:?}");
        for (index, label) in labels.iter().enumerate() {
            assert!(
                label.left >= 0.0
                    && label.right <= width
                    && label.top >= 0.0
                    && label.bottom <= height,
                "{name}: {} is clipped: {label:?} at {width} x {height}",
                label.text
            );
            for other in &labels[..index] {
                let apart = label.left >= other.right
                    || other.left >= label.right
                    || label.top >= other.bottom
                    || other.top >= label.bottom;
                assert!(apart, "{name}: {} overprints {}", label.text, other.text);
            }
        }
    }
}

#[test]
fn ticks_are_round_numbers() {
    for name in NAMES {
        let svg = plot(name);
        let values = ticks(&svg, "end");
        assert!((3..=6).contains(&values.len()), "{name}: {values:?}");
        let step = values[1] - values[0];
        let digit = step / 10_f64.powf(step.log10().floor());
        assert!([1.0, 2.0, 5.0].iter().any(|round| (digit - round).abs() < 1e-6), "{name}: {step}");

        let times = ticks(&svg, "middle");
        let round = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
        assert!(round.contains(&(times[1] - times[0])), "{name}: {times:?}");
    }
}

#[test]
fn the_plots_are_those_that_the_script_draws() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("run.json"), read("docs/plots/run.json")).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring/plots.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["draw", "--folder"])
        .arg(folder.path())
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in NAMES {
        let drawn = std::fs::read_to_string(folder.path().join(format!("{name}.svg")));
        let hint = "run deploy/monitoring/plots.py draw";
        assert_eq!(drawn.expect("drawn"), plot(name), "{name}: {hint}");
    }
}
