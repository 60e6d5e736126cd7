//! What all passes of a process share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::copy::Blobs;
use super::defaults::Defaults;
use super::job::{EcrLogin, Job};
use super::ownership::OwnerLookup;
use super::prune::cache::Cache;
use crate::bounded::BoundedMap;
use crate::ecr;
use crate::failure::Failure;
use crate::helm;
use crate::registry::{self, Credential, Transport, TransportOptions};

/// Bytes of chart indexes that are held for the next pass: some of the largest that exist.
const MOST_INDEX_BYTES: usize = 64 * 1024 * 1024;

/// The number of pull quotas that are kept: rotated passwords leave old entries behind, and a removed
/// quota is read again from the next answer.
const MAX_QUOTAS: usize = 1024;

/// Whom a source host takes us for.
pub(super) type Login = (Credential, Option<EcrLogin>);

/// What all passes of a process share.
#[derive(Debug)]
pub struct Engine {
    pub(super) aws: ecr::Session,
    /// Connections by how they are made; most sources share the default.
    pub(super) transports: Mutex<HashMap<TransportOptions, Transport>>,
    /// What is asked of each source host at a time, by all passes together.
    pub(super) hosts: Mutex<HashMap<String, Arc<registry::Limits>>>,
    /// What each login may still pull from each source host.
    pub(super) quotas: Mutex<BoundedMap<(String, Login), Arc<registry::Quota>, MAX_QUOTAS>>,
    pub(super) indexes: Arc<helm::Indexes>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) owners: Option<Arc<dyn OwnerLookup>>,
    pub(super) bounds: Bounds,
    pub(super) defaults: Arc<Defaults>,
    pub(super) prune_cache: Cache,
}

/// Bounds of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Tags that one artifact may have after selection.
    pub max_tags: usize,
    /// Pulls that are left to others, where a source says how many there are.
    pub reserve: registry::Reserve,
}

impl Default for Bounds {
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
        bounds: Bounds,
    ) -> Self {
        let transports = Mutex::new(HashMap::from([(TransportOptions::default(), transport)]));
        let indexes = Arc::new(helm::Indexes::new(MOST_INDEX_BYTES));
        let (hosts, quotas) = (Mutex::default(), Mutex::default());
        let (blobs, defaults, prune_cache) = (Arc::default(), Arc::default(), Cache::default());
        Self {
            aws,
            transports,
            hosts,
            quotas,
            indexes,
            blobs,
            owners,
            bounds,
            defaults,
            prune_cache,
        }
    }

    /// The same engine with these defaults.
    #[must_use]
    pub fn with_defaults(self, defaults: impl Into<Arc<Defaults>>) -> Self {
        Self { defaults: defaults.into(), ..self }
    }

    /// The registry that a job means.
    ///
    /// # Errors
    /// When account or region cannot be told, or the identity cannot be taken on.
    pub(super) async fn registry(&self, job: &Job) -> Result<Arc<ecr::Registry>, Failure> {
        let location = &job.spec.registry.location;
        Ok(self.aws.registry(location, job.identity.as_ref().map_err(Clone::clone)?).await?)
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
}
