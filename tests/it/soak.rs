//! Half an hour of work: 500 resources that change, two operators of which one leads, tokens that
//! live a minute, and faults at all servers. The leader keeps no more memory, descriptors or tasks
//! than before, and looks at every resource in its interval.
//!
//! A process leads for most of the time, so that its memory can be compared over that time. The
//! leader changes before and after, and the follower is restarted meanwhile.

mod faults;
mod looks;
mod replicas;
mod resources;
mod series;
mod site;
mod verdict;

use std::time::{Duration, Instant};

use self::faults::Trouble;
use self::looks::Looks;
use self::replicas::{End, Replicas, value};
use self::resources::{RESOURCES, Resources};
use self::site::Site;
use self::verdict::{Verdict, last};
use crate::support::eventually;

/// Time between two looks at the processes and the log of the stand-in.
const TICK: Duration = Duration::from_secs(1);
/// Time between two changes of resources, between two faults, and between two lines of progress. A
/// fault lasts until the next one: shorter than the retries of a pass.
const CHANGE: Duration = Duration::from_secs(2);
const FAULT: Duration = Duration::from_secs(15);
const PROGRESS: Duration = Duration::from_secs(60);

/// Times as parts of the whole: the leader changes at some, and between two of them one leads.
const LEADER_CHANGES: [(f64, End); 6] = [
    (0.10, End::Kill),
    (0.14, End::Stop),
    (0.18, End::Kill),
    (0.90, End::Stop),
    (0.94, End::Kill),
    (0.97, End::Kill),
];
const FOLLOWER_RESTARTS: [(f64, End); 3] =
    [(0.45, End::Kill), (0.60, End::Stop), (0.75, End::Kill)];
/// The last leader but three has warmed up.
const WARM: f64 = 0.40;
/// The measurement ends before the leader changes again.
const MEASURED: f64 = 0.89;

/// Something that is done again and again.
struct Rhythm {
    every: Duration,
    next: Duration,
}

impl Rhythm {
    /// Whether its time has come. What was missed on a slow machine is not made up for.
    fn is_due(&mut self, time: Duration) -> bool {
        let is_due = time >= self.next;
        if is_due {
            self.next = (self.next + self.every).max(time);
        }
        is_due
    }
}

/// A run.
struct Soak<'a> {
    site: &'a Site,
    resources: Resources<'a>,
    replicas: Replicas,
    looks: Looks,
    trouble: Trouble,
    verdict: Verdict,
    total: Duration,
    started: Instant,
}

impl Soak<'_> {
    /// Runs until the time is over. Afterwards everything has to become ready.
    async fn run(&mut self) {
        let mut leader_changes = LEADER_CHANGES.iter().peekable();
        let mut follower_restarts = FOLLOWER_RESTARTS.iter().peekable();
        let mut is_measured = false;
        let mut rhythms = [CHANGE, FAULT, PROGRESS].map(|every| Rhythm { every, next: every });
        loop {
            replicas::until(Instant::now() + TICK).await;
            let time = self.started.elapsed();
            let part = time.as_secs_f64() / self.total.as_secs_f64();

            self.replicas.watch(time, &mut self.looks).await;
            self.looks.read(self.site.rig.ecr.traffic());
            self.site.forget();
            let [changes, fails, reports] = rhythms.each_mut().map(|rhythm| rhythm.is_due(time));
            if changes {
                self.resources.change(&mut self.looks).await;
            }
            if fails {
                self.trouble.next(self.site);
            }
            if reports {
                self.print(time).await;
            }

            if part >= MEASURED && !is_measured {
                is_measured = true;
                self.verdict.usage(&self.replicas.usage, self.total.mul_f64(WARM));
            }
            if let Some((_, end)) = leader_changes.next_if(|(at, _)| part >= *at) {
                println!("{:.1} min: the leader ends: {end:?}", time.as_secs_f64() / 60.0);
                self.replicas.change_leader(&self.site.rig, *end, &mut self.looks).await;
            }
            if let Some((_, end)) = follower_restarts.next_if(|(at, _)| part >= *at) {
                self.replicas.restart_follower(&self.site.rig, *end).await;
            }
            if time >= self.total {
                return;
            }
        }
    }

    async fn print(&self, time: Duration) {
        let usage = &self.replicas.usage;
        let page = self.replicas.page().await;
        let series = |name: &str| value(&page, name).unwrap_or_default();
        let name = "{name=\"ecrrepositorysync\"}";
        println!(
            "{:.0} min: leader {}, RSS {} MiB ({} anonymous), {} descriptors, {} threads, {} \
             tasks, {} passes since it leads, {} wait, {} looks, {} missed, {} leaders, {} faults \
             (now {})",
            time.as_secs_f64() / 60.0,
            self.replicas.leader().unwrap_or_default(),
            last(&usage.rss),
            last(&usage.anonymous),
            last(&usage.descriptors),
            last(&usage.threads),
            last(&usage.tasks),
            series(&format!("workqueue_work_duration_seconds_count{name}")),
            series(&format!("workqueue_depth{name}")),
            self.looks.count,
            self.looks.missed.len(),
            self.replicas.changes + 1,
            self.trouble.count,
            self.trouble.now,
        );
    }

    /// Ends all trouble, and waits until everything is ready.
    async fn settle(&mut self) {
        self.trouble.end(self.site);
        self.resources.settle(&mut self.looks).await;
        let started = Instant::now();
        let mut unfinished = self.resources.unfinished().await;
        while !unfinished.is_empty() && started.elapsed() < 2 * looks::INTERVAL + looks::DEADLINE {
            replicas::until(Instant::now() + TICK).await;
            self.replicas.watch(self.started.elapsed(), &mut self.looks).await;
            self.looks.read(self.site.rig.ecr.traffic());
            unfinished = self.resources.unfinished().await;
        }
        println!("everything settled after {} s", started.elapsed().as_secs());
        for resource in unfinished.iter().take(20) {
            println!("not in sync: {resource}");
        }

        self.verdict.looks(&self.looks);
        let changes: Vec<_> = self.resources.changes.iter().collect();
        self.verdict.note("changes of resources and Secrets", format!("{changes:?}"));
        self.verdict.note("faults", self.trouble.count.to_string());
        self.verdict.note("changes of the leader", self.replicas.changes.to_string());
        self.verdict.note("processes replaced", self.replicas.restarts.to_string());
        self.verdict.none("resources not in sync at the end", unfinished.len());
        self.verdict.none("ends, panics and failed probes", self.replicas.problems.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour: make soak"]
async fn half_an_hour() {
    let number = |name: &str| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(text.parse::<f64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    let total = Duration::from_secs_f64(60.0 * number("MINUTES").unwrap_or(30.0));
    let seed = number("SEED").map_or_else(|| fastrand::u64(..1 << 32), |seed| seed as u64);
    println!("MINUTES={} SEED={seed}", total.as_secs_f64() / 60.0);

    let site = Site::new("soak").await;
    let mut resources = Resources::new(&site, seed);
    resources.create().await;
    println!("{RESOURCES} resources exist");
    let mut soak = Soak {
        site: &site,
        replicas: Replicas::start(&site.rig).await,
        looks: Looks::default(),
        trouble: Trouble::new(seed + 1),
        verdict: Verdict::default(),
        total,
        resources,
        started: Instant::now(),
    };

    // The first pass over all of them is a copy, and limited by what the machine can do.
    let started = Instant::now();
    eventually("leading", async || {
        soak.replicas.watch(Duration::ZERO, &mut soak.looks).await;
        soak.replicas.leader().is_some()
    })
    .await;
    while !soak.resources.unfinished().await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(600), "{}", soak.replicas.logs());
        replicas::until(Instant::now() + TICK).await;
    }
    println!("all are in sync after {} s", started.elapsed().as_secs());

    site.rig.ecr.traffic().clear();
    soak.resources.expect(&mut soak.looks);
    soak.started = Instant::now();
    soak.replicas.usage = Default::default();
    soak.run().await;
    soak.settle().await;

    println!("\n{}", soak.verdict.table());
    let failures = soak.verdict.failures();
    assert!(
        failures.is_empty(),
        "SEED={seed}: {failures:#?}\n{:#?}\n{}",
        soak.replicas.problems,
        soak.replicas.logs()
    );
}
