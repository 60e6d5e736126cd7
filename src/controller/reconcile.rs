//! One reconcile. It is short: it decides the next step of a resource, and writes the status at
//! most once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::action::Action;
use super::context::Context;
use super::error::Error;
use super::events::Note;
use super::memory::Memory;
use super::pool::{self, panic_text};
use super::reason::Reason;
use super::subject::Subject;
use super::{deletion, job, publish, status};
use crate::api::v1alpha1::EcrRepositorySync;
use crate::sync::{Failure, Report};
use crate::telemetry::Next;

/// Time until a conflict is checked again. The end of the other resource wakes this one; the check
/// is for changes that no event reports.
const CONFLICT_CHECK: Duration = Duration::from_secs(300);

pub(super) async fn reconcile(
    object: &EcrRepositorySync,
    context: &Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    let subject = Subject::new(object, context);

    // A panic would end the controller for all resources.
    let result = match AssertUnwindSafe(decide(&subject)).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            context.metrics.reconcile_panics.inc();
            Err(Error::Panicked(panic_text(panic.as_ref()).to_owned()))
        }
    };

    context.metrics.reconciled(result.is_ok(), started.elapsed());
    result
}

pub(super) fn on_error(object: &EcrRepositorySync, context: &Arc<Context>) -> Action {
    Action::requeue(Subject::new(object, context).memory(Memory::refused))
}

async fn decide(subject: &Subject<'_>) -> Result<Action, Error> {
    if subject.is_being_deleted() {
        return delete(subject).await;
    }
    deletion::unhold(subject).await?;

    let suspend = subject.object.spec.suspend;
    let was_suspended = subject.memory(|memory| memory.suspended.replace(suspend));
    if suspend {
        return suspended(subject, was_suspended).await;
    }
    if let Some(failure) = subject.conflict() {
        return refuse(subject, failure).await;
    }
    deletion::hold(subject).await?;
    subject.take_requests();

    let ended = match subject.context.pool.poll(&subject.uid, subject.generation) {
        pool::State::Waiting => return job::waiting(subject).await,
        pool::State::Running => return running(subject).await,
        pool::State::Finished(report) => {
            publish::log(subject, &report);
            Some((report, Timestamp::now()))
        }
        pool::State::None => subject.memory(|memory| memory.unwritten.take()),
    };
    match ended {
        Some((report, time)) => finish(subject, report, time).await,
        None => Ok(job::start(subject)),
    }
}

/// Reports that a resource is suspended. A status that says so already is not written again.
async fn suspended(subject: &Subject<'_>, was_suspended: Option<bool>) -> Result<Action, Error> {
    subject.context.pool.cancel(&subject.uid);

    if was_suspended == Some(false) {
        let text = "no work is done until spec.suspend is false; nothing is removed";
        publish::events(subject, vec![Note::normal(Reason::Suspended.as_str(), text)]).await;
    }

    let old = subject.status();
    let new = status::suspended(&old, subject.generation);
    publish::show(subject, &new);
    publish::patch(subject, &old, new).await?;
    Ok(Action::await_change())
}

/// Reports the progress of a pass that copies for long. The job wakes the reconcile for it.
async fn running(subject: &Subject<'_>) -> Result<Action, Error> {
    job::report_if_slow(subject).await?;
    if let Some(snapshot) = subject.memory(Memory::progress) {
        let old = subject.status();
        let new = status::copying(&old, &snapshot);
        publish::patch(subject, &old, new).await?;
    }
    Ok(Action::await_change())
}

/// Reports a failure that stands before any work.
async fn refuse(subject: &Subject<'_>, failure: Failure) -> Result<Action, Error> {
    subject.context.pool.cancel(&subject.uid);
    let report = Report::failed(failure);
    publish::log(subject, &report);
    publish::write(subject, &report, Timestamp::now()).await?;
    subject.schedule(Next::after(CONFLICT_CHECK));
    Ok(Action::requeue(CONFLICT_CHECK))
}

/// Writes the report of a pass that ended at `time`, and plans the next pass.
async fn finish(
    subject: &Subject<'_>,
    report: Box<Report>,
    time: Timestamp,
) -> Result<Action, Error> {
    if let Err(error) = publish::write(subject, &report, time).await {
        // The report is kept and the pass is not repeated: its changes belong into the history and
        // an event.
        subject.memory(|memory| memory.unwritten = Some((report, time)));
        return Err(error);
    }

    let drift_interval = subject.drift_interval();
    let interval = subject.interval().min(drift_interval);
    let wait = subject.memory(|memory| {
        memory.inspected(&report, &subject.uid, drift_interval);
        memory.finished(&report, interval)
    });

    subject.schedule(Next::after(wait));
    Ok(Action::requeue(wait))
}

/// Continues the deletion of a resource.
async fn delete(subject: &Subject<'_>) -> Result<Action, Error> {
    let pool = &subject.context.pool;
    if !deletion::is_held(subject) {
        pool.cancel(&subject.uid);
        return Ok(Action::await_change());
    }
    if let Some(note) = deletion::retained(subject) {
        pool.cancel(&subject.uid);
        return deletion::release(subject, note).await;
    }

    if let Some(failure) = deletion::blocked(subject) {
        return refuse(subject, failure).await;
    }
    subject.take_requests();

    let report = match pool.poll(&subject.uid, subject.generation) {
        pool::State::Waiting => return job::waiting(subject).await,
        pool::State::Running => return Ok(Action::await_change()),
        pool::State::None => return Ok(job::start(subject)),
        pool::State::Finished(report) => report,
    };

    publish::log(subject, &report);
    if let Some(deletion) = &report.deletion {
        return deletion::release(subject, deletion::note(deletion)).await;
    }
    publish::write(subject, &report, Timestamp::now()).await?;
    let interval = subject.interval();
    Ok(Action::requeue(subject.memory(|memory| memory.finished(&report, interval))))
}
