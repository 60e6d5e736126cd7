//! Durations as Kubernetes users write them: `90s`, `30m`, `1h30m`.

use std::time::Duration;

use super::Violations;
use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::violation::Violation;

/// Shortest interval between two checks.
const MIN_INTERVAL: Duration = Duration::from_secs(60);
/// Longest interval: a year.
pub(super) const MAX_INTERVAL: Duration = Duration::from_secs(8760 * 3600);

/// The intervals between passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// Between two checks of the source and the repository.
    pub(crate) check: Duration,
    /// Between two passes that read settings, policies and resource tags back.
    pub(crate) drift: Duration,
}

impl Intervals {
    /// The intervals of a spec that may be wrong elsewhere. A duration that cannot be parsed counts
    /// as the longest one: the violation is reported, and the backoff of the failure sets the pace.
    pub(crate) fn of(spec: &EcrRepositorySyncSpec) -> Self {
        Self::parse(spec, &mut Violations::default())
    }

    pub(super) fn parse(spec: &EcrRepositorySyncSpec, violations: &mut Violations) -> Self {
        let mut read = |field, text| bounded(field, text, violations).unwrap_or(MAX_INTERVAL);
        Self {
            check: read("interval", &spec.interval),
            drift: read("driftInterval", &spec.drift_interval),
        }
    }
}

pub(super) fn timeout(
    spec: &EcrRepositorySyncSpec,
    violations: &mut Violations,
) -> Option<Duration> {
    bounded("timeout", &spec.timeout, violations)
}

fn bounded(field: &str, text: &str, violations: &mut Violations) -> Option<Duration> {
    let duration = parse_duration(text)
        .filter(|duration| (MIN_INTERVAL..=MAX_INTERVAL).contains(duration))
        .ok_or_else(|| {
            let advice = "is not a duration from 1m to 8760h: write for example 90s, 30m or 1h30m";
            Violation::new(field, format!("{text:?} {advice}"))
        });
    duration.map_err(|violation| violations.0.push(violation)).ok()
}

/// Parses `1h30m`, `90s`: whole numbers with the units h, m and s.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut digits = String::new();

    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }

    (digits.is_empty() && !text.is_empty()).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubernetes_users_write_them() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        for bad in ["", "1", "h", "1d", "-1m", "1.5h", "99999999999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_interval_that_cannot_be_parsed_counts_as_the_longest() {
        let wrong = EcrRepositorySyncSpec {
            interval: "10s".to_owned(),
            drift_interval: "2h".to_owned(),
            ..EcrRepositorySyncSpec::default()
        };
        let drift = Duration::from_secs(7200);
        assert_eq!(Intervals::of(&wrong), Intervals { check: MAX_INTERVAL, drift });
    }
}
