//! State that the servers of one stand-in share.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

use super::deny::{self, Denials};
use super::errors::{Error, Result};
use super::iam::Iam;
use super::limits::Limits;
use super::public::Public;
use super::sigv4::Caller;
use super::state::State;
use super::store::{Quotas, Repository};
use super::token::Tokens;
use super::{control, data, policy};
use crate::traffic::{Faults, Log, serve};

/// Options of a stand-in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether blob reads answer 307 to the object store, as ECR does. Default true.
    pub redirect_blobs: bool,
    /// Images that a repository may hold. Default 100,000, ECR's quota.
    pub max_images: usize,
    /// Tags that an image may have. Default 1,000, ECR's quota.
    pub max_tags_per_image: usize,
    /// Whether the bytes of layers and configs sent to `/v2/` are kept. Otherwise they are only
    /// hashed and counted, which allows layers of any size, but reading one is an error. Default
    /// true.
    pub keep_blobs: bool,
    /// Whether manifests are refused whose blobs or children are missing, as ECR does. Default
    /// true.
    pub checks_references: bool,
    /// Address of the control plane. Default any free port of 127.0.0.1.
    pub control: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            redirect_blobs: true,
            keep_blobs: true,
            checks_references: true,
            max_images: 100_000,
            max_tags_per_image: 1_000,
            control,
        }
    }
}

/// State, traffic and addresses of one stand-in.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) faults: Faults,
    pub(crate) tokens: Tokens,
    pub(crate) public: Public,
    pub(crate) limits: Limits,
    pub(crate) denials: Denials,
    pub(crate) iam: Iam,
    state: Mutex<State>,
    latency: Mutex<Duration>,
    /// Absent if the stand-in answers in this process, under the host names of AWS.
    handle: Option<Handle>,
    /// (control plane, object store), known once both listen.
    addresses: OnceLock<(SocketAddr, SocketAddr)>,
    registries: Mutex<HashMap<(String, String), SocketAddr>>,
}

impl Shared {
    /// Returns the state of a stand-in without servers.
    pub(crate) fn in_process(config: Config) -> Arc<Self> {
        Arc::new(Self::new(config, None))
    }

    pub(crate) fn start(config: Config, handle: &Handle) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Self::new(config, Some(handle.clone())));
        let control = serve(
            handle,
            shared.config.control,
            control::router(Arc::clone(&shared)),
            &shared.log,
        )?;
        let storage =
            serve(handle, any_port(), data::storage_router(Arc::clone(&shared)), &shared.log)?;
        shared.addresses.get_or_init(|| (control, storage));
        Ok(shared)
    }

    fn new(config: Config, handle: Option<Handle>) -> Self {
        Self {
            config,
            log: Log::default(),
            faults: Faults::default(),
            tokens: Tokens::new(),
            public: Public::new(),
            limits: Limits::default(),
            denials: Denials::default(),
            iam: Iam::default(),
            state: Mutex::default(),
            latency: Mutex::default(),
            handle,
            addresses: OnceLock::new(),
            registries: Mutex::default(),
        }
    }

    pub(crate) fn control_address(&self) -> SocketAddr {
        self.addresses.get().map_or_else(any_port, |addresses| addresses.0)
    }

    /// The host of the object store of a region.
    ///
    /// For servers it is `localhost`: clients drop a credential when the host changes, and many of
    /// them do not regard another port as a change.
    pub(crate) fn storage_host(&self, region: &str) -> String {
        match self.addresses.get() {
            Some((_, storage)) => format!("localhost:{}", storage.port()),
            None => format!("prod-{region}-starport-layer-bucket.s3.{region}.amazonaws.com"),
        }
    }

    /// `127.0.0.1:PORT` of a registry, opened when first named; AWS's host name without servers.
    pub(crate) fn registry(self: &Arc<Self>, account: &str, region: &str) -> io::Result<String> {
        let Some(handle) = &self.handle else {
            return Ok(format!("{account}.dkr.ecr.{region}.amazonaws.com"));
        };
        let mut registries = self.registries.lock();
        let key = (account.to_owned(), region.to_owned());
        if let Some(address) = registries.get(&key) {
            return Ok(address.to_string());
        }
        let router = data::router(Arc::clone(self), account, region);
        let address = serve(handle, any_port(), router, &self.log)?;
        registries.insert(key, address);
        Ok(address.to_string())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Checks that the caller may do `action` (without `ecr:`); `repository` is empty for actions
    /// on the registry. In another account the caller's own policies are not enough: the
    /// repository's policy must allow it, too, and a registry as a whole has none.
    pub(crate) fn permit(
        &self,
        caller: &Caller,
        account: &str,
        action: &str,
        repository: &str,
    ) -> Result<()> {
        self.denials.check(caller, account, action, repository)?;
        self.iam.check(caller, account, &format!("ecr:{action}"), repository)?;
        // A token allows everything that its owner may read, in any account (registryIds of
        // GetAuthorizationToken have no effect).
        if caller.account == account || action == "GetAuthorizationToken" {
            return Ok(());
        }
        let is_let_in = self.state().repository(account, &caller.region, repository).is_some_and(
            |repository| {
                repository
                    .policy
                    .as_ref()
                    .is_some_and(|policy| policy::admits(policy, &caller.account, action))
            },
        );
        if is_let_in {
            return Ok(());
        }
        let message = format!(
            "User: {} is not authorized to perform: ecr:{action} on resource: {} because no \
             resource-based policy allows the ecr:{action} action",
            caller.arn(),
            deny::arn(account, &caller.region, repository)
        );
        Err(Error::api("AccessDeniedException", message))
    }

    pub(crate) fn quotas(&self) -> Quotas {
        let Config { max_images, max_tags_per_image, checks_references, .. } = self.config;
        Quotas { images: max_images, tags_per_image: max_tags_per_image, checks_references }
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.latency.lock() = latency;
    }

    /// Waits for the latency of every request.
    pub(crate) async fn wait(&self) {
        let latency = *self.latency.lock();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }

    pub(crate) fn create_repository(
        &self,
        account: &str,
        region: &str,
        name: &str,
        tags: BTreeMap<String, String>,
    ) {
        let mut state = self.state();
        let repositories = &mut state.registry_mut(account, region).repositories;
        repositories.entry(name.to_owned()).or_insert_with(|| {
            let mut repository = Repository::new(account, region, name);
            repository.resource_tags = tags;
            repository
        });
    }

    /// Changes a repository; false if it does not exist.
    pub(crate) fn change(
        &self,
        account: &str,
        region: &str,
        name: &str,
        change: impl FnOnce(&mut Repository) -> bool,
    ) -> bool {
        self.state().repository(account, region, name).is_some_and(change)
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
