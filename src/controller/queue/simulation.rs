//! A simulation of thousands of resources with a virtual clock: the promises of the queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

/// Places of the default `--max-jobs`.
const PLACES: usize = 16;
/// Time of a pass that finds nothing: one AWS call and one request to the source.
const LOOK: Duration = Duration::from_millis(60);
/// Time of a pass that creates and configures a repository.
const CREATION: Duration = Duration::from_millis(200);

/// Time after which work that only waits steps aside.
const GRACE: Duration = Duration::from_millis(100);

/// Work to simulate. Work that takes longer than ten seconds waits for its host all the time.
#[derive(Clone, Debug)]
struct Work {
    waiting: Waiting,
    takes: Duration,
}

impl Work {
    fn hangs(&self) -> bool {
        self.takes > Duration::from_secs(10)
    }
}

/// An event, in the order in which events of the same time are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends,
    StepsAside,
    Arrives,
}

/// The result of one work.
#[derive(Clone, Copy, Debug)]
struct Result {
    /// Wait for the first place.
    waited: Duration,
    ended: Duration,
}

#[derive(Debug, Default)]
struct Works(Vec<Work>);

impl Works {
    /// Adds `count` works that arrive together, `offset` after the start.
    fn add(
        &mut self,
        count: usize,
        class: Class,
        namespace: &str,
        offset: Duration,
        takes: Duration,
    ) {
        let host = if takes > Duration::from_secs(10) { "dead" } else { "alive" };
        for _ in 0..count {
            let waiting = Waiting {
                namespace: namespace.to_owned(),
                hosts: vec![host.to_owned()],
                class,
                since: start() + offset,
                bytes: 0,
            };
            self.0.push(Work { waiting, takes });
        }
    }

    /// Runs all works. Returns the results by namespace and class.
    fn run(&self) -> BTreeMap<(String, Class), Vec<Result>> {
        let mut queue = Queue::new(Limits {
            places: PLACES,
            per_namespace: PLACES,
            begun: 1024,
            per_host: PLACES,
            bytes: 0,
            bytes_per_namespace: 0,
        });
        let mut events = BinaryHeap::new();
        for (id, work) in self.0.iter().enumerate() {
            events.push(Reverse((work.waiting.since, Event::Arrives, id)));
        }

        let mut began = BTreeMap::new();
        let mut results: BTreeMap<_, Vec<_>> = BTreeMap::new();
        while let Some(Reverse((now, event, index))) = events.pop() {
            let id = index as Id;
            let Work { waiting, .. } = &self.0[index];
            match event {
                Event::Arrives => queue.add(id, waiting.clone()),
                Event::StepsAside => assert!(queue.step_aside(id, Wait::Host("dead"))),
                Event::Ends => {
                    queue.remove(id);
                    let result =
                        Result { waited: began[&index], ended: now.duration_since(waiting.since) };
                    let key = (waiting.namespace.clone(), waiting.class);
                    results.entry(key).or_default().push(result);
                }
            }

            // Work that arrives together is in the queue before the first of it begins.
            let is_arrival = |Reverse((then, event, _)): &Reverse<(Instant, Event, usize)>| {
                *then == now && *event == Event::Arrives
            };
            if events.peek().is_some_and(is_arrival) {
                continue;
            }
            while let Some(next) = queue.next(now) {
                let index = usize::try_from(next).expect("small");
                let work = &self.0[index];
                began.insert(index, now.duration_since(work.waiting.since));
                events.push(Reverse((now + work.takes, Event::Ends, index)));
                if work.hangs() {
                    events.push(Reverse((now + GRACE, Event::StepsAside, index)));
                }
            }
        }

        let ended: usize = results.values().map(Vec::len).sum();
        assert_eq!(ended, self.0.len(), "everything ends");
        results
    }
}

/// The same start for all works of a test.
fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Returns the 99th percentile of the waits.
fn p99(results: &[Result]) -> Duration {
    let mut waits: Vec<_> = results.iter().map(|result| result.waited).collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

fn last(results: &[Result]) -> Duration {
    results.iter().map(|result| result.ended).max().expect("results")
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn new_work_does_not_wait_for_a_pass_over_ten_thousand() {
    let mut works = Works::default();
    works.add(10_000, Class::Periodic, "all", Duration::ZERO, LOOK);
    for n in 0..500 {
        works.add(1, Class::Changed, "all", secs(0.07 * f64::from(n)), CREATION);
        works.add(1, Class::OnDemand, "all", secs(0.07 * f64::from(n)), LOOK);
    }
    let results = works.run();
    let of = |class| &results[&("all".to_owned(), class)];

    assert!(p99(of(Class::Changed)) < secs(0.1), "{:?}", p99(of(Class::Changed)));
    assert!(p99(of(Class::OnDemand)) < secs(0.1), "{:?}", p99(of(Class::OnDemand)));
    // 10,000 looks alone take 37.5 s.
    assert!(last(of(Class::Periodic)) < secs(50.0), "{:?}", last(of(Class::Periodic)));
}

#[test]
fn new_work_does_not_wait_for_an_import_of_a_thousand_by_another_namespace() {
    let mut works = Works::default();
    works.add(1000, Class::Changed, "import", Duration::ZERO, CREATION);
    for n in 0..100 {
        works.add(1, Class::Changed, "team", secs(0.12 * f64::from(n)), CREATION);
    }
    let results = works.run();
    let team = &results[&("team".to_owned(), Class::Changed)];
    assert!(p99(team) < secs(0.25), "{:?}", p99(team));
}

#[test]
fn a_namespace_with_five_thousand_leaves_the_others_within_a_fifth() {
    let others = |works: &mut Works| {
        for n in 0..10 {
            works.add(50, Class::Changed, &format!("team-{n}"), Duration::ZERO, CREATION);
        }
    };
    let mut alone = Works::default();
    others(&mut alone);
    let mut beside = Works::default();
    beside.add(5000, Class::Changed, "crowd", Duration::ZERO, CREATION);
    others(&mut beside);

    let (alone, beside) = (alone.run(), beside.run());
    for (key, before) in &alone {
        let (before, after) = (last(before), last(&beside[key]));
        assert!(after <= before.mul_f64(1.2), "{key:?}: {after:?} instead of {before:?}");
    }
    // 5,500 creations alone take 69 s.
    let crowd = last(&beside[&("crowd".to_owned(), Class::Changed)]);
    assert!(crowd < secs(70.0), "all places are used: {crowd:?}");
}

#[test]
fn nothing_starves_behind_new_work_that_never_ends() {
    let mut works = Works::default();
    works.add(1000, Class::Periodic, "calm", Duration::ZERO, LOOK);
    // A quarter more than 16 places can serve, for ten minutes.
    for n in 0..6000 {
        works.add(1, Class::Changed, "busy", secs(0.1 * f64::from(n)), secs(2.0));
    }
    let results = works.run();
    let calm = last(&results[&("calm".to_owned(), Class::Periodic)]);
    // A quarter of the 8 places per second that come free serves two per second.
    assert!(calm < PATIENCE + secs(1000.0 / 2.0) + secs(5.0), "{calm:?}");
}

#[test]
fn work_on_a_host_that_hangs_leaves_the_others_within_a_tenth() {
    let healthy = |works: &mut Works| {
        works.add(500, Class::Changed, "team", Duration::ZERO, CREATION);
    };
    let mut alone = Works::default();
    healthy(&mut alone);
    let mut beside = Works::default();
    beside.add(500, Class::Changed, "team", Duration::ZERO, Duration::from_secs(15));
    healthy(&mut beside);

    let of = |works: &Works| {
        let results = works.run();
        let mut ends: Vec<_> = results.values().flatten().map(|result| result.ended).collect();
        ends.sort_unstable();
        ends[499]
    };
    let (alone, beside) = (of(&alone), of(&beside));
    assert!(beside <= alone.mul_f64(1.1), "{beside:?} instead of {alone:?}");
}
