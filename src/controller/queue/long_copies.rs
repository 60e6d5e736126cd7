//! A simulation of copies that share a link, with a virtual clock: the promises for long copies.

use super::*;
use crate::controller::pool::{LONG_BYTES, LONG_COPY};

/// Bytes per second of the link: 1 Gbit/s. Copies share it equally.
const LINK: f64 = 125e6;
const GIB: u64 = 1 << 30;
const MB: u64 = 1_000_000;
/// Places of the default `--max-jobs`.
const PLACES: usize = 16;

struct Copy {
    namespace: &'static str,
    bytes: u64,
    /// Time of arrival, in seconds.
    arrives: f64,
}

/// The times of one copy, in seconds after its arrival.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    waited: f64,
    ended: f64,
}

fn copies(count: usize, namespace: &'static str, bytes: u64, arrives: f64) -> Vec<Copy> {
    (0..count).map(|_| Copy { namespace, bytes, arrives }).collect()
}

fn limits() -> Limits {
    Limits {
        places: PLACES + PLACES / 4,
        per_namespace: PLACES,
        begun: usize::MAX,
        per_host: PLACES,
        bytes: 0,
        bytes_per_namespace: 0,
    }
}

fn long_queue() -> Queue {
    Queue::new(Limits {
        places: usize::MAX,
        per_namespace: usize::MAX,
        bytes: LONG_BYTES * 2,
        bytes_per_namespace: LONG_BYTES,
        ..limits()
    })
}

/// Runs all copies. Those of at least `long_from` bytes need room for their bytes, the others a place.
fn run(copies: &[Copy], long_from: u64) -> Vec<Times> {
    let start = Instant::now();
    let mut queues = [Queue::new(limits()), long_queue()];
    let index_of = |id: Id| usize::try_from(id).expect("small");
    let is_long = |id: Id| usize::from(copies[index_of(id)].bytes >= long_from);

    let mut arrivals: Vec<Id> = (0..copies.len() as Id).collect();
    arrivals.sort_by(|one, other| {
        let arrives = |id: &Id| copies[index_of(*id)].arrives;
        arrives(other).total_cmp(&arrives(one)).then(other.cmp(one))
    });
    let mut running: Vec<(Id, f64)> = Vec::new();
    let mut times = vec![Times::default(); copies.len()];
    let mut now = 0.0;

    while !arrivals.is_empty() || !running.is_empty() {
        let share = LINK / running.len().max(1) as f64;
        let ends = running.iter().map(|(_, left)| now + left / share).fold(f64::MAX, f64::min);
        let arrives = arrivals.last().map_or(f64::MAX, |id| copies[index_of(*id)].arrives);
        let then = ends.min(arrives);
        for (_, left) in &mut running {
            *left -= (then - now) * share;
        }
        now = then;

        while let Some(id) = arrivals.pop_if(|id| copies[index_of(*id)].arrives <= now) {
            let Copy { namespace, bytes, arrives } = copies[index_of(id)];
            let work = Waiting {
                namespace: namespace.to_owned(),
                hosts: vec!["source".to_owned()],
                class: Class::Changed,
                since: start + Duration::from_secs_f64(arrives),
                bytes,
            };
            queues[is_long(id)].add(id, work);
        }
        // Less than a byte.
        for (id, _) in running.extract_if(.., |(_, left)| *left < 1.0) {
            times[index_of(id)].ended = now - copies[index_of(id)].arrives;
            queues[is_long(id)].remove(id);
        }
        let at = start + Duration::from_secs_f64(now);
        for queue in &mut queues {
            while let Some(id) = queue.next(at) {
                times[index_of(id)].waited = now - copies[index_of(id)].arrives;
                running.push((id, copies[index_of(id)].bytes as f64));
            }
        }
        assert!(queues[1].bytes <= LONG_BYTES * 2, "{now}");
        assert!(queues[1].begun.values().all(|begun| begun.bytes <= LONG_BYTES), "{now}");
    }
    assert!(times.iter().all(|times| times.ended > 0.0), "everything ends");
    times
}

#[test]
fn a_short_copy_does_not_wait_for_long_ones_of_its_own_namespace() {
    let mut all = copies(100, "models", 20 * GIB, 0.0);
    for n in 0..60 {
        all.extend(copies(1, "models", 50 * MB, 10.0 * f64::from(n)));
    }
    let short = &run(&all, LONG_COPY)[100..];
    assert!(short.iter().all(|times| times.waited == 0.0 && times.ended < 2.0), "{short:?}");

    let by_places = &run(&all, u64::MAX)[100..];
    assert!(by_places.iter().all(|times| times.waited > 600.0), "{by_places:?}");
}

#[test]
fn a_long_copy_of_another_namespace_begins_at_once_and_the_turns_are_fair() {
    let mut all = copies(20, "import", 6 * GIB, 0.0);
    all.extend(copies(5, "team", 8 * GIB, 100.0));
    let times = run(&all, LONG_COPY);
    let (import, team) = times.split_at(20);
    assert!(team[0].waited == 0.0, "{team:?}");
    // Each has half of the link: the team's 40 GiB take as long as 40 GiB of the import.
    let alone = 40.0 * GIB as f64 / LINK;
    assert!(team.iter().all(|times| times.ended < alone * 2.1), "{team:?}");
    assert!(import.iter().filter(|times| times.ended < alone * 2.1).count() >= 6, "{import:?}");
}

#[test]
fn sizes_that_no_image_has_stop_no_other_namespace() {
    let mut all = copies(3, "hostile", 1000 * GIB, 0.0);
    all.extend(copies(10, "team", 4 * GIB, 1.0));
    let times = run(&all, LONG_COPY);
    assert!(times[3..5].iter().all(|times| times.waited == 0.0), "two at a time: {times:?}");
    assert!(times[3..].iter().all(|times| times.ended < 2000.0), "{times:?}");

    let mut queue = long_queue();
    for id in 0..3 {
        let work = Waiting {
            namespace: "hostile".to_owned(),
            hosts: Vec::new(),
            class: Class::Changed,
            since: Instant::now(),
            bytes: u64::MAX,
        };
        queue.add(id, work);
    }
    assert_eq!((queue.next(Instant::now()), queue.next(Instant::now())), (Some(0), None));
}

#[test]
fn a_smaller_copy_does_not_overtake_the_one_whose_turn_it_is() {
    let start = Instant::now();
    let mut queue = long_queue();
    for (id, bytes) in [(0, 6), (1, 7), (2, 1)] {
        let work = Waiting {
            namespace: "ns".to_owned(),
            hosts: Vec::new(),
            class: Class::Changed,
            since: start,
            bytes: bytes * GIB,
        };
        queue.add(id, work);
    }
    assert_eq!((queue.next(start), queue.next(start)), (Some(0), None));

    // The bytes of a copy whose source hangs are not on the way.
    assert!(queue.step_aside(0, Wait::RateLimit));
    assert_eq!((queue.next(start), queue.next(start)), (Some(1), Some(2)));
    queue.take_back(0);
    (0..3).for_each(|id| queue.remove(id));
    assert!(queue.bytes == 0 && queue.begun.is_empty() && queue.jobs.is_empty());
}
