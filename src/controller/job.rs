//! The job of one pass: made of the resource, its memory and its status, and run in the pool.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::controller::Action;
use kube_runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::offset_in;
use super::context::Context;
use super::error::Error;
use super::memory::PROGRESS_EVERY;
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

/// Submits a job if one is due.
pub(super) async fn start(subject: &Subject<'_>) -> Result<Action, Error> {
    let current = subject.status();
    let ready = conditions::find(&current.conditions, condition::READY);
    let is_new = ready.is_none_or(|ready| ready.observed_generation != Some(subject.generation));
    let is_ready = ready.is_some_and(|ready| ready.status == "True");

    let now = Instant::now();
    // After a restart every resource is due at once; the resources that are ready can wait.
    let wait = if is_new || !is_ready {
        Duration::ZERO
    } else {
        let spread = subject.interval().min(subject.context.options.startup_spread);
        offset_in(spread, &subject.uid)
    };
    let due = subject.memory(|memory| *memory.due.get_or_insert(now + wait));
    if now < due {
        subject.schedule(Next::after(due - now));
        return Ok(Action::requeue(due - now));
    }
    subject.schedule(Next::Now);

    if is_new && !subject.is_being_deleted() {
        let progressing = status::progressing(&current, subject.generation, Timestamp::now());
        publish::patch(subject, &current, progressing).await?;
    }
    let progress = Progress::default();
    let is_retry = subject.memory(|memory| {
        memory.started(&progress);
        memory.failures > 0
    });

    let ticket = subject.context.metrics.queue.add(is_retry);
    let work = Work::of(subject, progress);
    subject.context.pool.submit(
        ObjectRef::from_obj(subject.object),
        &subject.uid,
        subject.generation,
        ticket,
        move |stop| work.run(stop),
    );
    Ok(Action::await_change())
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
            self.context.wake([ObjectRef::from_obj(&self.object)]);
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
    subject.memory(|memory| Earlier {
        // First, since it starts an inspection if one is due.
        look: memory.look(drift_interval),
        held: memory.held.clone(),
        inspects: memory.inspects(),
        attempts: memory.attempts.clone(),
        pruning: memory.pruning.clone(),
        configuration: status.configuration.clone(),
        expired: status::earlier_expired(status, subject.generation),
        rebuilt: status::rebuilt(status),
        managed_tag_keys: status.managed_tag_keys.iter().cloned().collect(),
    })
}
