//! The job of one pass: submitted when it is due; made of the resource, its memory and its status
//! when it gets a place; and run in the pool.

mod hosts;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::backoff::offset_in;
use super::context::Context;
use super::error::Error;
use super::key::Key;
use super::memory::{PROGRESS_EVERY, SLOW};
use super::pool::{Order, Turn};
use super::queue::Class;
use super::secrets::Secrets;
use super::subject::Subject;
use super::{conditions, publish, status};
use crate::api::v1alpha1::{EcrRepositorySync, EcrRepositorySyncStatus as Status, condition};
use crate::ecr::Identity;
use crate::logins;
use crate::reload::Reloaded;
use crate::spec::{self, Spec};
use crate::sync::{
    Access, Accesses, Claimant, Earlier, Failure, Job, Mirrored, Mode, Progress, Report,
};
use crate::telemetry::Next;
use crate::tenancy::{Permit, Request};
use crate::violation::Violation;

/// The part of the status that decides when a pass is due, and how urgent it is.
struct Standing {
    /// Whether no pass over this generation has ended.
    is_new: bool,
    /// Whether Ready is about this generation.
    is_shown: bool,
    is_ready: bool,
}

impl Standing {
    fn of(subject: &Subject<'_>, status: &Status) -> Self {
        let ready = conditions::find(&status.conditions, condition::READY);
        let generation = Some(subject.generation);
        Self {
            is_new: status.observed_generation != generation,
            is_shown: ready.is_some_and(|ready| ready.observed_generation == generation),
            is_ready: ready.is_some_and(|ready| ready.status == "True"),
        }
    }

    /// Returns the class of the next pass in the queue.
    fn urgency(&self, subject: &Subject<'_>) -> Class {
        let (is_asked, has_failed) =
            subject.memory(|memory| (memory.is_asked(), memory.failures > 0));
        if self.is_new || subject.is_being_deleted() {
            Class::Changed
        } else if is_asked {
            Class::OnDemand
        } else if has_failed || !self.is_ready {
            Class::Retry
        } else {
            Class::Periodic
        }
    }
}

/// Submits a job if one is due.
pub(super) fn start(subject: &Subject<'_>) -> Action {
    let current = subject.status();
    let standing = Standing::of(subject, &current);

    let now = Instant::now();
    // After a restart every resource is due at once; the resources that are ready can wait.
    let wait = if standing.is_new || !standing.is_ready {
        Duration::ZERO
    } else {
        let spread = subject.interval().min(subject.context.options.startup_spread);
        offset_in(spread, &subject.uid)
    };
    let due = subject.memory(|memory| *memory.due.get_or_insert(now + wait));
    if now < due {
        subject.schedule(Next::after(due - now));
        return Action::requeue(due - now);
    }
    subject.schedule(Next::Now);

    let urgency = standing.urgency(subject);
    let (is_retry, first_seen) = subject.memory(|memory| {
        memory.submitted();
        (memory.failures > 0, memory.first_seen())
    });
    subject.context.pool.submit(Order {
        object: Key::of(subject.object),
        uid: subject.uid.clone(),
        generation: subject.generation,
        urgency,
        changed: (urgency == Class::Changed).then_some(first_seen),
        is_new: standing.is_new && !subject.is_being_deleted(),
        hosts: hosts::of(&subject.namespace, &subject.object.spec),
        ticket: subject.context.metrics.queue.add(urgency.into(), is_retry),
    });
    // The resource may have been deleted since the reconcile began, with nobody left to take the
    // report.
    if !subject.context.memories.has(&subject.uid) {
        subject.context.pool.cancel(&subject.uid);
    }
    Action::await_change()
}

/// Reconciles a resource whose job waits for a place: it may be more urgent now.
pub(super) async fn waiting(subject: &Subject<'_>) -> Result<Action, Error> {
    let urgency = Standing::of(subject, &subject.status()).urgency(subject);
    subject.context.pool.promote(&subject.uid, urgency);
    report_if_slow(subject).await?;
    Ok(Action::await_change())
}

/// Reports that the first pass over a generation has not ended, if that takes long.
pub(super) async fn report_if_slow(subject: &Subject<'_>) -> Result<(), Error> {
    let current = subject.status();
    let Standing { is_new, is_shown, .. } = Standing::of(subject, &current);
    if !is_new || is_shown || subject.is_being_deleted() || !subject.memory(|m| m.is_slow()) {
        return Ok(());
    }
    let progressing = status::progressing(&current, subject.generation, Timestamp::now());
    publish::patch(subject, &current, progressing).await
}

/// Makes new resources report that their first pass takes long. A burst of thousands waits for
/// minutes: its reports come in order of arrival, and slowly, since each is a write.
pub(super) async fn report_slow_ones(context: Arc<Context>) {
    const EVERY: Duration = Duration::from_millis(500);
    const MOST: usize = 10;
    loop {
        tokio::time::sleep(EVERY).await;
        context.wakes.wake(context.pool.slow(SLOW, MOST));
    }
}

/// Starts the submitted jobs, each when it gets a place.
pub(super) async fn start_in_turn(context: Arc<Context>) {
    loop {
        let turn = context.pool.turn().await;
        start_one(&context, turn);
    }
}

/// Makes and starts the job of the resource as it is now.
fn start_one(context: &Arc<Context>, turn: Turn) {
    let object = context.store.get(&turn.object);
    let is_same = |object: &EcrRepositorySync| {
        object.metadata.generation.unwrap_or_default() == turn.generation
    };
    // A change or a deletion that the watch is just handling has a reconcile of its own.
    let Some(object) = object.filter(is_same) else { return context.pool.abandon(&turn) };

    let subject = Subject::new(&object, context);
    let progress = Progress::default();
    subject.memory(|memory| memory.started(&progress));
    let work = Work::of(&subject, progress);
    let progress = work.progress.clone();
    context.pool.start(turn, &progress, move |stop| work.run(stop));
}

/// Everything that a pass needs, owned: the pass outlives the reconcile that submits it.
struct Work {
    context: Arc<Context>,
    object: EcrRepositorySync,
    namespace: String,
    status: Status,
    earlier: Earlier,
    claimant: Claimant,
    mode: Mode,
    deletes: bool,
    progress: Progress,
}

impl Work {
    fn of(subject: &Subject<'_>, progress: Progress) -> Self {
        let status = subject.status();

        Self {
            context: subject.context.clone(),
            object: subject.object.clone(),
            namespace: subject.namespace.clone(),
            earlier: earlier(subject, &status),
            claimant: Claimant::Resource(subject.claim(&status)),
            status,
            mode: if subject.is_dry_run() { Mode::DryRun } else { Mode::Apply },
            deletes: subject.is_being_deleted(),
            progress,
        }
    }

    async fn run(self, stop: CancellationToken) -> Report {
        let report = match self.parsed() {
            Ok(spec) => self.pass(spec, &stop).await,
            Err(violations) => Report::failed(Failure::invalid(&violations)),
        };
        self.context
            .metrics
            .pass_finished(self.object.uid().as_deref().unwrap_or_default(), &report);
        report
    }

    fn parsed(&self) -> Result<Spec, Vec<Violation>> {
        let parse = if self.deletes { spec::parse_for_deletion } else { spec::parse };
        parse(&self.object.name_any(), &self.object.spec)
    }

    async fn pass(&self, spec: Spec, stop: &CancellationToken) -> Report {
        let Context { engine, metrics, .. } = &*self.context;
        let job = self.job(spec).await;
        let _counted = metrics.copies.watch(&job.progress);

        if !self.deletes {
            return tokio::select! {
                report = engine.sync(&job, self.mode, stop) => report,
                never = self.report_progress() => match never {},
            };
        }
        match engine.delete(&job).await {
            Ok(deletion) => Report::deleted(deletion),
            Err(failure) => Report::failed(failure),
        }
    }

    async fn job(&self, spec: Spec) -> Job {
        let admitted = self.admit(&spec).await;
        let (access, mirrored) = match &admitted {
            Ok((identity, permit)) => self.sources(&spec, identity, permit).await,
            Err(failure) => (accesses(Err(failure.clone())), None),
        };

        Job {
            spec,
            identity: admitted.map(|(identity, _)| identity),
            claimant: self.claimant.clone(),
            access,
            mirrored,
            chart_source: self.status.chart.as_ref().map(|chart| chart.source.clone()),
            derived: status::known(&self.status),
            earlier: self.earlier.clone(),
            progress: self.progress.clone(),
        }
    }

    /// Checks that the namespace may use everything that its resource names, before any request is
    /// made for it. Only the operator's own account is asked of STS.
    async fn admit(&self, spec: &Spec) -> Result<(Identity, Permit), Failure> {
        let Context { engine, identities, options, .. } = &*self.context;
        let identity = identities.read(&self.namespace, &spec.registry).await?;

        let mut request = Request::default();
        if options.tenancy.restricts(&self.namespace) {
            let own = engine.own_location().await?;
            let location = engine.resolve_location(&spec.registry.location, &identity);
            request = Request {
                account: location.account,
                own_account: own.account,
                region: location.region,
                own_region: own.region,
                ..Request::of(spec, &identity)
            };
        }

        let permit = options.tenancy.permit(&self.namespace, &request)?;
        drop(request);
        Ok((identity, permit))
    }

    /// The ways to the sources; a deletion reads none.
    async fn sources(
        &self,
        spec: &Spec,
        identity: &Identity,
        permit: &Permit,
    ) -> (Accesses, Option<Mirrored>) {
        if self.deletes {
            return (accesses(Ok(Access::default())), None);
        }

        let mirrors = self.context.options.mirrors.as_ref().map(Reloaded::get).unwrap_or_default();
        let secrets =
            Secrets { context: &self.context, namespace: &self.namespace, identity, permit };
        logins::accesses(&secrets, &mirrors, spec).await
    }

    /// Wakes the reconcile of the running pass, which reports the progress of its copies.
    async fn report_progress(&self) -> Infallible {
        loop {
            // A little longer, so that the report is due.
            tokio::time::sleep(PROGRESS_EVERY + Duration::from_secs(1)).await;
            self.context.wakes.wake([Key::of(&self.object)]);
        }
    }
}

/// The same access for image and chart.
fn accesses(access: Result<Access, Failure>) -> Accesses {
    Accesses { image: access.clone(), chart: access }
}

/// The results of earlier passes, from memory and status.
fn earlier(subject: &Subject<'_>, status: &Status) -> Earlier {
    let drift_interval = subject.drift_interval();
    let basis = subject.basis();
    let repository = subject.object.repository();
    let recorded =
        || status::look(status, subject.generation, repository, &basis, Timestamp::now());
    subject.memory(|memory| Earlier {
        // First, since it starts an inspection if one is due.
        look: memory.look(drift_interval, recorded),
        held: memory.held.clone(),
        inspects: memory.inspects(),
        attempts: memory.attempts.clone(),
        pruning: memory.pruning.as_deref().cloned(),
        configuration: status.configuration.clone(),
        expired: status::earlier_expired(status, subject.generation),
        rebuilt: status::rebuilt(status),
        managed_tag_keys: status.managed_tag_keys.iter().cloned().collect(),
    })
}
