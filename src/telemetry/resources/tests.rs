use std::time::Duration;

use strum::VariantArray;

use super::*;
use crate::class::Class;

const READY: ConditionType = ConditionType::Ready;

fn second(second: i64) -> Second {
    Second::of(Timestamp::from_second(second).expect("in range"))
}

fn condition(type_: ConditionType, status: Status, reason: &'static str, since: i64) -> Condition {
    Condition { type_, status, reason, since: second(since) }
}

fn state<'a>(namespace: &'a str, name: &'a str, conditions: &[Condition]) -> State<'a> {
    State {
        namespace,
        name,
        repository: None,
        suspended: false,
        synced: 2,
        failed: 1,
        conditions: conditions.to_vec(),
    }
}

/// The lines of a gauge, without its name.
fn lines(resources: &Resources, gauge: &str) -> Vec<String> {
    let mut page = String::new();
    resources.write(&mut page);
    let lines = page.lines().filter_map(|line| line.strip_prefix(gauge));
    let mut lines: Vec<_> = lines.filter(|line| line.starts_with('{')).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn resources_and_tags_are_counted_by_namespace_until_the_resources_are_gone() {
    let resources = Resources::default();
    let ready = [condition(READY, Status::True, "Succeeded", 5)];
    resources.set("1", state("a", "app", &ready));
    resources.set("2", state("a", "web", &ready));
    resources.set("3", state("b", "app", &[condition(READY, Status::False, "RateLimited", 5)]));
    resources.set("1", State { suspended: true, ..state("a", "app", &ready) });
    resources.set("4", state("b", "new", &[]));

    assert_eq!(
        lines(&resources, "ecrsync_resources"),
        [
            r#"{namespace="a",ready="True",reason="Succeeded",suspended="false"} 1"#,
            r#"{namespace="a",ready="True",reason="Succeeded",suspended="true"} 1"#,
            r#"{namespace="b",ready="False",reason="RateLimited",suspended="false"} 1"#,
            r#"{namespace="b",ready="Unknown",reason="",suspended="false"} 1"#,
        ]
    );
    assert_eq!(
        lines(&resources, "ecrsync_tags")[..2],
        [r#"{namespace="a",state="failed"} 2"#, r#"{namespace="a",state="synced"} 4"#,]
    );

    resources.forget("1");
    resources.update("1", state("a", "app", &ready));
    let one = r#"{namespace="a",state="failed"} 1"#;
    assert_eq!(lines(&resources, "ecrsync_tags")[0], one, "a late report of a deleted resource");

    resources.retain(|uid| uid == "2");
    assert_eq!(
        lines(&resources, "ecrsync_tags"),
        [r#"{namespace="a",state="failed"} 1"#, r#"{namespace="a",state="synced"} 2"#,]
    );
    resources.retain(|_| false);
    let mut page = String::new();
    resources.write(&mut page);
    assert_eq!(page, "");
}

#[test]
fn a_resource_has_the_problems_that_nothing_worse_explains() {
    use ConditionType::{ConfigurationSynced, ImageSynced, Ready, Reconciling, Stalled};
    use Status::{False, True, Unknown};
    let image = condition(ImageSynced, Unknown, "RegistryUnavailable", 30);
    let drift = condition(ConfigurationSynced, False, "DriftDetected", 20);
    let problem = |reason, status, type_| {
        format!("{{namespace=\"a\",reason=\"{reason}\",status=\"{status}\",type=\"{type_}\"}}")
    };

    for (conditions, suspended, wanted) in [
        (vec![condition(Ready, True, "Succeeded", 1)], false, vec![]),
        (
            vec![condition(Ready, True, "Succeeded", 1), image, drift],
            false,
            vec![
                problem("DriftDetected", "False", "ConfigurationSynced") + " 20",
                problem("RegistryUnavailable", "Unknown", "ImageSynced") + " 30",
            ],
        ),
        (vec![condition(Ready, True, "Succeeded", 1), image, drift], true, vec![]),
        (
            vec![
                condition(Ready, False, "AccessDenied", 7),
                condition(Reconciling, True, "ProgressingWithRetry", 8),
                image,
                drift,
            ],
            false,
            vec![problem("AccessDenied", "False", "Ready") + " 7"],
        ),
        (
            vec![
                condition(Ready, False, "AccessDenied", 7),
                condition(Stalled, True, "AccessDenied", 9),
                drift,
            ],
            false,
            vec![problem("AccessDenied", "True", "Stalled") + " 9"],
        ),
        (
            vec![condition(Ready, Unknown, "DryRun", 7), image, drift],
            false,
            vec![
                problem("DriftDetected", "False", "ConfigurationSynced") + " 20",
                problem("DryRun", "Unknown", "Ready") + " 7",
            ],
        ),
    ] {
        let resources = Resources::default();
        resources.set("1", State { suspended, ..state("a", "app", &conditions) });
        let oldest = lines(&resources, "ecrsync_problem_oldest_timestamp_seconds");
        assert_eq!(oldest, wanted, "{conditions:?}");
        assert_eq!(lines(&resources, "ecrsync_problems").len(), wanted.len());
    }
}

#[test]
fn a_problem_is_as_old_as_its_oldest_resource() {
    let resources = Resources::default();
    for (uid, since) in [("1", 500), ("2", 100), ("3", 900)] {
        let unready = [condition(READY, Status::False, "RateLimited", since)];
        resources.set(uid, state("a", uid, &unready));
        resources.passed(uid, Timestamp::from_second(since + 1).expect("in range"));
    }
    resources.set("4", State { suspended: true, ..state("a", "4", &[]) });
    resources.passed("4", Timestamp::from_second(1).expect("in range"));

    let labels = r#"{namespace="a",reason="RateLimited",status="False",type="Ready"}"#;
    assert_eq!(lines(&resources, "ecrsync_problems"), [format!("{labels} 3")]);
    let oldest = lines(&resources, "ecrsync_problem_oldest_timestamp_seconds");
    assert_eq!(oldest, [format!("{labels} 100")]);
    let pass =
        |which: &str| lines(&resources, &format!("ecrsync_last_pass_{which}_timestamp_seconds"));
    assert_eq!(pass("oldest"), [r#"{namespace="a"} 101"#], "without the suspended resource");
    assert_eq!(pass("newest"), [r#"{namespace="a"} 901"#]);
}

#[test]
fn a_chosen_resource_has_series_of_its_own() {
    let resources = Resources::default();
    let ready = [condition(READY, Status::True, "Succeeded", 5)];
    let state = state("a", "app", &ready);
    resources.set("1", State { repository: Some("team/app"), ..state.clone() });
    resources.set("2", State { name: "web", ..state.clone() });
    resources.passed("1", Timestamp::from_second(60).expect("in range"));

    assert_eq!(
        lines(&resources, "ecrsync_resource_info"),
        [concat!(
            r#"{name="app",namespace="a",ready="True",reason="Succeeded","#,
            r#"repository="team/app",suspended="false"} 1"#
        )]
    );
    assert_eq!(
        lines(&resources, "ecrsync_resource_condition"),
        [
            r#"{name="app",namespace="a",status="False",type="Ready"} 0"#,
            r#"{name="app",namespace="a",status="True",type="Ready"} 1"#,
            r#"{name="app",namespace="a",status="Unknown",type="Ready"} 0"#,
        ]
    );
    let last_pass = "ecrsync_resource_last_pass_timestamp_seconds";
    assert_eq!(lines(&resources, last_pass), [r#"{name="app",namespace="a"} 60"#]);

    resources.set("1", state);
    assert_eq!(lines(&resources, last_pass), Vec::<String>::new(), "its label was removed");
}

/// Resources as they are, spread over namespaces: most are Ready, some have one problem or two.
fn crowd(number: usize, namespaces: usize) -> Resources {
    use ConditionType::{ChartSynced, ConfigurationSynced, ImageSynced, RepositoryReady, Stalled};
    let resources = Resources::default();
    for index in 0..number {
        let namespace = format!("team-with-a-longer-name-{:05}", index % namespaces);
        let name = format!("application-{index:05}");
        let uid = format!("7d0b1c9e-1d7c-4a3e-8c55-{index:012}");
        let mut conditions: Vec<_> = [READY, RepositoryReady, ConfigurationSynced]
            .into_iter()
            .chain([ImageSynced, ChartSynced])
            .map(|type_| condition(type_, Status::True, "Succeeded", 1_796_000_000))
            .collect();
        match index % 10 {
            7 => conditions[3].status = Status::Unknown,
            8 => conditions[0] = condition(READY, Status::False, "PartiallySynced", 1_796_000_000),
            9 => {
                conditions[0] = condition(READY, Status::False, "AccessDenied", 1_796_000_000);
                let stalled = Class::AccessDenied.reason();
                conditions.push(condition(Stalled, Status::True, stalled, 1_796_000_000));
            }
            _ => {}
        }
        resources.set(&uid, state(&namespace, &name, &conditions));
        resources.next(&uid, Next::At(second(1_796_003_600)));
        resources.passed(&uid, Timestamp::from_second(1_796_000_000).expect("in range"));
    }
    resources
}

fn bytes(resources: &Resources) -> usize {
    let mut page = String::new();
    resources.write(&mut page);
    page.len()
}

#[test]
fn the_series_take_few_bytes_whatever_the_number_of_resources_and_namespaces() {
    for (number, namespaces, most) in [
        (10, 1, 3_000),
        (1_000, 1, 3_000),
        (10_000, 1, 3_000),
        (10, 10, 8_000),
        (1_000, 100, 62_000),
        (10_000, 100, 62_000),
        (1_000, 1_000, 62_000),
        (10_000, 10_000, 62_000),
    ] {
        let resources = crowd(number, namespaces);
        let bytes = bytes(&resources);
        assert!(bytes < most, "{number} resources in {namespaces} namespaces: {bytes} bytes");

        let counts = lines(&resources, "ecrsync_resources");
        let sum = counts.iter().map(|line| line.rsplit(' ').next().expect("a value"));
        let sum: usize = sum.map(|value| value.parse::<usize>().expect("a number")).sum();
        assert_eq!(sum, number, "every resource is counted once");
    }
}

#[test]
fn the_worst_states_of_every_resource_do_not_make_the_page_large() {
    let resources = Resources::default();
    for index in 0..10_000_usize {
        let namespace = format!("{:063}", index % 500);
        let reason = Class::ALL[index / 500 % Class::ALL.len()].reason();
        let types = [READY, ConditionType::ConfigurationSynced, ConditionType::ImageSynced];
        let ready = Status::VARIANTS[index / 7 % 3];
        let statuses = [ready, Status::False, Status::Unknown];
        let conditions: Vec<_> = types
            .into_iter()
            .zip(statuses)
            .map(|(type_, status)| condition(type_, status, reason, 1_796_000_000))
            .collect();
        resources.set(&index.to_string(), state(&namespace, "x", &conditions));
    }
    let bytes = bytes(&resources);
    assert!(bytes < 85_000, "{bytes}");
}

#[test]
fn the_namespaces_with_most_resources_have_series_of_their_own() {
    let resources = Resources::default();
    for index in 0..150 {
        let namespace = format!("n{index:03}");
        for copy in 0..=usize::from(index == 149) {
            resources.set(&format!("{index}-{copy}"), state(&namespace, "app", &[]));
        }
    }

    let tags = lines(&resources, "ecrsync_tags");
    let has = |namespace: &str| tags.iter().any(|line| line.contains(&format!("\"{namespace}\"")));
    assert!(has("n149"), "two resources");
    assert!(has("n098") && !has("n099"), "names decide between equals");
    assert_eq!(tags[0], r#"{namespace="_other",state="failed"} 50"#);
    assert_eq!(tags.len(), 2 * 101);
}

#[test]
fn a_resource_takes_at_most_400_bytes() {
    const NUMBER: usize = 10_000;
    let resources = crowd(NUMBER, 100);
    let table = resources.0.lock();

    // The table of a hash map has a byte more for each slot; malloc adds up to 16 bytes.
    let slot = size_of::<(Box<str>, Box<Record>)>() + 1;
    let slots = table.records.capacity() * 8 / 7;
    let allocated = |bytes: usize| if bytes == 0 { 0 } else { bytes.next_multiple_of(16) + 8 };
    let heap: usize = table
        .records
        .iter()
        .map(|(uid, record)| {
            allocated(uid.len())
                + allocated(size_of::<Record>())
                + allocated(record.name.len())
                + allocated(record.repository.as_deref().map_or(0, str::len))
                + allocated(size_of_val(&*record.conditions))
        })
        .sum();
    let each = (slots * slot + heap) / NUMBER;
    assert!(each <= 400, "{each} bytes");
}

#[test]
fn the_schedule_has_the_last_and_the_next_pass_of_every_resource() {
    let resources = Resources::default();
    let at = |second| Timestamp::from_second(second).expect("in range");
    resources.set("3", State { suspended: true, ..state("team", "web", &[]) });
    resources.set("1", state("platform", "nginx", &[]));
    resources.passed("1", at(60));
    resources.next("1", Next::At(second(3660)));
    resources.set("2", state("team", "app", &[]));
    resources.next("2", Next::Now);
    resources.set("4", state("team", "born", &[]));

    assert_eq!(
        resources.schedule(&Filter::default()),
        "RESOURCE        LAST                  NEXT\n\
         platform/nginx  1970-01-01T00:01:00Z  1970-01-01T01:01:00Z\n\
         team/app        -                     now\n\
         team/born       -                     -\n\
         team/web        -                     suspended\n"
    );

    let namespace = Some("team".to_owned());
    let filter = Filter { namespace: namespace.clone(), name: None };
    assert_eq!(resources.schedule(&filter).lines().count(), 4);
    let filter = Filter { namespace, name: Some("app".to_owned()) };
    let line = "RESOURCE  LAST                  NEXT\nteam/app  -                     now\n";
    assert_eq!(resources.schedule(&filter), line);
}

#[test]
fn the_schedule_is_bounded() {
    let page = crowd(10_000, 10).schedule(&Filter::default());
    assert_eq!(page.lines().count(), 1 + 1000 + 1);
    let last = page.lines().last().expect("a line");
    assert_eq!(last, "9000 more: add ?namespace=NAMESPACE, or &name=NAME too");
    assert!(page.len() < 100_000, "{}", page.len());
}

#[test]
fn a_time_that_no_second_can_hold_is_the_nearest() {
    assert_eq!(Second::of(Timestamp::MAX).unix(), u64::from(u32::MAX));
    assert_eq!(Second::of(Timestamp::MIN).unix(), 1);
    let hour = Duration::from_secs(3600);
    let Next::At(next) = Next::after(hour) else { panic!("a time") };
    let wait = next.timestamp().duration_since(Timestamp::now()).as_secs();
    assert!((3590..=3600).contains(&wait), "{wait}");
}
