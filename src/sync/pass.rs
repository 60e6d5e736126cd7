//! One pass over one repository, from top to bottom.

use tokio_util::sync::CancellationToken;

use super::action::{Plan, Pruning};
use super::defaults::Documents;
use super::desired::Desired;
use super::engine::{Bounds, Engine};
use super::job::{Job, Mode};
use super::observed::{Configuration, Observed};
use super::ownership::Claimant;
use super::plan;
use super::report::Report;
use super::target::Target;
use super::throttle::retry_throttled;
use crate::class::Class;
use crate::failure::Failure;
use crate::units::period;

/// One pass over the repository of a job.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a Job,
    pub(super) mode: Mode,
    pub(super) target: Target<'a>,
}

/// The result of the steps that write nothing.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
}

impl Engine {
    /// Runs one pass. It never fails as a whole: the report has the failures. It ends early when
    /// `stop` is cancelled. Everything copied so far is kept, and no tag is left that cannot be
    /// pulled.
    pub async fn sync(&self, job: &Job, mode: Mode, stop: &CancellationToken) -> Report {
        let work = async { Pass::new(self, job, mode).await?.run().await };
        let work = self.author(job).writes(work);
        let report = bounded(&self.bounds, job, stop, work).await;
        let report = report.unwrap_or_else(Report::failed);
        Report { outage: self.outage(job), ..report }
    }
}

impl<'a> Pass<'a> {
    /// Opens the registry. Sends no request about the repository.
    pub(super) async fn new(engine: &'a Engine, job: &'a Job, mode: Mode) -> Result<Self, Failure> {
        let registry = engine.registry(job).await?;
        // A dry run shows all changes that would be made, so it always makes a full survey.
        let look = job.earlier.look.as_ref().filter(|_| mode == Mode::Apply);
        let target = Target::new(registry, &job.spec.repository, look);
        Ok(Self { engine, job, mode, target })
    }

    async fn run(&self) -> Result<Report, Failure> {
        let Survey { desired, observed, plan } = Box::pin(self.look()).await?;
        let outcomes = match self.mode {
            Mode::Apply => Some(Box::pin(self.apply(&desired, &observed, &plan)).await),
            Mode::DryRun => None,
        };
        Ok(Report::new(&desired, &observed, &plan, outcomes, &self.job.earlier))
    }

    /// Runs the steps that write nothing.
    pub(super) async fn look(&self) -> Result<Survey, Failure> {
        let (desired, configuration) = self.ask().await?;
        self.job.progress.advance(1);

        let mut survey = match configuration {
            Some(configuration) => self.survey(desired, configuration).await?,
            None => match self.settled(desired).await? {
                Ok(settled) => settled,
                Err(desired) => {
                    let configuration = self.configuration(&desired).await?;
                    self.survey(desired, configuration).await?
                }
            },
        };

        if let Some(remembered) = self.remembered_pruning(&survey.desired, &survey.plan) {
            survey.plan.add_pruning(remembered);
        }
        self.job.progress.advance(1);
        Ok(survey)
    }

    /// Asks the sources for the wanted tags. Without an earlier survey, the configuration is read
    /// at the same time.
    async fn ask(&self) -> Result<(Desired, Option<Option<Configuration>>), Failure> {
        let desired = self.desired();
        // Boxed: futures that run side by side are stored side by side, and a thread's stack is
        // limited.
        let artifacts = Box::pin(self.artifacts());

        let (artifacts, configuration) = if self.target.was_surveyed() {
            (artifacts.await?, None)
        } else {
            let configuration = Box::pin(self.configuration(&desired));
            let (artifacts, configuration) = tokio::try_join!(artifacts, configuration)?;
            (artifacts, Some(configuration))
        };
        Ok((desired.with(artifacts), configuration))
    }

    /// Takes a quick look. Returns the result if nothing is to be done, and `desired` otherwise.
    async fn settled(&self, desired: Desired) -> Result<Result<Survey, Desired>, Failure> {
        let observed = match self.quick_look(&desired).await {
            // The full survey retries throttled calls.
            Err(failure) if failure.class == Class::RateLimited => None,
            result => result?,
        };
        let Some(observed) = observed else { return Ok(Err(desired)) };

        let desired = observed.with_defaults(desired);
        let observed = self.count_expired(&desired, observed);
        let plan = self.plan(&desired, &observed)?;

        let is_settled = plan.is_settled();
        let survey = Survey { desired, observed, plan };
        Ok(if is_settled { Ok(survey) } else { Err(survey.desired) })
    }

    /// Reads everything and plans. This comes before every write, since the repository may belong
    /// to somebody else by now.
    async fn survey(
        &self,
        desired: Desired,
        configuration: Option<Configuration>,
    ) -> Result<Survey, Failure> {
        let observed = self.observe(&desired, configuration).await?;
        let mut desired = observed.with_defaults(desired);
        let mut observed = self.with_expired(&desired, observed).await?;
        let mut plan = self.plan(&desired, &observed)?;

        if let Some(repository) = &mut observed.repository
            && !self.needs_resource_tags(&desired)
            && !plan.is_settled()
        {
            let registry = &self.target.registry;
            let read = || registry.resource_tags(&repository.repository);
            repository.resource_tags = retry_throttled(read).await?;
            plan = self.plan(&desired, &observed)?;
        }

        if self.mode == Mode::DryRun {
            self.compare_charts(&mut desired, &observed, &mut plan).await;
        }
        if self.prunes() {
            let pruning = Box::pin(self.prunable(&desired, &observed, &plan)).await;
            plan.add_pruning(pruning.unwrap_or_else(Pruning::from));
        }
        Ok(Survey { desired, observed, plan })
    }

    fn plan(&self, desired: &Desired, observed: &Observed) -> Result<Plan, Failure> {
        plan::plan(desired, observed, &self.job.claimant, &self.job.earlier)
    }

    /// Whether resource tags are read together with the rest. A run from the command line that sets
    /// none needs the owner tag only if it writes, and reads it then.
    pub(super) fn needs_resource_tags(&self, desired: &Desired) -> bool {
        let Job { spec, claimant, .. } = self.job;
        matches!(claimant, Claimant::Resource(_))
            || !spec.copies()
            || desired.prunes
            || !desired.resource_tags.is_empty()
            || desired.defaults != Documents::default()
    }
}

/// Runs the work until it is cancelled or makes no progress.
pub(super) async fn bounded<T>(
    bounds: &Bounds,
    job: &Job,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let max = bounds.max_timeout.filter(|max| *max < job.spec.timeout);
    let timeout = max.unwrap_or(job.spec.timeout);
    // One allocation per pass keeps the future of a pass out of the types of its callers, which rustc
    // can otherwise not lay out in a release build.
    let work = Box::pin(work);
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failure::cancelled()),
        result = work => result,
        never = job.progress.log(&job.spec.repository) => match never {},
        () = job.progress.stalled(timeout) => Err(Failure::new(
            Class::Timeout,
            format!(
                "gave up after {} without progress ({}); everything copied so far is kept",
                period(timeout),
                if max.is_some() {
                    "the operator's --max-timeout, which is shorter than spec.timeout"
                } else {
                    "spec.timeout"
                }
            ),
        )),
    }
}
