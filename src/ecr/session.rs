//! The AWS session of the process: its identity and configuration, the identities that it assumes,
//! and one [`Registry`] per (account, region, identity). Retries, timeouts and HTTP client of the
//! SDK.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::IdentityCache;
use aws_sdk_ecr::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_ecr::config::timeout::TimeoutConfig;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::assume_role::{AssumedRole, Proof};
use super::auditing::Auditing;
use super::counting::Counting;
use super::error::Error;
use super::identity::{Identity, Roles, ServiceAccount, ServiceAccountTokens, session_name};
use super::no_identity::Advice;
use super::own_identity::{Asking, Doubting, OwnIdentity, Standing};
use super::public::{self, PublicLogin};
use super::rate_limits::{RateLimits, Rates, Share};
use super::registry::Registry;
use super::role::RoleArn;
use crate::bounded::BoundedMap;
use crate::hash::hash;
use crate::meter::Meter;
use crate::registry::{self, Endpoint, Scheme, Transport};
use crate::reload::Reloaded;

/// The settings for AWS of the operator or the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Account for resources that name none; without it, STS is asked for the operator's own.
    pub account: Option<String>,
    /// Region for resources that name none; without it, the region of the AWS configuration.
    pub region: Option<String>,
    /// Calls per second, per (account, region).
    pub rates: Rates,
    /// The part of these rates that this process may use.
    pub share: Share,
    /// URL of ECR's API, if it is not AWS's own.
    pub endpoint: Option<String>,
    /// External IDs of roles.
    pub roles: Option<Reloaded<Roles>>,
    /// Session name of assumed roles, for CloudTrail.
    pub session_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            account: None,
            region: None,
            rates: Rates::default(),
            share: Share::default(),
            endpoint: None,
            roles: None,
            session_name: "ecr-sync".to_owned(),
        }
    }
}

/// Account and region, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The AWS account ID.
    pub account: Option<String>,
    /// The AWS region.
    pub region: Option<String>,
}

/// Size of each cache: unused identities (a renamed role, a deleted ServiceAccount) are dropped
/// beyond it.
const MAX_CACHED: usize = 1024;

/// The AWS identity of this process, and all that is shared under it: clients, credentials, tokens,
/// rate limits.
#[derive(Debug)]
pub struct Session {
    sdk: SdkConfig,
    options: Options,
    transport: Transport,
    meter: Arc<dyn Meter>,
    tokens: Option<Arc<dyn ServiceAccountTokens>>,
    own: Arc<OwnIdentity>,
    /// Keyed by identity too, not by account alone: one account may be used under several
    /// identities.
    registries: Mutex<BoundedMap<(String, String, Key), Arc<Registry>, MAX_CACHED>>,
    identities: Mutex<BoundedMap<Key, AssumedRole, MAX_CACHED>>,
    public: Mutex<BoundedMap<Key, Arc<PublicLogin>, MAX_CACHED>>,
    /// Keyed without identity: ECR counts calls by account and region.
    limits: Mutex<HashMap<(String, String), Arc<RateLimits>>>,
}

/// An identity, and the external ID that its credentials depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    identity: Identity,
    external_id: Option<String>,
}

impl Session {
    /// Loads the AWS configuration chain (environment, profile, IRSA, Pod Identity, instance
    /// metadata), with the region of `options` if it names one.
    pub async fn configuration(options: &Options) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts())
            .http_client(http());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        loader.load().await
    }

    /// A session with the configuration that [`Session::configuration`] loads.
    pub async fn load(
        options: Options,
        transport: Transport,
        meter: Arc<dyn Meter>,
        tokens: Option<Arc<dyn ServiceAccountTokens>>,
    ) -> Self {
        Self::new(Self::configuration(&options).await, options, transport, meter, tokens)
    }

    /// A session with a loaded configuration, whose timeouts are kept if it has any. Without
    /// `tokens`, no ServiceAccount's identity can be assumed.
    #[must_use]
    pub fn new(
        sdk: SdkConfig,
        options: Options,
        transport: Transport,
        meter: Arc<dyn Meter>,
        tokens: Option<Arc<dyn ServiceAccountTokens>>,
    ) -> Self {
        let sdk = match sdk.timeout_config() {
            Some(_) => sdk,
            None => sdk.into_builder().timeout_config(timeouts()).build(),
        };
        let own = Arc::new(OwnIdentity::new(Advice::of_process(tokens.is_some())));
        Self {
            sdk: own.watching(sdk),
            options,
            transport,
            meter,
            tokens,
            own,
            registries: Mutex::default(),
            identities: Mutex::default(),
            public: Mutex::default(),
            limits: Mutex::default(),
        }
    }

    /// Returns the registry at a location. A missing account or region is that of the identity,
    /// else the operator's own.
    ///
    /// # Errors
    /// When no region is known, or when STS does not return the operator's account or the
    /// credentials of the identity.
    pub async fn registry(
        &self,
        location: &Location,
        identity: &Identity,
    ) -> Result<Arc<Registry>, Error> {
        let location = self.resolve_location(location, identity);
        let region = location.region.ok_or_else(|| self.no_region())?;
        let account = match location.account {
            Some(account) => {
                if identity.is_based_on_own() {
                    self.own.accepted(|| self.ask_account(&region)).await?;
                }
                account
            }
            None => self.own_account(Some(&region)).await?,
        };

        let key = self.key(identity);
        // Fetched here and not only by the SDK, whose error would hide that of STS.
        let assumed = self.assumed_role(&key, &region)?;
        if let Some(assumed) = &assumed {
            assumed.credentials().await?;
        }

        let limits = self.limits(&account, &region);
        let mut registries = self.registries.lock();
        let whose = (account.clone(), region.clone(), key.clone());
        let registry = registries.get_or_insert_with(whose, || {
            let client = self.client(&account, &region, &key, assumed);
            let transport = self.transport.clone();
            Arc::new(Registry::new(account, region, client, transport, limits, self.meter.clone()))
        });

        Ok(registry.clone())
    }

    /// Returns a client that reads from ECR's public registry at `host`, with the login of this
    /// identity, or without one if it is not allowed to log in. The password does not leave this
    /// module: it is sent over the operator's connection, with TLS.
    ///
    /// # Errors
    /// When the identity is a ServiceAccount's and there is no cluster, or `host` is not valid.
    pub(crate) fn public_reader(
        &self,
        identity: &Identity,
        host: &str,
        options: registry::Options,
    ) -> Result<registry::Client, Error> {
        let login = self.public_login(identity)?;
        let endpoint = Endpoint { scheme: Scheme::Https, host: host.to_owned() };
        Ok(registry::Client::new(self.transport.clone(), endpoint, login, options)?)
    }

    fn public_login(&self, identity: &Identity) -> Result<Arc<PublicLogin>, Error> {
        let key = self.key(identity);
        let assumed = self.assumed_role(&key, public::REGION)?;

        let mut logins = self.public.lock();
        let login = logins.get_or_insert_with(key.clone(), || {
            let mut config = aws_sdk_ecrpublic::config::Builder::from(&self.sdk)
                .region(Region::new(public::REGION))
                // Pulls work without the login: it is not worth a long wait.
                .retry_config(RetryConfig::standard().with_max_attempts(2))
                .retry_partition(retry_budget(&("ecr-public", &key)))
                .interceptor(Counting(self.meter.clone()));
            if let Some(assumed) = assumed {
                config =
                    config.credentials_provider(assumed).identity_cache(IdentityCache::no_cache());
            }
            Arc::new(PublicLogin::new(
                aws_sdk_ecrpublic::Client::from_conf(config.build()),
                self.meter.clone(),
            ))
        });

        Ok(login.clone())
    }

    /// Returns the limits of one account and region. Never dropped: a second set would double the
    /// rate.
    fn limits(&self, account: &str, region: &str) -> Arc<RateLimits> {
        let mut limits = self.limits.lock();
        let limits = limits.entry((account.to_owned(), region.to_owned()));
        let Options { rates, share, .. } = &self.options;
        limits.or_insert_with(|| Arc::new(RateLimits::new(*rates, share, &self.meter))).clone()
    }

    fn client(
        &self,
        account: &str,
        region: &str,
        key: &Key,
        assumed: Option<AssumedRole>,
    ) -> aws_sdk_ecr::Client {
        let mut config = aws_sdk_ecr::config::Builder::from(&self.sdk)
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(4))
            .retry_partition(retry_budget(&("ecr", account, region, key)))
            .interceptor(Auditing)
            .interceptor(Counting(self.meter.clone()));
        if let Some(endpoint) = &self.options.endpoint {
            config = config.endpoint_url(endpoint);
        }

        config = match assumed {
            // `AssumedRole` renews ahead of the expiry, and has one set of credentials.
            Some(assumed) => {
                config.credentials_provider(assumed).identity_cache(IdentityCache::no_cache())
            }
            None => config.interceptor(Doubting(self.own.clone())),
        };

        aws_sdk_ecr::Client::from_conf(config.build())
    }

    fn key(&self, identity: &Identity) -> Key {
        let roles = self.options.roles.as_ref().map(Reloaded::get);
        let external_id = |role: &RoleArn| roles.as_ref()?.external_id(role).map(str::to_owned);
        Key {
            identity: identity.clone(),
            external_id: identity.role.as_ref().and_then(external_id),
        }
    }

    /// Returns the role of an identity that is not the operator's own.
    fn assumed_role(&self, key: &Key, region: &str) -> Result<Option<AssumedRole>, Error> {
        let Identity { service_account, role } = &key.identity;
        let from = match service_account {
            Some(account) => Some(self.of_service_account(account, region)?),
            None => None,
        };
        let Some(role) = role else { return Ok(from) };

        let mut identities = self.identities.lock();
        let assumed = identities.get_or_insert_with(key.clone(), || {
            let mut sts = self.sts(role, region, key);
            if from.is_none() {
                sts = sts.interceptor(Doubting(self.own.clone()));
            }
            let name = session_name(&self.options.session_name);
            let proof = Proof::Credentials { from, external_id: key.external_id.clone() };
            AssumedRole::new(sts, role.clone(), name, proof)
        });

        Ok(Some(assumed.clone()))
    }

    fn of_service_account(
        &self,
        account: &ServiceAccount,
        region: &str,
    ) -> Result<AssumedRole, Error> {
        let tokens = self.tokens.clone().ok_or_else(|| {
            let message = "spec.registry.serviceAccountName works in a cluster only: remove it";
            Error::Unconfigured(message.into())
        })?;
        let identity = Identity { service_account: Some(account.clone()), role: None };
        let key = Key { identity, external_id: None };

        let mut identities = self.identities.lock();
        let assumed = identities.get_or_insert_with(key.clone(), || {
            let wanted =
                format!("{}-{}-{}", self.options.session_name, account.namespace, account.name);
            let sts = self.sts(&account.role, region, &key);
            let proof = Proof::Token { account: account.clone(), tokens };
            AssumedRole::new(sts, account.role.clone(), session_name(&wanted), proof)
        });

        Ok(assumed.clone())
    }

    /// Configures STS in the operator's own region, unless the role is in another partition.
    fn sts(&self, role: &RoleArn, region: &str, key: &Key) -> aws_sdk_sts::config::Builder {
        let own = self.sdk.region().filter(|own| partition(own.as_ref()) == role.partition());
        let region = own.cloned().unwrap_or_else(|| Region::new(region.to_owned()));
        aws_sdk_sts::config::Builder::from(&self.sdk)
            .region(region)
            .retry_config(RetryConfig::standard().with_max_attempts(4))
            .retry_partition(retry_budget(&("sts", key)))
            .interceptor(Counting(self.meter.clone()))
    }

    /// Returns the receiver of counts.
    #[must_use]
    pub fn meter(&self) -> Arc<dyn Meter> {
        self.meter.clone()
    }

    /// Completes the location of a spec without calling AWS: the account may remain unknown.
    #[must_use]
    pub fn resolve_location(&self, location: &Location, identity: &Identity) -> Location {
        let account =
            location.account.as_deref().or(identity.account()).or(self.options.account.as_deref());
        // Only the operator's own identity is in its own account.
        let account = account.map(str::to_owned).or_else(|| self.own.known_account());
        let own_region = || self.sdk.region().map(ToString::to_string);
        Location { account, region: location.region.clone().or_else(own_region) }
    }

    /// Returns the account of the own identity of this process, once AWS has accepted it. `region`
    /// is asked if the configuration has none.
    ///
    /// # Errors
    /// [`Error::NoIdentity`] if there is no identity that AWS accepts, [`Error::Unconfigured`]
    /// without a region, any other error if STS cannot be asked now.
    pub async fn own_account(&self, region: Option<&str>) -> Result<String, Error> {
        let own = self.sdk.region().map(Region::as_ref);
        let region = own.or(region).ok_or_else(|| self.no_region())?;
        self.own.account(|| self.ask_account(region)).await
    }

    /// Returns the standing of this process with AWS, as it changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.own.standing()
    }

    fn no_region(&self) -> Error {
        Error::Unconfigured(self.own.advice().no_region().into())
    }

    /// Asks STS in the region of the configuration, or in `region` without one.
    fn ask_account(&self, region: &str) -> Asking<'_> {
        const OPERATION: &str = "sts:GetCallerIdentity";
        const THING: &str = "the AWS identity in use";

        let own = self.sdk.region().cloned();
        let config = aws_sdk_sts::config::Builder::from(&self.sdk)
            .region(own.unwrap_or_else(|| Region::new(region.to_owned())))
            // The first passes wait for it, also where STS is unreachable.
            .retry_config(RetryConfig::standard().with_max_attempts(2));
        let client = aws_sdk_sts::Client::from_conf(config.build());

        Box::pin(async move {
            let identity = client.get_caller_identity().send().await;
            let identity = identity.map_err(|error| Error::from_sdk(OPERATION, THING, &error))?;
            let account = identity.account().map(str::to_owned);
            account.ok_or_else(|| Error::incomplete(OPERATION, THING, "Account"))
        })
    }
}

/// Returns the partition of a region: `aws`, `aws-cn`, `aws-us-gov` ….
#[must_use]
pub(crate) fn partition(region: &str) -> &'static str {
    // Region names of botocore's endpoints; each partition has its own prefix.
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ if region.starts_with("us-iso-") => "aws-iso",
        _ if region.starts_with("us-isob-") => "aws-iso-b",
        _ if region.starts_with("eu-isoe-") => "aws-iso-e",
        _ if region.starts_with("us-isof-") => "aws-iso-f",
        _ if region.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

/// The SDK has no operation timeout by default: a call could hang forever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(15))
        .operation_timeout(Duration::from_secs(60))
        .build()
}

/// Builds the SDK's HTTP client, once: else each service and identity would have its own
/// connections and its own copy of the system's certificates.
fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, components| {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
        let mut connector = ConnectorBuilder::default().tls_provider(tls);
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

/// Returns a retry budget for one key. The SDK's own is process-wide per service and region: one
/// throttled account, or one refused identity, would use it up for all.
fn retry_budget(of: &impl Hash) -> RetryPartition {
    RetryPartition::custom(format!("{:016x}", hash(of))).build()
}
