//! The engine: one pass over one repository, for the controller and for the command line alike.
//!
//! ```text
//! resolve   spec  -> Desired     which source tags are wanted now, with digests      (reads the source, and which tags ECR lacks)
//! observe   spec  -> Observed    repository, policies, resource tags, tag -> digest  (reads ECR; never pulls)
//! plan      Desired x Observed -> Plan, a list of actions                            (pure)
//! apply     Plan  -> Outcomes    one outcome per action                              (writes ECR, copies)
//! report    Outcomes -> Report   what status, events, metrics and the terminal show  (writes nothing)
//! ```

mod apply;
mod before;
mod charts;
mod compare;
mod configuration;
mod copy;
pub mod defaults;
mod delete;
mod glance;
mod hollow;
mod observe;
mod origin;
mod ownership;
mod patience;
mod plan;
mod preview;
mod progress;
mod prune;
mod referrers;
mod report;
mod resolve;
mod target;
mod vanished;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::class::Class;
use crate::ecr;
use crate::helm;
use crate::registry::{self, Credential, Tag, Transport, TransportOptions};
use target::Target;

pub use crate::failure::Failure;
pub use before::Before;
pub use configuration::{Attempt, Attempts};
pub use defaults::{DefaultFiles, Defaults};
pub use delete::Deletion;
pub use glance::Look;
pub use observe::{Observed, ObservedRepository};
pub use origin::{Origin, Rebuilt};
pub use ownership::{Claim, Claimant, Kept, OwnerRules};
pub use plan::{Action, Drift, Plan, plan};
pub use preview::{Load, Preview};
pub use progress::{Part, Progress, Standing, Step, Witness};
pub use prune::Pruning;
pub use referrers::ReferrersReport;
pub use report::{ArtifactReport, Report, TagState};
pub use resolve::{
    ArtifactKind, Derived, Desired, DesiredArtifact, Mirrored, Source, SourceContent, SourceTag,
    WantedTag,
};
pub use vanished::{Held, Vanished};

/// Bytes of chart indexes that are held for the next pass: some of the largest that exist.
const MOST_INDEX_BYTES: usize = 64 * 1024 * 1024;

/// One repository to sync.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the resource or of the entry in a file; the repository's name where the spec has
    /// none.
    pub name: String,
    /// What is wanted.
    pub spec: EcrRepositorySyncSpec,
    /// On whose behalf.
    pub claimant: Claimant,
    /// Under which identity ECR is used.
    pub identity: Result<ecr::Identity, Failure>,
    /// How to reach the sources.
    pub access: Accesses,
    /// Where the image is read from instead, if it has a mirror.
    pub mirrored: Option<Mirrored>,
    /// Where the chart was read from last time, as the report named it: tried first.
    pub chart_source: Option<String>,
    /// What earlier passes made of chart archives.
    pub derived: BTreeMap<Tag, Derived>,
    /// What earlier passes left behind.
    pub before: Before,
    /// The longest time without progress.
    pub timeout: Duration,
    /// Told of every step and byte.
    pub progress: Progress,
}

/// How to reach the sources, or why one cannot be reached: then the rest is still done.
#[derive(Clone, Debug)]
pub struct Accesses {
    /// The image's.
    pub image: Result<Access, Failure>,
    /// The chart's.
    pub chart: Result<Access, Failure>,
}

/// How to reach a source.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The login.
    pub credential: Credential,
    /// The ECR registry that it is, and who reads it; then `credential` is not used.
    pub ecr: Option<EcrLogin>,
    /// Certificates and proxy.
    pub transport: TransportOptions,
    /// Hosts that the index of a chart repository may point to; all where it is not said.
    pub hosts: Option<Arc<registry::AllowedHosts>>,
}

/// Whom a source host takes us for.
type Login = (Credential, Option<EcrLogin>);

/// Who reads an ECR registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EcrLogin {
    /// Which one.
    pub registry: EcrSource,
    /// Under which identity.
    pub identity: ecr::Identity,
}

/// An ECR registry that is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EcrSource {
    /// One of an account.
    Private(ecr::Location),
    /// public.ecr.aws, which can be read without a login too.
    Public,
}

impl EcrLogin {
    /// For a source that is a private ECR registry.
    #[must_use]
    pub fn of(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        let ecr::Host { account, region } = ecr::Host::parse(&reference.host)?;
        let location = ecr::Location { account: Some(account), region: Some(region) };
        Some(Self { registry: EcrSource::Private(location), identity })
    }

    /// For a source that is ECR's public registry.
    #[must_use]
    pub fn public(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        ecr::is_public(&reference.host).then_some(Self { registry: EcrSource::Public, identity })
    }
}

impl Job {
    /// How the place is reached that an artifact is read from.
    fn access_of(&self, artifact: &DesiredArtifact) -> &Result<Access, Failure> {
        match (artifact.kind, &self.mirrored) {
            (ArtifactKind::Chart, _) => &self.access.chart,
            (ArtifactKind::Image, Some(mirrored)) if artifact.is_mirrored() => &mirrored.access,
            (ArtifactKind::Image, _) => &self.access.image,
        }
    }

    /// The name of the ECR repository.
    #[must_use]
    pub fn repository_name(&self) -> &str {
        self.spec.repository(&self.name)
    }
}

/// Whether a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Carries the plan out.
    Apply,
    /// Stops after the plan.
    DryRun,
}

/// Tells whether the resource that an owner tag names still exists.
#[async_trait]
pub trait OwnerLookup: Send + Sync + std::fmt::Debug {
    /// Whether `owner`, a resource of another name than the one asking, is known to be gone, or to
    /// want another repository than `repository` by now.
    async fn is_gone(&self, owner: &ecr::Owner, repository: &str) -> bool;
}

/// What all passes of a process share.
#[derive(Debug)]
pub struct Engine {
    aws: ecr::Session,
    /// Connections by how they are made; most sources share the default.
    transports: Mutex<HashMap<TransportOptions, Transport>>,
    /// What is asked of each source host at a time, by all passes together.
    hosts: Mutex<HashMap<String, Arc<registry::Limits>>>,
    /// What each login may still pull from each source host.
    quotas: Mutex<HashMap<(String, Login), Arc<registry::Quota>>>,
    indexes: Arc<helm::Indexes>,
    blobs: Arc<copy::Blobs>,
    owners: Option<Arc<dyn OwnerLookup>>,
    limits: Limits,
    defaults: Arc<Defaults>,
    prune: prune::Known,
}

/// Bounds of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tags that one artifact may have after selection.
    pub max_tags: usize,
    /// Pulls that are left to others, where a source says how many there are.
    pub reserve: registry::Reserve,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_tags: 500, reserve: registry::Reserve::default() }
    }
}

impl Engine {
    /// An engine under one AWS identity. Without `owners` every owner is taken to be alive.
    #[must_use]
    pub fn new(
        aws: ecr::Session,
        transport: Transport,
        owners: Option<Arc<dyn OwnerLookup>>,
        limits: Limits,
    ) -> Self {
        let transports = Mutex::new(HashMap::from([(TransportOptions::default(), transport)]));
        let indexes = Arc::new(helm::Indexes::new(MOST_INDEX_BYTES));
        let (hosts, quotas) = (Mutex::default(), Mutex::default());
        let (blobs, defaults, prune) = (Arc::default(), Arc::default(), prune::Known::default());
        Self { aws, transports, hosts, quotas, indexes, blobs, owners, limits, defaults, prune }
    }

    /// The same engine with these defaults.
    #[must_use]
    pub fn with_defaults(self, defaults: impl Into<Arc<Defaults>>) -> Self {
        Self { defaults: defaults.into(), ..self }
    }

    /// The limits of a source host.
    fn host_limits(&self, host: &str) -> Arc<registry::Limits> {
        self.hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(host.to_owned())
            .or_default()
            .clone()
    }

    /// What the login of `access` may still pull from a source host.
    fn quota(&self, host: &str, access: &Access) -> Arc<registry::Quota> {
        /// Rotated passwords leave old entries behind; what is forgotten is told again with the
        /// next answer.
        const MOST_KEPT: usize = 1024;
        let key = (host.to_owned(), (access.credential.clone(), access.ecr.clone()));
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if quotas.len() >= MOST_KEPT && !quotas.contains_key(&key) {
            quotas.clear();
        }
        quotas
            .entry(key)
            .or_insert_with(|| Arc::new(registry::Quota::new(self.limits.reserve)))
            .clone()
    }

    /// The connections for these options.
    fn transport(&self, options: &TransportOptions) -> Result<Transport, crate::registry::Error> {
        /// Rotated certificates leave old entries behind; more than this many live ones are unheard
        /// of.
        const MOST_KEPT: usize = 256;
        let mut transports = self.transports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = transports.get(options) {
            return Ok(transport.clone());
        }
        let transport = Transport::new(options)?.metered(self.aws.meter());
        if transports.len() >= MOST_KEPT {
            transports.retain(|options, _| *options == TransportOptions::default());
        }
        transports.insert(options.clone(), transport.clone());
        Ok(transport)
    }

    /// The registry that a job means.
    ///
    /// # Errors
    /// When account or region cannot be told, or the identity cannot be taken on.
    async fn registry(&self, job: &Job) -> Result<Arc<ecr::Registry>, Failure> {
        let registry = job.spec.registry.clone().unwrap_or_default();
        let location = ecr::Location { account: registry.account_id, region: registry.region };
        Ok(self.aws.registry(&location, job.identity.as_ref().map_err(Clone::clone)?).await?)
    }

    /// The operator's own account and region.
    ///
    /// # Errors
    /// As STS answers.
    pub async fn own_location(&self) -> Result<ecr::Location, Failure> {
        let account = self.aws.own_account().await?.to_owned();
        let own = self.aws.resolve_location(&ecr::Location::default(), &ecr::Identity::default());
        Ok(ecr::Location { account: own.account.or(Some(account)), region: own.region })
    }

    /// Fills in what a spec leaves out of account and region, as far as it is known.
    #[must_use]
    pub fn resolve_location(
        &self,
        location: &ecr::Location,
        identity: &ecr::Identity,
    ) -> ecr::Location {
        self.aws.resolve_location(location, identity)
    }

    /// One pass. Never fails as a whole: what went wrong is in the report. Ends early, with what
    /// was done so far, when `stop` is cancelled; at no point does that leave a tag that cannot be
    /// pulled.
    pub async fn sync(&self, job: &Job, mode: Mode, stop: &CancellationToken) -> Report {
        bounded(job, stop, self.pass(job, mode)).await.unwrap_or_else(Report::failed)
    }

    async fn pass(&self, job: &Job, mode: Mode) -> Result<Report, Failure> {
        let Sight { registry, desired, observed, plan } = Box::pin(self.look(job, mode)).await?;
        let outcomes = match mode {
            Mode::Apply => Some(
                Box::pin(self.apply(&registry, &desired, &observed, &plan, &job.progress)).await,
            ),
            Mode::DryRun => None,
        };
        Ok(Report::new(&desired, &observed, &plan, outcomes, &job.before))
    }

    /// The steps that write nothing.
    async fn look(&self, job: &Job, mode: Mode) -> Result<Sight, Failure> {
        if let Err(failure) = &job.identity {
            return Err(failure.clone());
        }
        resolve::check(job)?;
        let registry = self.registry(job).await?;
        let target = Target::new(
            &registry,
            job.repository_name(),
            job.before.look.as_ref().filter(|_| mode == Mode::Apply),
        );
        let desired = self.desired(job);
        // Without an earlier look, all is read: the configuration beside the sources. A dry run
        // shows all that would be done. Boxed: what runs side by side takes its place side by side,
        // and a thread's stack is not endless.
        let with_tags = needs_resource_tags(job, &desired);
        let artifacts = Box::pin(self.artifacts(job, &target, mode));
        let (artifacts, configuration) = if target.was_seen() {
            (artifacts.await?, None)
        } else {
            let (artifacts, configuration) = tokio::try_join!(
                artifacts,
                Box::pin(self.configuration(&target, &desired, with_tags))
            )?;
            (artifacts, Some(configuration))
        };
        let mut desired = desired.with(job, artifacts);
        job.progress.advance(1);
        let brief = match &configuration {
            Some(_) => None,
            None => match self.glance(&target, job, &mut desired).await {
                // The long look is the patient one.
                Err(failure) if failure.class == Class::RateLimited => None,
                result => result?,
            },
        };
        let brief = match brief {
            Some(observed) => {
                let plan = plan(&desired, &observed, &job.claimant, &job.before)?;
                plan.is_settled().then_some((observed, plan))
            }
            None => None,
        };
        let (observed, mut plan) = match brief {
            Some(settled) => settled,
            // Before anything is written, everything is read: it may be somebody else's by now.
            None => {
                let configuration = match configuration {
                    Some(read) => read,
                    None => self.configuration(&target, &desired, with_tags).await?,
                };
                let prunes = prune::prunes(job, mode);
                let inspects = job.before.inspects || prunes;
                let mut observed =
                    self.observe(&target, job, &mut desired, configuration, inspects).await?;
                let mut plan = plan::plan(&desired, &observed, &job.claimant, &job.before)?;
                if let Some(there) =
                    observed.repository.as_mut().filter(|_| !with_tags && !plan.is_settled())
                {
                    there.resource_tags = patience::patiently(|| async {
                        Ok(registry.resource_tags(&there.repository).await?)
                    })
                    .await?;
                    plan = plan::plan(&desired, &observed, &job.claimant, &job.before)?;
                }
                if mode == Mode::DryRun {
                    compare::charts(&mut desired, &observed, &mut plan, &job.progress).await;
                }
                if prunes {
                    let pruning =
                        Box::pin(self.prunable(&target, job, (&desired, &observed, &plan))).await;
                    plan.take_pruning(pruning);
                }
                (observed, plan)
            }
        };
        if let Some(before) =
            job.before.pruning.as_ref().filter(|_| desired.prunes && plan.pruning.is_none())
        {
            plan.take_pruning(before.remembered(&desired, mode));
        }
        job.progress.advance(1);
        Ok(Sight { registry, desired, observed, plan })
    }
}

/// Whether resource tags are read along with the rest: of a run from the command line that sets
/// none and finds all in order, nobody asks whose the repository is. Where it is to write, they are
/// read before; where it may remove something, always.
fn needs_resource_tags(job: &Job, desired: &Desired) -> bool {
    let copies = job.spec.image.is_some() || job.spec.chart.is_some();
    let is_resource = matches!(job.claimant, Claimant::Resource(_));
    is_resource
        || !copies
        || desired.prunes
        || !desired.resource_tags.is_empty()
        || desired.defaults != defaults::Documents::default()
}

/// What the steps that write nothing come to.
struct Sight {
    registry: Arc<ecr::Registry>,
    desired: Desired,
    observed: Observed,
    plan: Plan,
}

/// The work, unless it is no longer wanted or makes no progress.
async fn bounded<T>(
    job: &Job,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failure::cancelled()),
        result = work => result,
        never = job.progress.log(job.repository_name()) => match never {},
        () = job.progress.stalled(job.timeout) => Err(Failure::new(
            Class::Timeout,
            format!("no progress for {}s (spec.timeout): given up; what was copied stays", job.timeout.as_secs()),
        )),
    }
}
