//! The pool of jobs: everything that talks to AWS or to a registry.
//!
//! A running reconcile blocks the next one of its resource, even after a change of the spec or a
//! deletion, and few reconciles run at a time. So passes run here as jobs. The end of a job wakes
//! the reconcile that takes its report. Until a job gets a place, only its key waits in the queue;
//! the job is made when its turn comes.
//!
//! There are places for control, which a job has at first, and places for copies, which last long. A
//! copy of many bytes leaves its place and waits until there is room for its bytes. A job that waits
//! for a host or a rate limit steps aside meanwhile.

mod held;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::held::Held;
use super::key::Key;
use super::queue::{Class as Urgency, Id, Limits, Queue, Waiting};
use super::wakes::Wakes;
use crate::class::Class;
use crate::place;
use crate::sync::{Failure, Progress, Report};
use crate::telemetry::Ticket;

/// Deadline for the end of all jobs. A cancelled job ends at its next await; the deadline is for a
/// job that hangs elsewhere.
const LONGEST_END: Duration = Duration::from_secs(5);
/// Time between two looks for jobs that only wait.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Jobs that have begun and have not ended. Each has about 40 KB, so all of them fit into the memory
/// that the chart gives the operator.
const MOST_BEGUN: usize = 1024;

/// Bytes from which on a copy is long: at 1 Gbit/s, 4 s at best.
pub(super) const LONG_COPY: u64 = 512 * 1024 * 1024;
/// Bytes of long copies of one namespace that are on the way at the same time; a larger copy has
/// none of its namespace beside it. ECR takes 32 blobs at a time from this process, and a copy sends 8
/// large ones. So a short copy that finds all of them taken waits until these bytes are sent at most:
/// about a minute at 1 Gbit/s. Without the bound, 16 copies of 20 GB would take them for 45 minutes.
pub(super) const LONG_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The state of the job of a resource.
#[derive(Debug)]
pub(super) enum State {
    /// There is no job.
    None,
    /// The job waits for a place.
    Waiting,
    /// The job runs.
    Running,
    /// The job has ended. The report is returned once.
    Finished(Box<Report>),
}

/// A job that waits for a place.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) object: Key,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Class of the job in the queue.
    pub(super) urgency: Urgency,
    /// Time of the change that the job carries out.
    pub(super) changed: Option<Instant>,
    /// Whether the resource should report it if the job takes long.
    pub(super) is_new: bool,
    /// Hosts that the job reads from.
    pub(super) hosts: Vec<String>,
    pub(super) ticket: Ticket,
}

/// A job whose turn it is. It has a place until it ends.
#[derive(Debug)]
pub(super) struct Turn {
    id: Id,
    pub(super) object: Key,
    uid: String,
    pub(super) generation: i64,
    ticket: Ticket,
    changed: Option<Instant>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    object: Key,
    generation: i64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// With the time of the change that the job carries out.
    Waiting(Ticket, Option<Instant>),
    /// Cancels the job when its entry is removed.
    Running(#[allow(dead_code, reason = "held")] DropGuard),
    Finished(Box<Report>),
}

/// The end of a job: `ended` is cancelled when the job has ended.
#[derive(Clone, Debug)]
struct End {
    id: Id,
    ended: CancellationToken,
}

/// The pool. A resource has at most one running job: the next job waits for the end of a cancelled
/// one.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    table: Arc<Mutex<Table>>,
    /// Notified when a place may be free for a job that waits.
    changed: Arc<Notify>,
    tracker: TaskTracker,
    stop: CancellationToken,
    wakes: Wakes,
}

/// The jobs.
#[derive(Debug)]
struct Table {
    /// Places of jobs that look, and call AWS.
    control: Queue,
    /// Places of jobs that copy.
    copies: Queue,
    /// Room for the bytes of long copies.
    long: Queue,
    /// The current job of each resource, by UID.
    entries: HashMap<String, Entry>,
    /// UIDs of the waiting jobs.
    waiting: HashMap<Id, String>,
    /// Jobs of new resources in order of arrival, with their UIDs, until they are reported or over.
    new: VecDeque<(Instant, Id, String)>,
    /// The last job of each resource that was started, cancelled or not.
    ends: HashMap<String, End>,
    /// The places of the jobs that were started, in this order, so that runs can be repeated.
    held: BTreeMap<Id, Arc<Held>>,
    /// Jobs that wait for a place to copy.
    about_to_copy: HashMap<Id, oneshot::Sender<()>>,
    /// Time of the last look for jobs that only wait.
    looked: Instant,
    next_id: Id,
}

impl Table {
    /// Removes the job of a resource. If it runs, it is cancelled, and keeps its place until it has
    /// ended.
    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        if matches!(entry.phase, Phase::Waiting(..)) {
            self.control.remove(entry.id);
            self.waiting.remove(&entry.id);
        }
    }

    /// Removes the jobs of the resources for which `is_over` says so.
    fn remove_if(&mut self, is_over: impl Fn(&str) -> bool) {
        let uids = self.entries.keys().filter(|uid| is_over(uid)).cloned();
        let uids = uids.collect::<BTreeSet<_>>();
        uids.iter().for_each(|uid| self.remove(uid));
    }
}

impl Pool {
    /// Makes a pool with `places` for control, and a quarter more for copies. One namespace can take
    /// all places but that quarter, so the copies of the others can always begin. A resource whose
    /// job has ended is woken.
    pub(super) fn new(places: usize, stop: CancellationToken, wakes: Wakes) -> Self {
        let places = places.max(1);
        let control = Limits {
            places,
            per_namespace: places,
            begun: MOST_BEGUN.max(places * 2),
            per_host: places,
            bytes: 0,
            bytes_per_namespace: 0,
        };
        let copies = Limits { places: places + places.div_ceil(4), begun: usize::MAX, ..control };
        // As with the places, one namespace cannot take all, so the others can always begin.
        let long = Limits {
            places: usize::MAX,
            per_namespace: usize::MAX,
            bytes: LONG_BYTES * 2,
            bytes_per_namespace: LONG_BYTES,
            ..copies
        };
        let table = Table {
            control: Queue::new(control),
            copies: Queue::new(copies),
            long: Queue::new(long),
            entries: HashMap::new(),
            waiting: HashMap::new(),
            new: VecDeque::new(),
            ends: HashMap::new(),
            held: BTreeMap::new(),
            about_to_copy: HashMap::new(),
            looked: Instant::now(),
            next_id: 0,
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            changed: Arc::default(),
            tracker: TaskTracker::new(),
            stop,
            wakes,
        }
    }

    /// Returns the state of the job for this generation. A job for another generation is cancelled:
    /// its plan is outdated.
    pub(super) fn poll(&self, uid: &str, generation: i64) -> State {
        self.cancel_outdated(uid, generation);
        let mut table = self.table.lock();
        let Some(entry) = table.entries.remove(uid) else { return State::None };
        let state = match entry.phase {
            Phase::Finished(report) => return State::Finished(report),
            Phase::Waiting(..) => State::Waiting,
            Phase::Running(_) => State::Running,
        };
        table.entries.insert(uid.to_owned(), entry);
        state
    }

    /// Puts a job into the queue.
    pub(super) fn submit(&self, order: Order) {
        let Order { object, uid, generation, urgency, changed, is_new, hosts, ticket } = order;
        let mut table = self.table.lock();
        table.remove(&uid);

        let id = table.next_id;
        table.next_id += 1;
        let namespace = object.namespace().to_owned();
        let since = Instant::now();
        let waiting = Waiting { namespace, hosts, class: urgency, since, bytes: 0 };
        table.control.add(id, waiting);
        table.waiting.insert(id, uid.clone());
        if is_new {
            table.new.push_back((since, id, uid.clone()));
        }
        let phase = Phase::Waiting(ticket, changed);
        table.entries.insert(uid, Entry { id, object, generation, phase });
        drop(table);
        self.changed.notify_one();
    }

    /// Moves the waiting job of a resource to a class that is served earlier.
    pub(super) fn promote(&self, uid: &str, urgency: Urgency) {
        let mut table = self.table.lock();
        if let Some(id) = table.entries.get(uid).map(|entry| entry.id) {
            table.control.promote(id, urgency);
            let phase = table.entries.get(uid).map(|entry| &entry.phase);
            if let (Some(Phase::Waiting(ticket, _)), Some(work)) = (phase, table.control.work(id)) {
                ticket.promote(work.class.into());
            }
        }
    }

    /// Returns new resources whose job was submitted at least `age` ago and has not ended: at most
    /// `most`, in order of arrival, each once.
    pub(super) fn slow(&self, age: Duration, most: usize) -> Vec<Key> {
        let mut table = self.table.lock();
        let mut slow = Vec::new();
        while slow.len() < most
            && let Some((_, id, uid)) = table.new.pop_front_if(|(since, ..)| since.elapsed() >= age)
        {
            let entry = table.entries.get(&uid).filter(|entry| entry.id == id);
            let entry = entry.filter(|entry| !matches!(entry.phase, Phase::Finished(_)));
            slow.extend(entry.map(|entry| entry.object.clone()));
        }
        slow
    }

    /// Waits until a place is free and a job waits for one, and gives it the place. For one caller,
    /// which must [`Self::start`] or [`Self::abandon`] the job.
    pub(super) async fn turn(&self) -> Turn {
        loop {
            self.look_for_waits();
            if let Some(turn) = self.try_turn() {
                return turn;
            }
            let is_idle = self.table.lock().held.is_empty();
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY), if !is_idle => {}
            }
        }
    }

    /// Makes the jobs step aside that only wait.
    fn look_for_waits(&self) {
        let held: Vec<_> = {
            let mut table = self.table.lock();
            if table.looked.elapsed() < LOOK_EVERY {
                return;
            }
            table.looked = Instant::now();
            table.held.values().cloned().collect()
        };
        held.iter().for_each(|held| held.step_aside_if_it_waits());
    }

    fn try_turn(&self) -> Option<Turn> {
        let mut table = self.table.lock();
        let now = Instant::now();
        while let Some(id) = table.copies.next(now).or_else(|| table.long.next(now)) {
            let granted = table.about_to_copy.remove(&id);
            if granted.is_none_or(|granted| granted.send(()).is_err()) {
                table.copies.remove(id);
                table.long.remove(id);
            }
        }
        let id = table.control.next(now)?;
        let uid = table.waiting.remove(&id)?;
        let entry = table.entries.get_mut(&uid)?;

        let stop = self.stop.child_token();
        let running = Phase::Running(stop.clone().drop_guard());
        let (generation, object) = (entry.generation, entry.object.clone());
        match std::mem::replace(&mut entry.phase, running) {
            Phase::Waiting(ticket, changed) => {
                Some(Turn { id, object, uid, generation, ticket, changed, stop })
            }
            // The queue gives a place once.
            Phase::Running(_) | Phase::Finished(_) => None,
        }
    }

    /// Gives up a job whose turn it is: the resource is gone, or has another generation.
    pub(super) fn abandon(&self, turn: &Turn) {
        let mut table = self.table.lock();
        table.control.remove(turn.id);
        if table.entries.get(&turn.uid).is_some_and(|entry| entry.id == turn.id) {
            table.entries.remove(&turn.uid);
        }
    }

    /// Starts a job whose turn it is, and which counts its work in `progress`.
    pub(super) fn start<F>(
        &self,
        turn: Turn,
        progress: &Progress,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Report> + Send,
    {
        let Turn { id, object, uid, generation: _, ticket, changed, stop } = turn;
        let ended = CancellationToken::new();
        let end = End { id, ended: ended.clone() };
        let held = Arc::new(Held::new(id, self.clone(), progress.clone(), ticket, changed));
        let predecessor = {
            let mut table = self.table.lock();
            table.held.insert(id, held.clone());
            table.ends.insert(uid.clone(), end)
        };

        let span = tracing::info_span!(parent: None, "job", %object);
        let pool = self.clone();
        self.tracker.spawn(
            async move {
                // The cancelled job may still be writing.
                if let Some(predecessor) = predecessor {
                    predecessor.ended.cancelled().await;
                }

                let report = tokio::select! {
                    biased;
                    () = stop.cancelled() => Report::failed(Failure::cancelled()),
                    report = place::at(held, run(work, stop.clone())) => report,
                };

                ended.cancel();
                if pool.end(id, &uid, report) {
                    pool.wakes.wake_first([object]);
                }
            }
            .instrument(span),
        );
    }

    /// Frees the place of a job. Returns whether somebody waits for its report.
    fn end(&self, id: Id, uid: &str, report: Report) -> bool {
        let mut table = self.table.lock();
        table.control.remove(id);
        table.copies.remove(id);
        table.long.remove(id);
        table.about_to_copy.remove(&id);
        table.held.remove(&id);
        if table.ends.get(uid).is_some_and(|end| end.id == id) {
            table.ends.remove(uid);
        }
        self.changed.notify_one();

        // A cancelled job has no entry, or its successor has taken the entry.
        let Some(entry) = table.entries.get_mut(uid).filter(|entry| entry.id == id) else {
            return false;
        };
        entry.phase = Phase::Finished(Box::new(report));
        true
    }

    /// Cancels the job of a resource.
    pub(super) fn cancel(&self, uid: &str) {
        self.table.lock().remove(uid);
    }

    /// Cancels the job of a resource if it is for another generation.
    pub(super) fn cancel_outdated(&self, uid: &str, generation: i64) {
        let mut table = self.table.lock();
        if table.entries.get(uid).is_some_and(|entry| entry.generation != generation) {
            table.remove(uid);
        }
    }

    /// Cancels the jobs of resources that do not exist.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.table.lock().remove_if(|uid| !exists(uid));
    }

    /// Waits for the end of the jobs of these resources, which were cancelled.
    pub(super) async fn ended(&self, uids: &[String]) {
        let ends: Vec<_> = {
            let table = self.table.lock();
            uids.iter().filter_map(|uid| table.ends.get(uid)).map(|end| end.ended.clone()).collect()
        };
        for ended in ends {
            ended.cancelled().await;
        }
    }

    /// Cancels all jobs and waits for their end.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.table.lock().remove_if(|_| true);
        self.tracker.close();
        if tokio::time::timeout(LONGEST_END, self.tracker.wait()).await.is_err() {
            tracing::warn!(jobs = self.tracker.len(), "some jobs did not end in time");
        }
    }
}

/// Runs a job. A panic is its report.
async fn run<F>(work: impl FnOnce(CancellationToken) -> F, stop: CancellationToken) -> Report
where
    F: Future<Output = Report> + Send,
{
    match AssertUnwindSafe(async { work(stop).await }).catch_unwind().await {
        Ok(report) => report,
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            tracing::error!(panic = text, "a job panicked; this is a bug in ecr-sync");
            Report::failed(Failure::new(Class::Internal, format!("a bug in ecr-sync: {text}")))
        }
    }
}

/// Returns the message of a panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests;
