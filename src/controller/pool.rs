//! The pool of jobs: everything that talks to AWS or to a registry.
//!
//! A running reconcile blocks the next one of its resource, even after a change of the spec or a
//! deletion, and slots for reconciles are served in no order. So passes run here as jobs. The end
//! of a job triggers a reconcile that takes the report. Until a job gets a place, only its key waits
//! in the queue; the job is made when its turn comes.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use kube_runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::queue::{Class as Urgency, Id, Limits, Queue, Waiting};
use crate::api::v1alpha1::EcrRepositorySync;
use crate::class::Class;
use crate::sync::{Failure, Report};
use crate::telemetry::Ticket;

/// Deadline for the end of all jobs. A cancelled job ends at its next await; the deadline is for a
/// job that hangs elsewhere.
const LONGEST_END: Duration = Duration::from_secs(5);

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
    pub(super) object: ObjectRef<EcrRepositorySync>,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Class of the job in the queue.
    pub(super) urgency: Urgency,
    /// Hosts that the job reads from.
    pub(super) hosts: Vec<String>,
    pub(super) ticket: Ticket,
}

/// A job whose turn it is. It has a place until it ends.
#[derive(Debug)]
pub(super) struct Turn {
    id: Id,
    pub(super) object: ObjectRef<EcrRepositorySync>,
    uid: String,
    pub(super) generation: i64,
    ticket: Ticket,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    generation: i64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Waiting(ObjectRef<EcrRepositorySync>, Ticket),
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
    finished: mpsc::UnboundedSender<ObjectRef<EcrRepositorySync>>,
}

/// The jobs.
#[derive(Debug)]
struct Table {
    queue: Queue,
    /// The current job of each resource, by UID.
    entries: HashMap<String, Entry>,
    /// UIDs of the waiting jobs.
    waiting: HashMap<Id, String>,
    /// The last job of each resource that was started, cancelled or not.
    ends: HashMap<String, End>,
    next_id: Id,
}

impl Table {
    /// Removes the job of a resource. If it runs, it is cancelled, and keeps its place until it has
    /// ended.
    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        if matches!(entry.phase, Phase::Waiting(..)) {
            self.queue.remove(entry.id);
            self.waiting.remove(&entry.id);
        }
    }

    /// Removes the jobs of the resources for which `is_over` says so.
    fn remove_if(&mut self, is_over: impl Fn(&str) -> bool) {
        let uids = self.entries.keys().filter(|uid| is_over(uid)).cloned().collect::<Vec<_>>();
        uids.iter().for_each(|uid| self.remove(uid));
    }
}

impl Pool {
    /// Makes a pool of `places` jobs. Resources whose job has ended are sent to `finished`.
    pub(super) fn new(
        places: usize,
        stop: CancellationToken,
        finished: mpsc::UnboundedSender<ObjectRef<EcrRepositorySync>>,
    ) -> Self {
        let table = Table {
            queue: Queue::new(Limits { places: places.max(1) }),
            entries: HashMap::new(),
            waiting: HashMap::new(),
            ends: HashMap::new(),
            next_id: 0,
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            changed: Arc::default(),
            tracker: TaskTracker::new(),
            stop,
            finished,
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
        let Order { object, uid, generation, urgency, hosts, ticket } = order;
        let mut table = self.table.lock();
        table.remove(&uid);

        let id = table.next_id;
        table.next_id += 1;
        let namespace = object.namespace.clone().unwrap_or_default();
        let waiting = Waiting { namespace, hosts, class: urgency, since: Instant::now() };
        table.queue.add(id, waiting);
        table.waiting.insert(id, uid.clone());
        table.entries.insert(uid, Entry { id, generation, phase: Phase::Waiting(object, ticket) });
        drop(table);
        self.changed.notify_one();
    }

    /// Moves the waiting job of a resource to a class that is served earlier.
    pub(super) fn promote(&self, uid: &str, urgency: Urgency) {
        let mut table = self.table.lock();
        if let Some(id) = table.entries.get(uid).map(|entry| entry.id) {
            table.queue.promote(id, urgency);
        }
    }

    /// Waits until a place is free and a job waits for one, and gives it the place. For one caller,
    /// which must [`Self::start`] or [`Self::abandon`] the job.
    pub(super) async fn turn(&self) -> Turn {
        loop {
            if let Some(turn) = self.try_turn() {
                return turn;
            }
            self.changed.notified().await;
        }
    }

    fn try_turn(&self) -> Option<Turn> {
        let mut table = self.table.lock();
        let id = table.queue.next(Instant::now())?;
        let uid = table.waiting.remove(&id)?;
        let entry = table.entries.get_mut(&uid)?;

        let stop = self.stop.child_token();
        let running = Phase::Running(stop.clone().drop_guard());
        let generation = entry.generation;
        match std::mem::replace(&mut entry.phase, running) {
            Phase::Waiting(object, ticket) => {
                Some(Turn { id, object, uid, generation, ticket, stop })
            }
            // The queue gives a place once.
            Phase::Running(_) | Phase::Finished(_) => None,
        }
    }

    /// Gives up a job whose turn it is: the resource is gone, or has another generation.
    pub(super) fn abandon(&self, turn: &Turn) {
        let mut table = self.table.lock();
        table.queue.remove(turn.id);
        if table.entries.get(&turn.uid).is_some_and(|entry| entry.id == turn.id) {
            table.entries.remove(&turn.uid);
        }
    }

    /// Starts a job whose turn it is.
    pub(super) fn start<F>(
        &self,
        turn: Turn,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Report> + Send,
    {
        let Turn { id, object, uid, generation: _, ticket, stop } = turn;
        ticket.start();
        let ended = CancellationToken::new();
        let end = End { id, ended: ended.clone() };
        let predecessor = self.table.lock().ends.insert(uid.clone(), end);

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
                    report = run(work, stop.clone()) => report,
                };

                drop(ticket);
                ended.cancel();
                if pool.end(id, &uid, report) {
                    // The receiver ends with the controller.
                    let _gone = pool.finished.unbounded_send(object);
                }
            }
            .instrument(span),
        );
    }

    /// Frees the place of a job. Returns whether somebody waits for its report.
    fn end(&self, id: Id, uid: &str, report: Report) -> bool {
        let mut table = self.table.lock();
        table.queue.remove(id);
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
mod tests {
    use futures::StreamExt;

    use super::*;

    fn pool(slots: usize) -> (Pool, mpsc::UnboundedReceiver<ObjectRef<EcrRepositorySync>>) {
        let (sender, receiver) = mpsc::unbounded();
        (Pool::new(slots, CancellationToken::new(), sender), receiver)
    }

    fn order(name: &str, generation: i64) -> Order {
        Order {
            object: object(name),
            uid: name.to_owned(),
            generation,
            urgency: Urgency::Changed,
            hosts: Vec::new(),
            ticket: crate::telemetry::Metrics::new().expect("distinct names").queue.add(false),
        }
    }

    /// Submits a job and starts it when its turn comes.
    async fn run<F>(
        pool: &Pool,
        name: &str,
        generation: i64,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Report> + Send,
    {
        pool.submit(order(name, generation));
        let turn = pool.turn().await;
        assert_eq!(turn.object, object(name));
        pool.start(turn, work);
    }

    fn object(name: &str) -> ObjectRef<EcrRepositorySync> {
        ObjectRef::new(name).within("ns")
    }

    #[tokio::test]
    async fn a_panic_fails_that_job_only() {
        let (jobs, mut finished) = pool(1);
        run(&jobs, "bad", 1, |_| async { panic!("on purpose") }).await;
        run(&jobs, "good", 1, |_| async { Report::default() }).await;
        assert_eq!(finished.next().await, Some(object("bad")));
        assert_eq!(finished.next().await, Some(object("good")));
        let State::Finished(report) = jobs.poll("bad", 1) else { panic!("not finished") };
        assert_eq!(report.failure.map(|f| f.class), Some(Class::Internal));
        assert!(matches!(jobs.poll("good", 1), State::Finished(report) if report.is_success()));
        assert!(matches!(jobs.poll("good", 1), State::None), "a report is returned once");
    }

    #[tokio::test]
    async fn a_new_generation_cancels_the_running_job() {
        let (jobs, mut finished) = pool(1);
        let (started, is_running) = tokio::sync::oneshot::channel();

        run(&jobs, "a", 1, |_| async move {
            started.send(()).expect("the test waits");
            std::future::pending().await
        })
        .await;
        is_running.await.expect("started");

        assert!(matches!(jobs.poll("a", 1), State::Running));
        assert!(matches!(jobs.poll("a", 2), State::None));
        run(&jobs, "a", 2, |_| async { Report::default() }).await;
        assert_eq!(finished.next().await, Some(object("a")));
        assert!(
            matches!(jobs.poll("a", 2), State::Finished(_)),
            "the slot of the cancelled job is free again"
        );
    }

    #[tokio::test]
    async fn the_next_job_of_an_object_waits_until_the_cancelled_one_has_ended() {
        /// Logs its end when it is dropped.
        struct Work(Arc<Mutex<Vec<&'static str>>>);
        impl Drop for Work {
            fn drop(&mut self) {
                self.0.lock().push("first ended");
            }
        }

        let (jobs, mut finished) = pool(2);
        let log: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let (started, is_running) = tokio::sync::oneshot::channel();
        let work = Work(log.clone());

        run(&jobs, "a", 1, |_| async move {
            let _work = work;
            started.send(()).expect("the test waits");
            std::future::pending().await
        })
        .await;
        is_running.await.expect("started");
        jobs.cancel("a");

        // The second is cancelled before its turn: the third still waits for the first.
        run(&jobs, "a", 2, |_| std::future::pending()).await;
        jobs.cancel("a");

        let lines = log.clone();
        run(&jobs, "a", 3, |_| async move {
            lines.lock().push("third began");
            Report::default()
        })
        .await;

        assert_eq!(finished.next().await, Some(object("a")));
        assert_eq!(*log.lock(), ["first ended", "third began"]);
        assert!(jobs.table.lock().ends.is_empty());
    }

    #[tokio::test]
    async fn a_job_that_waits_for_a_place_is_cancelled_and_its_place_is_not_taken() {
        let (jobs, mut finished) = pool(1);
        run(&jobs, "a", 1, |_| std::future::pending()).await;
        for (name, generation) in [("b", 1), ("c", 1), ("d", 1), ("e", 1)] {
            jobs.submit(order(name, generation));
        }
        assert!(matches!(jobs.poll("b", 1), State::Waiting));

        jobs.cancel("b");
        assert!(matches!(jobs.poll("c", 2), State::None), "another generation");
        jobs.retain(|uid| uid != "d");
        jobs.cancel("a");
        let turn = jobs.turn().await;
        assert_eq!(turn.object, object("e"));
        jobs.abandon(&turn);
        assert!(matches!(jobs.poll("e", 1), State::None));

        run(&jobs, "f", 1, |_| async { Report::default() }).await;
        assert_eq!(finished.next().await, Some(object("f")));
    }

    #[tokio::test]
    async fn finish_ends_all_jobs() {
        let (jobs, _finished) = pool(1);
        run(&jobs, "a", 1, |_| std::future::pending()).await;
        jobs.submit(order("b", 1));
        jobs.finish().await;
        assert!(matches!(jobs.poll("b", 1), State::None));
        assert_eq!(jobs.tracker.len(), 0);
    }
}
