//! The order of the queue, as tables.

use super::*;

/// Work of a class, namespace and host that arrives at this second.
fn work(start: Instant, class: Class, namespace: &str, host: &str, second: u64) -> Waiting {
    Waiting {
        namespace: namespace.to_owned(),
        hosts: vec![host.to_owned()],
        class,
        since: start + Duration::from_secs(second),
        bytes: 0,
    }
}

fn limits(places: usize) -> Limits {
    Limits {
        places,
        per_namespace: places,
        begun: 100,
        per_host: 2,
        bytes: 0,
        bytes_per_namespace: 0,
    }
}

fn queue(places: usize) -> Queue {
    Queue::new(limits(places))
}

/// Serves everything one after the other, at once.
fn order(queue: &mut Queue, now: Instant) -> Vec<Id> {
    let next = || {
        let id = queue.next(now)?;
        queue.remove(id);
        Some(id)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn the_metrics_know_every_class() {
    let names: Vec<&str> = Class::VARIANTS.iter().map(Into::into).collect();
    assert_eq!(names, crate::telemetry::CLASSES);
}

#[tokio::test]
async fn classes_are_served_in_their_order_and_equal_work_in_the_order_of_arrival() {
    use Class::{Changed, OnDemand, Periodic, Retry};
    let start = Instant::now();
    let mut queue = queue(1);
    let arrivals = [Periodic, Retry, OnDemand, Changed, Changed, OnDemand, Retry, Periodic];
    for (id, class) in (0_u64..).zip(arrivals) {
        queue.add(id, work(start, class, "ns", "h", id));
    }
    assert_eq!(order(&mut queue, start), [3, 4, 2, 5, 1, 6, 0, 7]);
}

#[tokio::test]
async fn namespaces_take_turns_and_hosts_take_turns_in_each() {
    let start = Instant::now();
    let mut queue = queue(1);
    let arrivals = [
        ("a", "slow"),
        ("a", "slow"),
        ("a", "slow"),
        ("a", "fast"),
        ("b", "slow"),
        ("b", "fast"),
        ("c", "fast"),
    ];
    for (id, (namespace, host)) in (0_u64..).zip(arrivals) {
        queue.add(id, work(start, Class::Changed, namespace, host, id));
    }
    // At first, "a" has more waiting than the others together.
    assert_eq!(order(&mut queue, start), [0, 4, 6, 5, 3, 1, 2]);
}

#[tokio::test]
async fn a_namespace_with_most_of_the_work_gets_one_place_in_nine() {
    let start = Instant::now();
    let mut queue = queue(1);
    for id in 0..5000 {
        queue.add(id, work(start, Class::Changed, "crowd", "h", 0));
    }
    for id in 5000..5080 {
        queue.add(id, work(start, Class::Changed, "team", "h", 1));
    }
    let order = order(&mut queue, start);
    let last = order.iter().position(|id| *id == 5079).expect("served");
    assert!((80..=91).contains(&last), "80 places for the team, and an eighth more: {last}");
}

#[tokio::test]
async fn overdue_work_gets_one_place_in_four() {
    let start = Instant::now();
    let mut queue = queue(1);
    for id in 0..100 {
        queue.add(id, work(start, Class::Periodic, "ns", "h", 0));
    }
    let late = PATIENCE + Duration::from_secs(1);
    for id in 100..200 {
        queue.add(id, work(start, Class::Changed, "ns", "h", late.as_secs()));
    }
    let order = order(&mut queue, start + late);
    let served = |ids: &[Id]| ids.iter().filter(|id| **id < 100).count();
    assert_eq!((served(&order[..100]), served(&order[..132])), (25, 33));
}

#[tokio::test]
async fn work_is_promoted_and_removed_in_any_state() {
    let start = Instant::now();
    let mut queue = queue(1);
    for id in 0..4 {
        queue.add(id, work(start, Class::Periodic, "ns", "h", id));
    }
    queue.promote(2, Class::OnDemand);
    queue.promote(2, Class::Retry);
    queue.remove(0);
    queue.remove(0);

    assert_eq!(queue.next(start), Some(2));
    queue.promote(2, Class::Changed);
    assert_eq!(queue.next(start), None, "the only place is taken");
    queue.remove(2);
    assert_eq!(order(&mut queue, start), [1, 3]);
    assert!(queue.jobs.is_empty() && queue.lanes.iter().all(Lane::is_empty));
}

#[tokio::test]
async fn work_that_waits_steps_aside_and_is_first_when_it_goes_on() {
    let start = Instant::now();
    let mut queue = queue(1);
    for id in 0..4 {
        queue.add(id, work(start, Class::Changed, "ns", &format!("host-{id}"), id));
    }
    assert_eq!(queue.next(start), Some(0));
    assert!(queue.step_aside(0, Wait::Host("host-0")));
    assert!(!queue.step_aside(0, Wait::Host("host-0")), "it has no place any more");
    assert_eq!(queue.next(start), Some(1));

    queue.take_back(0);
    queue.remove(1);
    assert_eq!(queue.next(start), None, "it has its place again");
    assert!(queue.step_aside(0, Wait::OtherQueue));
    assert_eq!(queue.next(start), Some(2));
    queue.remove(0);
    assert_eq!(queue.next(start), None);
    queue.remove(2);
    assert_eq!(order(&mut queue, start), [3]);
    assert!(queue.jobs.is_empty() && queue.begun.is_empty() && queue.aside.is_empty());
}

#[tokio::test]
async fn a_host_for_which_work_waits_gets_no_more_work() {
    let start = Instant::now();
    let mut queue = queue(1);
    for id in 0..4 {
        let mut work = work(start, Class::Changed, "ns", "dead", id);
        work.hosts.push("dead of ns".to_owned());
        queue.add(id, work);
    }
    queue.add(4, work(start, Class::Periodic, "ns", "alive", 0));

    for id in [0, 1] {
        assert_eq!(queue.next(start), Some(id));
        assert!(queue.step_aside(id, Wait::Host("dead")));
    }
    assert_eq!(queue.next(start), Some(4), "two wait for the host already");
    queue.remove(4);
    queue.remove(1);
    assert_eq!(queue.next(start), Some(2));

    let mirrored = work(start, Class::Changed, "ns", "docker.io", 0);
    assert_eq!(mirrored.matching("mirror.example.com"), ["docker.io"]);
    assert_eq!(mirrored.matching("docker.io"), ["docker.io"]);
}

#[tokio::test]
async fn a_namespace_takes_no_more_than_its_places_and_half_of_the_table() {
    let start = Instant::now();
    let limits = Limits { per_namespace: 3, begun: 8, per_host: 8, ..limits(4) };
    let mut queue = Queue::new(limits);
    for id in 0..20 {
        queue.add(id, work(start, Class::Changed, "crowd", "h", 0));
    }
    queue.add(20, work(start, Class::Periodic, "team", "h", 0));

    let mut next = || std::iter::from_fn(|| queue.next(start)).collect::<Vec<_>>();
    assert_eq!(next(), [0, 1, 2, 20]);
    for id in [0, 1, 2] {
        assert!(queue.step_aside(id, Wait::OtherQueue));
    }
    let mut next = || std::iter::from_fn(|| queue.next(start)).collect::<Vec<_>>();
    assert_eq!(next(), [3], "half of the table");
}

#[tokio::test]
async fn no_more_work_waits_aside_for_a_rate_limit_than_there_are_places() {
    let start = Instant::now();
    let mut queue = queue(2);
    for id in 0..5 {
        queue.add(id, work(start, Class::Changed, "ns", "h", id));
    }
    for id in [0, 1] {
        assert_eq!(queue.next(start), Some(id));
        assert!(queue.step_aside(id, Wait::RateLimit));
    }
    assert_eq!((queue.next(start), queue.next(start)), (Some(2), Some(3)));
    assert!(!queue.step_aside(2, Wait::RateLimit));
    queue.take_back(0);
    assert!(queue.step_aside(2, Wait::RateLimit));
}
