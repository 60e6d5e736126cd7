//! One AWS identity, and one [`Registry`] per (account, region) that it works on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_ecr::config::timeout::TimeoutConfig;
use tokio::sync::OnceCell;

use super::counting::Counting;
use super::error::Error;
use super::registry::Registry;
use crate::meter::Meter;
use crate::registry::Transport;

/// What the operator or the command line was told about AWS.
#[derive(Clone, Debug)]
pub struct Options {
    /// Account for resources that name none; asked of STS when absent.
    pub account: Option<String>,
    /// Region for resources that name none; from the AWS chain when absent.
    pub region: Option<String>,
    /// Manifest PUTs per second and (account, region).
    pub put_image_rate: u32,
}

/// Account and region, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The account.
    pub account: Option<String>,
    /// The region.
    pub region: Option<String>,
}

/// The AWS identity of this process with everything that is shared under it: clients, tokens, limits.
#[derive(Debug)]
pub struct Session {
    sdk: SdkConfig,
    options: Options,
    transport: Transport,
    meter: Arc<dyn Meter>,
    own_account: OnceCell<String>,
    registries: Mutex<HashMap<(String, String), Arc<Registry>>>,
}

impl Session {
    /// Reads the AWS configuration chain (environment, profile, IRSA, Pod Identity, instance metadata).
    pub async fn load(options: Options, transport: Transport, meter: Arc<dyn Meter>) -> Self {
        // No operation timeout is set by default: a call could hang for ever.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_secs(15))
            .operation_timeout(Duration::from_secs(60))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        Self {
            sdk: loader.load().await,
            options,
            transport,
            meter,
            own_account: OnceCell::new(),
            registries: Mutex::default(),
        }
    }

    /// The registry that a spec means; what it leaves out is the operator's own.
    ///
    /// # Errors
    /// When no region is known, or when STS does not say which account we are.
    pub async fn registry(&self, account: Option<&str>, region: Option<&str>) -> Result<Arc<Registry>, Error> {
        let region = match (region, self.sdk.region()) {
            (Some(region), _) => region.to_owned(),
            (None, Some(region)) => region.to_string(),
            (None, None) => {
                return Err(Error::Unconfigured(
                    "no AWS region: set spec.registry.region, --region, or AWS_REGION in the operator's environment"
                        .to_owned(),
                ));
            }
        };
        let account = match account.or(self.options.account.as_deref()) {
            Some(account) => account.to_owned(),
            None => self.own_account.get_or_try_init(|| self.ask_account()).await?.clone(),
        };
        let mut registries = self.registries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let registry = registries.entry((account.clone(), region.clone())).or_insert_with(|| {
            let config = aws_sdk_ecr::config::Builder::from(&self.sdk)
                .region(Region::new(region.clone()))
                .retry_config(RetryConfig::standard().with_max_attempts(4))
                // The SDK's retry budget is process-wide per service and region: one throttled account would starve all.
                .interceptor(Counting(self.meter.clone()))
                .retry_partition(RetryPartition::custom(format!("ecr-{region}-{account}")).build())
                .build();
            let client = aws_sdk_ecr::Client::from_conf(config);
            Arc::new(Registry::new(
                account,
                region,
                client,
                self.transport.clone(),
                self.options.put_image_rate,
                self.meter.clone(),
            ))
        });
        Ok(registry.clone())
    }

    /// Who is told of the work.
    #[must_use]
    pub fn meter(&self) -> Arc<dyn Meter> {
        self.meter.clone()
    }

    /// Fills in what a spec leaves out, without asking AWS: the account may stay unknown for now.
    #[must_use]
    pub fn resolve_place(&self, place: &Place) -> Place {
        let account = place.account.as_ref().or(self.options.account.as_ref()).or_else(|| self.own_account.get());
        let own_region = || self.sdk.region().map(ToString::to_string);
        Place { account: account.cloned(), region: place.region.clone().or_else(own_region) }
    }

    /// GetCallerIdentity needs no permission.
    async fn ask_account(&self) -> Result<String, Error> {
        const OPERATION: &str = "sts:GetCallerIdentity";
        let client = aws_sdk_sts::Client::new(&self.sdk);
        let identity = client
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| Error::from_sdk(OPERATION, "the operator's identity", &error))?;
        identity.account().map(str::to_owned).ok_or_else(|| Error::Incomplete {
            operation: OPERATION,
            thing: "the operator's identity".to_owned(),
            field: "Account",
        })
    }
}
