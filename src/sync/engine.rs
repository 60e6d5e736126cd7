//! The state that all passes of a process share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::copy::Blobs;
use super::defaults::Defaults;
use super::job::Job;
use super::ownership::{Claim, Claimant, OwnerLookup};
use super::prune::cache::Cache as PruneCache;
use crate::bounded::Cache;
use crate::class::Class;
use crate::ecr;
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::helm;
use crate::registry::{self, Egress, Transport};
use crate::writes::{Author, Rights};

/// Room for some thousand ways with known limits and quotas. Rotated passwords leave old entries
/// behind, and the next response gives limits and quota again.
const WAYS_BYTES: usize = 2 * 1024 * 1024;
/// Room for a hundred connections with certificates of their own.
pub(super) const TRANSPORTS_BYTES: usize = 32 * 1024 * 1024;
/// Rotated certificates leave connections behind that nobody uses again. Idle connections are closed
/// after 50 s anyway, so that a transport which is made again saves nothing but the parsing of
/// certificates.
const IDLE_TRANSPORT: Duration = Duration::from_secs(300);

/// Selections that run at the same time, so that other work keeps most of the processor.
const SELECTIONS: usize = 2;

/// The state that all passes of a process share.
#[derive(Debug)]
pub struct Engine {
    pub(super) aws: ecr::Session,
    /// Connections to mirrors, at any address.
    pub(super) to_mirrors: Transport,
    /// Connections of resources that describe none of their own, if not made by `egress`.
    pub(super) to_sources: Option<Transport>,
    /// The rules for connections of resources.
    pub(super) egress: Arc<Egress>,
    /// Connections of resources by their options. Most sources share the default options.
    pub(super) transports: Mutex<Cache<Fingerprint, Transport>>,
    /// Limits of each way to each source host, for all passes together. Another login or proxy has
    /// limits of its own: what a tenant's proxy answers must not stop the others.
    pub(super) limits: Mutex<Cache<Fingerprint, Arc<registry::Limits>>>,
    /// Remaining pulls of each way to each source host.
    pub(super) quotas: Mutex<Cache<Fingerprint, Arc<registry::Quota>>>,
    pub(super) indexes: Arc<helm::Indexes>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) owners: Option<Arc<dyn OwnerLookup>>,
    pub(super) bounds: Bounds,
    pub(super) defaults: Arc<Defaults>,
    pub(super) prune_cache: PruneCache,
    pub(super) rights: Rights,
    /// One permit for each selection that runs.
    selections: Semaphore,
}

/// Bounds of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most tags of one artifact after selection.
    pub max_tags: usize,
    /// The longest time without progress, whatever the spec says.
    pub max_timeout: Option<Duration>,
    /// Pulls that are reserved for others, at sources that report the remaining pulls.
    pub reserve: registry::Reserve,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_tags: 500, max_timeout: None, reserve: registry::Reserve::default() }
    }
}

impl Engine {
    /// Creates an engine that uses one AWS identity. `transport` connects to the mirrors,
    /// `egress` has the rules for the sources that resources name. Without `owners`, the owner of each
    /// repository is assumed to exist.
    #[must_use]
    pub fn new(
        aws: ecr::Session,
        transport: Transport,
        egress: impl Into<Arc<Egress>>,
        owners: Option<Arc<dyn OwnerLookup>>,
        bounds: Bounds,
    ) -> Self {
        // A sixth of the memory budget: a third of what results may use.
        let indexes = helm::MOST_OF_INDEXES.min(transport.budget().total() / 6);
        Self {
            aws,
            to_mirrors: transport,
            to_sources: None,
            egress: egress.into(),
            transports: Mutex::new(Cache::new(TRANSPORTS_BYTES).without_idle(IDLE_TRANSPORT)),
            limits: Mutex::new(Cache::with_use(WAYS_BYTES, |limits| Arc::strong_count(limits) > 1)),
            quotas: Mutex::new(Cache::with_use(WAYS_BYTES, |quota| Arc::strong_count(quota) > 1)),
            indexes: Arc::new(helm::Indexes::new(indexes)),
            blobs: Arc::default(),
            owners,
            bounds,
            defaults: Arc::default(),
            prune_cache: PruneCache::default(),
            rights: Rights::default(),
            selections: Semaphore::new(SELECTIONS),
        }
    }

    /// Sets the connections to the sources of resources that describe no connection of their own.
    #[must_use]
    pub fn with_sources(self, transport: Transport) -> Self {
        Self { to_sources: Some(transport), ..self }
    }

    /// Sets the defaults for policies and resource tags.
    #[must_use]
    pub fn with_defaults(self, defaults: impl Into<Arc<Defaults>>) -> Self {
        Self { defaults: defaults.into(), ..self }
    }

    /// Sets the rights to write; by default the process always has them.
    pub(crate) fn with_rights(self, rights: Rights) -> Self {
        Self { rights, ..self }
    }

    /// Returns the author of what a job writes.
    pub(super) fn author(&self, job: &Job) -> Author {
        let (resource, generation) = match &job.claimant {
            Claimant::Resource(Claim { owner, generation, .. }) => {
                (format!("{}/{}", owner.namespace, owner.name), Some(*generation))
            }
            Claimant::CommandLine { .. } => ("command line".to_owned(), None),
        };
        Author {
            resource,
            generation,
            repository: job.spec.repository.clone(),
            leadership: self.rights.of(&job.spec.repository),
        }
    }

    /// Runs a selection on a thread that may block: 50 patterns over a list of 250,000 tags take
    /// seconds, and everybody else waits for the threads that serve the network.
    ///
    /// # Errors
    /// When the work panics.
    pub(super) async fn select<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = self.selections.acquire().await;
        let result = tokio::task::spawn_blocking(work).await;
        drop(permit);
        result.map_err(|error| {
            let message = format!("the selection of tags was interrupted: {error}");
            Failure::new(Class::Internal, message)
        })
    }

    /// Opens the registry of a job.
    ///
    /// # Errors
    /// When account or region are not known, or the identity cannot be assumed.
    pub(super) async fn registry(&self, job: &Job) -> Result<Arc<ecr::Registry>, Failure> {
        let identity = job.identity.as_ref().map_err(Clone::clone)?;
        Ok(self.aws.registry(&job.spec.registry.location, identity).await?)
    }

    /// Returns the operator's own account and region.
    ///
    /// # Errors
    /// As STS answers.
    pub async fn own_location(&self) -> Result<ecr::Location, Failure> {
        let account = self.aws.own_account(None).await?;
        let own = self.aws.resolve_location(&ecr::Location::default(), &ecr::Identity::default());
        Ok(ecr::Location { account: own.account.or(Some(account)), region: own.region })
    }

    /// Checks that AWS accepts the own identity of this process: once, until AWS refuses it.
    /// `region` is asked if the configuration has none.
    ///
    /// # Errors
    /// As [`ecr::Session::own_account`].
    pub async fn check_identity(&self, region: Option<&str>) -> Result<(), ecr::Error> {
        self.aws.own_account(region).await.map(drop)
    }

    /// Returns the standing of this process with AWS, as it changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<ecr::Standing> {
        self.aws.standing()
    }

    /// Fills in the account and region that a spec omits, as far as they are known.
    #[must_use]
    pub fn resolve_location(
        &self,
        location: &ecr::Location,
        identity: &ecr::Identity,
    ) -> ecr::Location {
        self.aws.resolve_location(location, identity)
    }
}
