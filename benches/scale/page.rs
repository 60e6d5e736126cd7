//! The results, as a Markdown table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::options::Options;

/// A measured value.
#[derive(Debug)]
pub struct Cell {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
}

impl Cell {
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

/// All results of a run.
#[derive(Debug)]
pub struct Page<'o> {
    options: &'o Options,
    /// The order in which values were measured.
    order: Vec<(String, &'static str)>,
    /// By the name of the value, then by build.
    values: BTreeMap<String, BTreeMap<String, f64>>,
}

impl<'o> Page<'o> {
    pub fn new(options: &'o Options) -> Self {
        Self { options, order: Vec::new(), values: BTreeMap::new() }
    }

    pub fn add(&mut self, build: &str, cells: Vec<Cell>) {
        for Cell { what, value, unit } in cells {
            eprintln!("  {what}: {} {unit}", rounded(value));
            if !self.values.contains_key(&what) {
                self.order.push((what.clone(), unit));
            }
            self.values.entry(what).or_default().insert(build.to_owned(), value);
        }
    }

    /// Prints the table, and writes the file.
    pub fn end(&self) -> Result<(), Error> {
        let builds: Vec<_> = self.options.builds().into_iter().map(|build| build.name).collect();
        println!("| {} resources | unit | {} |", self.options.resources, builds.join(" | "));
        println!("|---|---|{}", "---|".repeat(builds.len()));
        let mut values = Map::new();
        for (what, unit) in &self.order {
            let of = |build: &String| self.values[what].get(build).copied();
            let shown = builds.iter().map(|build| of(build).map_or_else(String::new, rounded));
            println!("| {what} | {unit} | {} |", shown.collect::<Vec<_>>().join(" | "));
            let by_build = builds.iter().map(|build| (build.clone(), json!(of(build))));
            let by_build: Map<String, Value> = by_build.collect();
            values.insert(what.clone(), json!({"unit": unit, "values": by_build}));
        }

        if let Some(file) = &self.options.json {
            let page = json!({"resources": self.options.resources, "rows": values});
            std::fs::write(file, format!("{page:#}\n"))?;
        }
        Ok(())
    }
}

fn rounded(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
