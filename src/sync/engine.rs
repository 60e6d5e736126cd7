//! The state that all passes of a process share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::copy::Blobs;
use super::defaults::Defaults;
use super::job::{Job, Way};
use super::ownership::OwnerLookup;
use super::prune::cache::Cache;
use crate::bounded::BoundedMap;
use crate::class::Class;
use crate::ecr;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{self, Transport, TransportOptions};

/// Logins with a known quota. Rotated passwords leave old entries behind, and the next response
/// gives the quota again.
const MAX_QUOTAS: usize = 1024;

/// Selections that run at the same time, so that other work keeps most of the processor.
const SELECTIONS: usize = 2;

/// The state that all passes of a process share.
#[derive(Debug)]
pub struct Engine {
    pub(super) aws: ecr::Session,
    /// The operator's connections, which carry its logins.
    pub(super) operator: Transport,
    /// Connections of resources by their options. Most sources share the default options.
    pub(super) transports: Mutex<HashMap<TransportOptions, Transport>>,
    /// Limits of each source host, for all passes together.
    pub(super) hosts: Mutex<HashMap<String, Arc<registry::Limits>>>,
    /// Remaining pulls of each login at each source host.
    pub(super) quotas: Mutex<BoundedMap<(String, Way), Arc<registry::Quota>, MAX_QUOTAS>>,
    pub(super) indexes: Arc<helm::Indexes>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) owners: Option<Arc<dyn OwnerLookup>>,
    pub(super) bounds: Bounds,
    pub(super) defaults: Arc<Defaults>,
    pub(super) prune_cache: Cache,
    /// One permit for each selection that runs.
    selections: Semaphore,
}

/// Bounds of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most tags of one artifact after selection.
    pub max_tags: usize,
    /// Pulls that are reserved for others, at sources that report the remaining pulls.
    pub reserve: registry::Reserve,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_tags: 500, reserve: registry::Reserve::default() }
    }
}

impl Engine {
    /// Creates an engine that uses one AWS identity. Without `owners`, the owner of each repository
    /// is assumed to exist.
    #[must_use]
    pub fn new(
        aws: ecr::Session,
        transport: Transport,
        owners: Option<Arc<dyn OwnerLookup>>,
        bounds: Bounds,
    ) -> Self {
        Self {
            aws,
            transports: Mutex::new(HashMap::from([(
                TransportOptions::default(),
                transport.clone(),
            )])),
            operator: transport,
            hosts: Mutex::default(),
            quotas: Mutex::default(),
            indexes: Arc::default(),
            blobs: Arc::default(),
            owners,
            bounds,
            defaults: Arc::default(),
            prune_cache: Cache::default(),
            selections: Semaphore::new(SELECTIONS),
        }
    }

    /// Sets the defaults for policies and resource tags.
    #[must_use]
    pub fn with_defaults(self, defaults: impl Into<Arc<Defaults>>) -> Self {
        Self { defaults: defaults.into(), ..self }
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
        let account = self.aws.own_account().await?.to_owned();
        let own = self.aws.resolve_location(&ecr::Location::default(), &ecr::Identity::default());
        Ok(ecr::Location { account: own.account.or(Some(account)), region: own.region })
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
