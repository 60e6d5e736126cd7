//! The record of the last drift check. With it, the first pass of another process need not compare
//! everything again. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::Stamp;
use crate::api::v1alpha1::{DriftCheck, EcrRepositorySyncStatus as Status, RepositoryStatus};
use crate::registry::Digest;
use crate::sync::{Claimant, Look, Report};

/// Least age of a record that is replaced although nothing else in the status changes. Without it, a
/// short `driftInterval` would write each resource every minute.
const RENEWED_AFTER: Duration = Duration::from_secs(30 * 60);

/// Version of the comparison. To be raised when passes compare more with ECR than the spec and
/// [`basis`] show: the first pass of the new version then compares everything.
const COMPARISON: u32 = 1;

/// Returns a hash of what a check depends on besides the spec and the defaults: the owner tag.
pub(in crate::controller) fn basis(claimant: &Claimant) -> String {
    let text = serde_json::json!([COMPARISON, claimant.mark()]);
    Digest::sha256_of(text.to_string().as_bytes()).hex().chars().take(16).collect()
}

/// Adds the check to the status of a pass that left ECR as specified. A pass that changes nothing
/// else in the status renews the record once per `driftInterval`, so that at rest nearly nothing is
/// written.
pub(super) fn recorded(
    status: Status,
    old: &Status,
    stamp: &Stamp,
    report: &Report,
    now: Timestamp,
) -> Status {
    if report.look.is_none() {
        return Status { drift_check: None, ..status };
    }
    let status = Status { drift_check: old.drift_check.clone(), ..status };
    if !report.configuration_read {
        return status;
    }

    let least = RENEWED_AFTER.max(stamp.drift_interval / 2);
    let is_recent = |check: &DriftCheck| {
        check.basis == stamp.basis && age(check, now).is_some_and(|age| age < least)
    };
    if status == *old && old.drift_check.as_ref().is_some_and(is_recent) {
        return status;
    }
    // Kubernetes stores whole seconds. Rounded up, the time would be in the future for a moment.
    let time = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let check = DriftCheck { time: Time(time), basis: stamp.basis.clone() };
    Status { drift_check: Some(check), ..status }
}

/// Returns the look that the status of another process has recorded, with its age; `None` if the
/// next pass has to read everything. A status that somebody edited may delay a drift check. It never
/// decides about a write, which comes after a full survey.
pub(in crate::controller) fn look(
    status: &Status,
    generation: i64,
    repository: &str,
    basis: &str,
    now: Timestamp,
) -> Option<(Look, Duration)> {
    let check = status.drift_check.as_ref().filter(|check| check.basis == basis)?;
    let recorded = status.repository.as_ref().filter(|recorded| recorded.name == repository)?;
    let is_usable = status.observed_generation == Some(generation) && is_consistent(recorded);
    let revision = status.configuration.clone().filter(|_| is_usable)?;
    Some((Look::recorded(recorded, revision), age(check, now)?))
}

/// Returns the age of a check; `None` if it is in the future: then a clock was wrong.
fn age(check: &DriftCheck, now: Timestamp) -> Option<Duration> {
    let seconds = now.as_second().checked_sub(check.time.0.as_second())?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Whether the names of a repository belong together.
fn is_consistent(repository: &RepositoryStatus) -> bool {
    let RepositoryStatus { name, arn, uri, registry_id, region, .. } = repository;
    arn.ends_with(&format!(":ecr:{region}:{registry_id}:repository/{name}"))
        && uri.ends_with(&format!("/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Ownership;
    use crate::sync::Report;

    const HOUR: i64 = 3600;
    const BASIS: &str = "basis";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn stamp() -> Stamp {
        Stamp {
            generation: 1,
            region: "eu-west-1".to_owned(),
            handled: None,
            basis: BASIS.to_owned(),
            drift_interval: Duration::from_secs(6 * 3600),
        }
    }

    fn repository() -> RepositoryStatus {
        RepositoryStatus {
            name: "team/app".to_owned(),
            arn: "arn:aws:ecr:eu-west-1:123456789012:repository/team/app".to_owned(),
            uri: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app".to_owned(),
            registry_id: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            ownership: Ownership::Created,
        }
    }

    fn checked(second: i64) -> Status {
        Status {
            observed_generation: Some(1),
            repository: Some(repository()),
            configuration: Some("revision".to_owned()),
            drift_check: Some(DriftCheck { time: Time(at(second)), basis: BASIS.to_owned() }),
            ..Status::default()
        }
    }

    fn whole() -> Report {
        Report { look: Some(Look::of_test()), configuration_read: true, ..Report::default() }
    }

    fn time(status: &Status) -> Option<i64> {
        status.drift_check.as_ref().map(|check| check.time.0.as_second())
    }

    #[test]
    fn a_check_is_recorded_with_another_change_and_else_once_per_interval() {
        let old = checked(0);
        let brief = Report { configuration_read: false, ..whole() };
        let unknown = Report { look: None, ..whole() };
        let other = || Status { plan: vec!["changed".to_owned()], ..old.clone() };

        // status without the check, old, report, now -> recorded time
        let table = [
            (checked(0), checked(0), whole(), HOUR, Some(0)),
            (checked(0), checked(0), whole(), 3 * HOUR, Some(3 * HOUR)),
            (checked(0), checked(HOUR), whole(), HOUR - 1, Some(HOUR - 1)),
            (other(), checked(0), whole(), HOUR, Some(HOUR)),
            (other(), checked(0), brief.clone(), HOUR, Some(0)),
            (checked(0), checked(0), brief, 9 * HOUR, Some(0)),
            (checked(0), checked(0), unknown, HOUR, None),
            (checked(0), Status { drift_check: None, ..checked(0) }, whole(), 5, Some(5)),
        ];
        for (number, (status, old, report, now, wanted)) in table.into_iter().enumerate() {
            let status = recorded(status, &old, &stamp(), &report, at(now));
            assert_eq!(time(&status), wanted, "row {number}");
        }

        let short = Stamp { drift_interval: Duration::from_secs(60), ..stamp() };
        let status = recorded(checked(0), &old, &short, &whole(), at(60));
        assert_eq!(time(&status), Some(0), "not each minute");
        let other = Stamp { basis: "other".to_owned(), ..stamp() };
        let status = recorded(checked(0), &old, &other, &whole(), at(1));
        assert_eq!(time(&status), Some(1), "on another basis");
    }

    #[test]
    fn only_a_record_of_this_generation_and_basis_and_of_the_past_is_used() {
        let look = |status: &Status, now| look(status, 1, "team/app", BASIS, at(now));
        let (found, age) = look(&checked(0), HOUR).expect("a look");
        assert_eq!(age, Duration::from_secs(3600));
        assert_eq!(found, Look::recorded(&repository(), "revision".to_owned()));

        let with = |change: &dyn Fn(&mut RepositoryStatus)| {
            let mut repository = repository();
            change(&mut repository);
            Status { repository: Some(repository), ..checked(0) }
        };
        for (name, status) in [
            ("nothing", Status::default()),
            ("the future", checked(HOUR + 1)),
            ("a generation", Status { observed_generation: Some(2), ..checked(0) }),
            ("no revision", Status { configuration: None, ..checked(0) }),
            ("no repository", Status { repository: None, ..checked(0) }),
            ("a name", with(&|repository| "other".clone_into(&mut repository.name))),
            ("an account", with(&|repository| "1".clone_into(&mut repository.registry_id))),
            ("a region", with(&|repository| "eu".clone_into(&mut repository.region))),
            ("an ARN", with(&|repository| repository.arn.push_str("/x"))),
            ("a URI", with(&|repository| "evil.example".clone_into(&mut repository.uri))),
        ] {
            assert_eq!(look(&status, HOUR), None, "{name}");
        }

        let other = DriftCheck { time: Time(at(0)), basis: "other".to_owned() };
        assert_eq!(look(&Status { drift_check: Some(other), ..checked(0) }, HOUR), None);
        let first = DriftCheck { time: Time(Timestamp::MIN), basis: BASIS.to_owned() };
        let (_, age) = look(&Status { drift_check: Some(first), ..checked(0) }, HOUR).expect("old");
        assert!(age > Duration::from_secs(9999 * 365 * 86_400));
    }
}
