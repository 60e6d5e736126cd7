//! Replicas that come, go, die, freeze, are cut off and change the number of shards, with virtual
//! time. All of them write without pause, and a witness sees each write when it begins.

mod server;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::server::Server;
use super::*;
use crate::ecr::Share;
use crate::operator::election::Candidate;
use crate::operator::lease::Lease;
use crate::shard::Layout;
use crate::telemetry::Metrics;
use crate::writes::{Author, Change, Leadership, Rights, write};

/// Longest time in which AWS carries out a write: less than a replica waits for its own writes.
const LONGEST_AT_AWS: Duration = Duration::from_millis(1_500);

/// The writes that AWS carries out, and the first ones that must not be at the same time.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<(Vec<Written>, Option<String>)>>);

/// A write, by the process `by`, to a shard of `shards`.
#[derive(Debug)]
struct Written {
    by: u64,
    shards: u16,
    shard: Shard,
    until: Instant,
}

impl Witness {
    /// Sees a write that begins now and ends at `until`.
    fn see(&self, write: Written) {
        let now = Instant::now();
        let (writes, broken) = &mut *self.0.lock();
        writes.retain(|written| written.until > now);
        for other in &*writes {
            let is_same = (other.shards, other.shard) == (write.shards, write.shard);
            if other.by != write.by && (is_same || other.shards != write.shards) {
                broken.get_or_insert(format!("{write:?} begins during {other:?}"));
            }
        }
        writes.push(write);
    }

    fn check(&self, seed: u64) {
        assert_eq!(self.0.lock().1, None, "seed {seed}");
    }
}

/// A process, all tasks of which stand still while it is frozen.
struct Process {
    number: u64,
    shards: u16,
    stop: CancellationToken,
    frost: Frost,
    is_cut_off: Arc<Mutex<bool>>,
    running: JoinHandle<()>,
}

/// The replicas of one operator.
struct World {
    seed: u64,
    server: Server,
    witness: Witness,
    processes: Vec<Process>,
    started: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            server: Server::new(seed),
            witness: Witness::default(),
            processes: Vec::new(),
            started: 0,
        }
    }

    /// Starts a replica for this number of shards. One shard is a replica without shards.
    fn start(&mut self, shards: u16) {
        self.started += 1;
        let number = self.started;
        let stop = CancellationToken::new();
        let is_cut_off = Arc::default();
        let client = self.server.client(Arc::clone(&is_cut_off));
        let api = Api::namespaced(client, "ns");
        let identity = format!("p{number:03}");
        let base = "ecr-sync".to_owned();
        let (candidate, rights) = match shards {
            1 => {
                let (grant, leadership) = Leadership::elected();
                let lease = Lease::new(api, base, identity, grant);
                (Candidate::Leader(Box::new(lease)), leadership.into())
            }
            _ => {
                let (grants, rights) = Rights::elected(Layout::of(shards));
                let assignment = Assignment::new(Layout::of(shards));
                let replica = Replica::new(api, base, identity, assignment.clone(), grants);
                (Candidate::Shards(Box::new(replica), assignment), rights)
            }
        };
        let witness = self.witness.clone();
        let writes = Writes { witness, by: number, shards, seed: fastrand::u64(..) };
        let work = run(candidate, rights, writes, stop.clone());
        let frost = Frost::default();
        let running = tokio::spawn(frost.clone().over(work));
        let process = Process { number, shards, stop, frost, is_cut_off, running };
        self.processes.push(process);
    }

    /// Ends a process as a crash does. Writes that AWS has got are carried out.
    fn kill(&mut self, index: usize) {
        self.processes.swap_remove(index).running.abort();
    }

    /// Ends a process, and waits for its end.
    async fn stop(&mut self, index: usize) {
        let process = self.processes.swap_remove(index);
        process.stop.cancel();
        process.running.await.expect("no panic");
    }

    /// Number of shards of each live process that should hold some, from the Leases.
    fn shares(&self, shards: u16) -> Vec<usize> {
        let holders = self.server.holders();
        let layout = format!("-of-{shards}");
        let of_shards = || {
            holders.iter().filter(|(name, _)| name.contains("-shard-") && name.ends_with(&layout))
        };
        let members = self.processes.iter().filter(|process| process.shards == shards);
        let count = |process: &Process| {
            let identity = format!("p{:03}", process.number);
            of_shards().filter(|(_, holder)| **holder == identity).count()
        };
        members.map(count).collect()
    }

    /// Whether every shard is held, with fair shares.
    fn is_fair(&self, shards: u16) -> bool {
        let shares = self.shares(shards);
        let spread = shares.iter().max().zip(shares.iter().min()).map(|(most, least)| most - least);
        shares.iter().sum::<usize>() == usize::from(shards) && spread <= Some(1)
    }

    /// Waits until every shard is held, with fair shares. Returns the time.
    async fn settle(&self, shards: u16) -> Duration {
        let began = Instant::now();
        while !self.is_fair(shards) {
            sleep(Duration::from_millis(10)).await;
            let (holders, elapsed) = (self.server.holders(), began.elapsed());
            assert!(elapsed < Duration::from_secs(60), "{shards} shards: {holders:#?}");
        }
        began.elapsed()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.witness.check(self.seed);
        }
        self.processes.iter().for_each(|process| process.running.abort());
    }
}

/// Whether a process stands still, and how to wake it. Clones share it.
#[derive(Clone, Default)]
struct Frost(Arc<Mutex<(bool, Option<Waker>)>>);

impl Frost {
    fn is_frozen(&self) -> bool {
        self.0.lock().0
    }

    fn set(&self, is_frozen: bool) {
        let mut state = self.0.lock();
        state.0 = is_frozen;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    /// Runs `work` while the process is not frozen.
    async fn over(self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        poll_fn(|context| {
            {
                let mut state = self.0.lock();
                if state.0 {
                    state.1 = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
            work.as_mut().poll(context)
        })
        .await;
    }
}

/// A process, whose controller writes to all shards. Its jobs take a while to end.
async fn run(candidate: Candidate, rights: Rights, writes: Writes, stop: CancellationToken) {
    let (metrics, health) = (Metrics::new().expect("distinct names"), Health::default());
    let assignment = candidate.assignment();
    let layout = Layout::of(writes.shards);

    // A repository of each shard.
    let mut names = BTreeMap::new();
    let mut all = (0..).map(|number| format!("app-{number}"));
    while names.len() < usize::from(layout.shards()) {
        let name = all.next().expect("endless");
        names.entry(layout.shard_of(&name)).or_insert(name);
    }
    let writing = names.iter().map(|(&shard, name)| writes.clone().go_on(rights.of(name), shard));
    let writing = join_all(writing.collect::<Vec<_>>());

    let end = candidate.end_of_work(&stop);
    let controller = async {
        tokio::select! {
            _ = writing => {}
            () = leave_slowly(assignment, writes.seed) => {}
            () = end.cancelled() => {}
        }
    };
    candidate.run(controller, &health, &metrics, &Share::default(), &stop).await;
}

/// Leaves shards that are withdrawn after a while.
async fn leave_slowly(assignment: Option<Assignment>, seed: u64) {
    let Some(assignment) = assignment else { return std::future::pending().await };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut assigned = assignment.assigned();
    loop {
        assigned.borrow_and_update();
        let leaving = assignment.leaving();
        if leaving.is_empty() {
            let _open = assigned.changed().await;
            continue;
        }
        sleep(Duration::from_millis(rng.u64(..1_000))).await;
        leaving.into_iter().for_each(|shard| assignment.leave(shard));
    }
}

/// The writes of a process.
#[derive(Clone)]
struct Writes {
    witness: Witness,
    by: u64,
    shards: u16,
    seed: u64,
}

impl Writes {
    /// Writes to a shard without pause, as often as there is a right.
    async fn go_on(self, leadership: Leadership, shard: Shard) {
        let Self { witness, by, shards, seed } = self;
        let mut rng = fastrand::Rng::with_seed(seed ^ u64::from(shard));
        loop {
            let took = LONGEST_AT_AWS.mul_f64(rng.f64());
            let call = async {
                witness.see(Written { by, shards, shard, until: Instant::now() + took });
                sleep(took).await;
            };
            let author = Author {
                resource: String::new(),
                generation: None,
                repository: String::new(),
                leadership: leadership.clone(),
            };
            author.writes(write(Change::default(), call)).await;
            sleep(Duration::from_millis(rng.u64(..500))).await;
        }
    }
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn shards_are_shared_fairly_and_move_within_seconds() {
    let mut world = World::new(1);
    world.start(7);
    let took = world.settle(7).await;
    assert!(took < Duration::from_secs(2), "one replica takes all shards: {took:?}");
    pass(20).await;
    assert_eq!(world.server.takes(), 7);

    world.start(7);
    let took = world.settle(7).await;
    assert!(took < Duration::from_secs(5), "another one comes: {took:?}");
    assert_eq!(world.server.takes(), 7 + 3, "only the surplus moves");
    world.start(7);
    world.settle(7).await;
    assert_eq!(world.server.takes(), 10 + 2);
    pass(60).await;
    assert_eq!(world.server.takes(), 12, "at rest nothing moves");

    world.stop(0).await;
    let took = world.settle(7).await;
    assert!(took < Duration::from_millis(2_500), "one is stopped: {took:?}");
    world.kill(0);
    let took = world.settle(7).await;
    assert!((5..11).contains(&took.as_secs()), "one is killed: {took:?}");
    pass(20).await;
    let names = world.server.names();
    let members = names.iter().filter(|name| name.contains("-member-")).count();
    assert_eq!(members, 1, "the Leases of the others are deleted: {names:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_with_another_number_of_shards_wait_until_the_last_one_has_left() {
    for (before, after) in [(3, 5), (5, 3), (1, 3), (3, 1)] {
        let mut world = World::new(2);
        world.start(before);
        if before > 1 {
            world.start(before);
        }
        pass(10).await;
        world.start(after);
        world.start(after);
        pass(60).await;
        let held = |world: &World, shards: u16| {
            let holders = world.server.holders();
            let own = if shards == 1 { "p00".to_owned() } else { format!("{shards} shards") };
            holders.get("ecr-sync").is_some_and(|holder| holder.starts_with(&own))
        };
        assert!(held(&world, before), "{:?}", world.server.holders());

        if before > 1 {
            world.stop(0).await;
            pass(30).await;
            assert!(held(&world, before), "one of the two is left");
            assert_eq!(world.shares(before), [usize::from(before)], "and has all shards");
        }
        let index = world.processes.iter().position(|process| process.shards == before);
        world.stop(index.expect("a process")).await;
        let released = Instant::now();
        while !held(&world, after) {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(released.elapsed() < Duration::from_secs(2), "{:?}", released.elapsed());
        if after > 1 {
            world.settle(after).await;
            pass(30).await;
            let names = world.server.names();
            let is_old = |name: &&String| before > 1 && name.ends_with(&format!("-of-{before}"));
            assert_eq!(names.iter().find(is_old), None, "Leases of the old layout are deleted");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_server_moves_no_shard() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.start(6);
    }
    world.settle(6).await;
    pass(10).await;
    let takes = world.server.takes();
    for process in &world.processes {
        *process.is_cut_off.lock() = true;
    }
    pass(90).await;
    for process in &world.processes {
        *process.is_cut_off.lock() = false;
    }
    pass(60).await;
    assert_eq!(world.server.takes(), takes);
    assert!(world.is_fair(6));
}

/// Any number of things happen to any number of replicas.
async fn live(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    fastrand::seed(seed);
    let mut world = World::new(seed);
    let mut shards = rng.u16(1..7);
    for _ in 0..rng.usize(1..5) {
        world.start(shards);
    }

    for _ in 0..40 {
        sleep(Duration::from_millis(rng.u64(1..20_000))).await;
        let count = world.processes.len();
        let index = rng.usize(..count.max(1));
        match rng.u8(..14) {
            0 | 1 if count < 8 => world.start(shards),
            2 if count > 0 => world.kill(index),
            3 if count > 0 && !world.processes[index].frost.is_frozen() => {
                *world.processes[index].is_cut_off.lock() = false;
                world.stop(index).await;
            }
            // A rollout with another number of shards.
            4 => {
                shards = rng.u16(1..7);
                world.start(shards);
            }
            5 | 6 if count > 0 => world.processes[index].frost.set(true),
            7 | 8 => world.processes.iter().for_each(|process| process.frost.set(false)),
            9 if count > 0 => *world.processes[index].is_cut_off.lock() = true,
            10 => world.processes.iter().for_each(|process| *process.is_cut_off.lock() = false),
            11 => {
                world.server.set_weather(Duration::from_millis(rng.u64(1..1_500)), rng.f64() / 4.0)
            }
            _ => world.server.set_weather(Duration::from_millis(20), 0.0),
        }
        // A replica without shards ends when it has lost the Lease.
        world.processes.retain(|process| process.shards > 1 || !process.running.is_finished());
        world.witness.check(seed);
    }

    world.server.set_weather(Duration::from_millis(20), 0.0);
    for process in &world.processes {
        process.frost.set(false);
        *process.is_cut_off.lock() = false;
    }
    while let Some(old) = world.processes.iter().position(|process| process.shards != shards) {
        world.stop(old).await;
    }
    world.start(shards);
    if shards > 1 {
        world.settle(shards).await;
        pass(30).await;
        assert!(world.is_fair(shards), "seed {seed}");
    }
    let is_over = |process: &Process| process.shards > 1 && process.running.is_finished();
    assert!(!world.processes.iter().any(is_over), "seed {seed}: a process panicked");
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_replicas_no_shard_has_two_writers() {
    for seed in 0..4 {
        live(seed).await;
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "long"]
async fn whatever_happens_in_many_runs_no_shard_has_two_writers() {
    for seed in 4..200 {
        live(seed).await;
    }
}
