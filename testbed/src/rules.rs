//! A file of rules that the stand-in for ECR follows while it runs: denied actions, faults, delays
//! and rates.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ecr::StandIn;
use crate::traffic::{Fault, Match, Then};

/// The lines that a file may have, for help and messages.
pub(crate) const GRAMMAR: &str = "\
  ecr:PutLifecyclePolicy team/*   deny an action on repositories
  fail PutImage 503 2             answer a request with 503, twice; without a number, always
  delay GetManifest 500           answer a request 500 ms later
  rate PutImage 10                allow 10 requests per second";

/// A file of rules, one per line; see [`GRAMMAR`]. Without the file, the stand-in has no rules.
#[derive(Debug)]
pub(crate) struct Rules {
    file: PathBuf,
    applied: String,
    /// Whether the rates of ECR apply besides those of the file.
    rates_of_ecr: bool,
}

impl Rules {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, applied: String::new(), rates_of_ecr: false }
    }

    /// Keeps the published rates of ECR.
    pub(crate) fn with_rates_of_ecr(mut self) -> Self {
        self.rates_of_ecr = true;
        self
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file; if it has changed, applies exactly its rules, and returns them as text.
    ///
    /// # Errors
    /// When the file exists and cannot be read, or a line is invalid; the other lines apply.
    pub(crate) fn follow(&mut self, ecr: &StandIn) -> Result<Option<String>, String> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", self.file.display())),
        };
        if text == self.applied {
            return Ok(None);
        }

        self.reset(ecr);
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let invalid: Vec<_> = lines.filter(|line| apply(line, ecr).is_none()).collect();
        let invalid = invalid.first().map(|line| format!("{line}: write one of\n{GRAMMAR}"));

        self.applied = text;
        match (invalid, self.applied.trim()) {
            (Some(message), _) => Err(message),
            (None, "") => Ok(Some("no rules: everything is allowed".to_owned())),
            (None, lines) => Ok(Some(format!("rules: {}", lines.replace('\n', ", ")))),
        }
    }

    fn reset(&self, ecr: &StandIn) {
        ecr.allow_all();
        ecr.faults().clear();
        ecr.no_limits();
        if self.rates_of_ecr {
            ecr.limits_like_ecr();
        }
    }
}

/// Applies one line; `None` when it is invalid.
fn apply(line: &str, ecr: &StandIn) -> Option<()> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [action, repositories] if action.starts_with("ecr:") => ecr.deny(action, repositories),
        ["fail", operation, status] => {
            ecr.faults().add(fault(operation, Then::status(status.parse().ok()?)));
        }
        ["fail", operation, status, times] => {
            let fault = fault(operation, Then::status(status.parse().ok()?));
            ecr.faults().add(fault.times(times.parse().ok()?));
        }
        ["delay", operation, milliseconds] => {
            let delay = Duration::from_millis(milliseconds.parse().ok()?);
            ecr.faults().add(fault(operation, Then::Delay(delay)));
        }
        ["rate", action, rate] => {
            let rate: u32 = rate.parse().ok()?;
            ecr.limits(action, f64::from(rate), rate);
        }
        _ => return None,
    }
    Some(())
}

fn fault(operation: &str, then: Then) -> Fault {
    Fault::new(Match::operation(operation), then)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::Config;

    #[tokio::test]
    async fn the_file_is_followed_and_an_invalid_line_is_reported_once() {
        let ecr = StandIn::start(Config::default()).await.expect("a stand-in");
        let folder = tempfile::tempdir().expect("a folder");
        let mut rules = Rules::new(folder.path().join("rules"));
        assert_eq!(rules.follow(&ecr), Ok(None));
        fs::write(rules.file(), "ecr:* nginx\nfail PutImage 503 2\n").expect("written");
        assert_eq!(
            rules.follow(&ecr),
            Ok(Some("rules: ecr:* nginx, fail PutImage 503 2".to_owned()))
        );
        assert_eq!(rules.follow(&ecr), Ok(None));
        for invalid in ["PutImage", "fail PutImage", "rate PutImage fast", "delay GetManifest 5s"] {
            fs::write(rules.file(), format!("rate PutImage 1\n{invalid}\n")).expect("written");
            assert!(rules.follow(&ecr).is_err_and(|error| error.contains(invalid)));
            assert_eq!(rules.follow(&ecr), Ok(None));
        }
        fs::remove_file(rules.file()).expect("removed");
        assert_eq!(rules.follow(&ecr), Ok(Some("no rules: everything is allowed".to_owned())));
    }

    #[test]
    fn every_line_of_the_grammar_is_valid() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let ecr = runtime.block_on(StandIn::start(Config::default())).expect("a stand-in");
        for line in GRAMMAR.lines() {
            let rule = line.trim().split("  ").next().unwrap_or_default();
            assert!(apply(rule, &ecr).is_some(), "{rule}");
        }
    }
}
