//! The pool of jobs: everything that talks to AWS or to a registry.
//!
//! A running reconcile blocks the next one of its resource, even after a change of the spec or a
//! deletion, and slots for reconciles are served in no order. So passes run here as jobs. The end
//! of a job triggers a reconcile that takes the report.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use kube_runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

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
    /// The job waits for a slot, or runs.
    Running,
    /// The job has ended. The report is returned once.
    Finished(Box<Report>),
}

#[derive(Debug)]
struct Entry {
    id: u64,
    generation: i64,
    /// Cancels the job when its entry is removed.
    _stop: DropGuard,
    report: Option<Report>,
}

/// The end of a job: `ended` is cancelled when the job has ended.
#[derive(Clone, Debug)]
struct End {
    id: u64,
    ended: CancellationToken,
}

/// The pool. A resource has at most one running job: the next job waits for the end of a cancelled
/// one.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// The last job of each resource, cancelled or not.
    ends: Arc<Mutex<HashMap<String, End>>>,
    slots: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
    finished: mpsc::UnboundedSender<ObjectRef<EcrRepositorySync>>,
    next_id: Arc<AtomicU64>,
}

impl Pool {
    /// Makes a pool of `slots` jobs. Resources whose job has ended are sent to `finished`.
    pub(super) fn new(
        slots: usize,
        stop: CancellationToken,
        finished: mpsc::UnboundedSender<ObjectRef<EcrRepositorySync>>,
    ) -> Self {
        Self {
            entries: Arc::default(),
            ends: Arc::default(),
            slots: Arc::new(Semaphore::new(slots.max(1))),
            tracker: TaskTracker::new(),
            stop,
            finished,
            next_id: Arc::default(),
        }
    }

    /// Returns the state of the job for this generation. A job for another generation is cancelled:
    /// its plan is outdated.
    pub(super) fn poll(&self, uid: &str, generation: i64) -> State {
        self.cancel_outdated(uid, generation);
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid) else { return State::None };
        match entry.report.take() {
            None => State::Running,
            Some(report) => {
                entries.remove(uid);
                State::Finished(Box::new(report))
            }
        }
    }

    /// Starts a job as soon as a slot is free.
    pub(super) fn submit<F>(
        &self,
        object: ObjectRef<EcrRepositorySync>,
        uid: &str,
        generation: i64,
        ticket: Ticket,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Report> + Send,
    {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let stop = self.stop.child_token();
        let entry = Entry { id, generation, _stop: stop.clone().drop_guard(), report: None };
        self.entries.lock().insert(uid.to_owned(), entry);
        let ended = CancellationToken::new();
        let predecessor = self.ends.lock().insert(uid.to_owned(), End { id, ended: ended.clone() });

        let span = tracing::info_span!(parent: None, "job", %object);
        let pool = self.clone();
        let uid = uid.to_owned();
        self.tracker.spawn(
            async move {
                // The cancelled job may still be writing.
                if let Some(predecessor) = predecessor {
                    predecessor.ended.cancelled().await;
                }

                let report = tokio::select! {
                    biased;
                    () = stop.cancelled() => Report::failed(Failure::cancelled()),
                    report = pool.run(ticket, work, stop.clone()) => report,
                };

                ended.cancel();
                pool.forget_end(&uid, id);
                let mut entries = pool.entries.lock();
                // A cancelled job has no entry, or its successor has taken the entry.
                if let Some(entry) = entries.get_mut(&uid).filter(|entry| entry.id == id) {
                    entry.report = Some(report);
                    drop(entries);
                    // The receiver ends with the controller.
                    let _gone = pool.finished.unbounded_send(object);
                }
            }
            .instrument(span),
        );
    }

    fn forget_end(&self, uid: &str, id: u64) {
        let mut ends = self.ends.lock();
        if ends.get(uid).is_some_and(|end| end.id == id) {
            ends.remove(uid);
        }
    }

    async fn run<F>(
        &self,
        ticket: Ticket,
        work: impl FnOnce(CancellationToken) -> F,
        stop: CancellationToken,
    ) -> Report
    where
        F: Future<Output = Report> + Send,
    {
        // The semaphore serves in order of arrival and is never closed.
        let _slot = self.slots.acquire().await;
        ticket.start();
        match AssertUnwindSafe(async { work(stop).await }).catch_unwind().await {
            Ok(report) => report,
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                tracing::error!(panic = text, "a job panicked; this is a bug in ecr-sync");
                Report::failed(Failure::new(Class::Internal, format!("a bug in ecr-sync: {text}")))
            }
        }
    }

    /// Cancels the job of a resource.
    pub(super) fn cancel(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    /// Cancels the job of a resource if it is for another generation.
    pub(super) fn cancel_outdated(&self, uid: &str, generation: i64) {
        let mut entries = self.entries.lock();
        if entries.get(uid).is_some_and(|entry| entry.generation != generation) {
            entries.remove(uid);
        }
    }

    /// Cancels the jobs of resources that do not exist.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.entries.lock().retain(|uid, _| exists(uid));
    }

    /// Cancels all jobs and waits for their end.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(LONGEST_END, self.tracker.wait()).await.is_err() {
            tracing::warn!(jobs = self.tracker.len(), "some jobs did not end in time");
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

    fn ticket() -> Ticket {
        crate::telemetry::Metrics::new().expect("distinct names").queue.add(false)
    }

    fn object(name: &str) -> ObjectRef<EcrRepositorySync> {
        ObjectRef::new(name).within("ns")
    }

    #[tokio::test]
    async fn a_panic_fails_that_job_only() {
        let (jobs, mut finished) = pool(1);
        jobs.submit(object("bad"), "bad", 1, ticket(), |_| async { panic!("on purpose") });
        jobs.submit(object("good"), "good", 1, ticket(), |_| async { Report::default() });
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

        jobs.submit(object("a"), "a", 1, ticket(), |_| async move {
            started.send(()).expect("the test waits");
            std::future::pending().await
        });
        is_running.await.expect("started");

        assert!(matches!(jobs.poll("a", 1), State::Running));
        assert!(matches!(jobs.poll("a", 2), State::None));
        jobs.submit(object("a"), "a", 2, ticket(), |_| async { Report::default() });
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

        jobs.submit(object("a"), "a", 1, ticket(), |_| async move {
            let _work = work;
            started.send(()).expect("the test waits");
            std::future::pending().await
        });
        is_running.await.expect("started");
        jobs.cancel("a");

        // The second is cancelled before its turn: the third still waits for the first.
        jobs.submit(object("a"), "a", 2, ticket(), |_| std::future::pending());
        jobs.cancel("a");

        let lines = log.clone();
        jobs.submit(object("a"), "a", 3, ticket(), |_| async move {
            lines.lock().push("third began");
            Report::default()
        });

        assert_eq!(finished.next().await, Some(object("a")));
        assert_eq!(*log.lock(), ["first ended", "third began"]);
        assert!(jobs.ends.lock().is_empty());
    }

    #[tokio::test]
    async fn finish_ends_all_jobs() {
        let (jobs, _finished) = pool(1);
        jobs.submit(object("a"), "a", 1, ticket(), |_| std::future::pending());
        jobs.submit(object("b"), "b", 1, ticket(), |_| std::future::pending());
        jobs.finish().await;
        assert_eq!(jobs.tracker.len(), 0);
    }
}
