//! The check of the operator's own AWS identity. Without one that AWS accepts, no resource can be
//! synced: `/readyz` says so from the start, and the log once.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::ListParams;

use super::server::Health;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::api::v1alpha1::Registry;
use crate::ecr::{self, Standing};
use crate::sync::Engine;
use crate::telemetry::Metrics;

/// Time between two checks of an identity that is missing: the time until a correction is noticed.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Time between two checks of an identity that no resource uses: each reads all resources.
const CHECK_UNUSED_EVERY: Duration = Duration::from_secs(300);
/// kube sets no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(10);
/// Resources in one answer of the API server. The first page is usually enough.
const PAGE: u32 = 100;

/// Checks the identity, and reports it to `/readyz`, the log and the metrics.
pub(super) struct Check {
    pub(super) engine: Arc<Engine>,
    pub(super) resources: Api<EcrRepositorySync>,
    pub(super) label_selector: Option<String>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// The result of one check.
enum Finding {
    Accepted,
    /// No identity, but every resource has its own.
    Unused(String),
    Missing(String),
    /// STS cannot be asked now.
    Undecided(String),
}

impl Check {
    /// Runs until the process ends.
    pub(super) async fn run(self) {
        let mut standing = self.engine.standing();
        loop {
            let finding = self.find().await;
            self.report(&finding);

            let pause = match finding {
                Finding::Accepted => {
                    // The sender is in the engine, which `self` keeps.
                    let _doubted = standing.wait_for(|now| !now.is_accepted()).await;
                    continue;
                }
                Finding::Unused(_) => CHECK_UNUSED_EVERY,
                Finding::Missing(_) | Finding::Undecided(_) => CHECK_EVERY,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A pass asked STS, with a new result.
                _ = standing.wait_for(Standing::is_accepted) => {}
            }
        }
    }

    async fn find(&self) -> Finding {
        let mut result = self.engine.check_identity(None).await;
        if matches!(result, Err(ecr::Error::Unconfigured(_)))
            && let Some(registry) = self.none_with(|registry| registry.region.is_none()).await
        {
            result = self.engine.check_identity(registry.region.as_deref()).await;
        }

        match result {
            Ok(()) => Finding::Accepted,
            Err(ecr::Error::NoIdentity(reason)) => {
                let uses_own = |registry: &Registry| registry.service_account_name.is_none();
                match self.none_with(uses_own).await {
                    Some(_) => Finding::Unused(reason),
                    None => Finding::Missing(reason),
                }
            }
            Err(ecr::Error::Unconfigured(reason)) => Finding::Missing(reason.into_owned()),
            Err(error) => Finding::Undecided(error.to_string()),
        }
    }

    fn report(&self, finding: &Finding) {
        let is_usable = !matches!(finding, Finding::Missing(_));
        self.metrics.identity.set(is_usable.into());

        match finding {
            Finding::Accepted => {
                if self.health.set_identity(None) {
                    tracing::info!("AWS accepts the operator's identity");
                }
            }
            Finding::Unused(reason) => {
                if self.health.set_identity(None) {
                    tracing::info!(reason, "every resource names a ServiceAccount: ready");
                }
            }
            Finding::Missing(reason) => {
                if self.health.set_identity(Some(reason)) {
                    tracing::error!(reason, "not ready, retrying");
                }
            }
            Finding::Undecided(reason) => {
                if self.health.set_identity(None) {
                    tracing::warn!(reason, "cannot check the operator's AWS identity, retrying");
                }
            }
        }
    }

    /// Returns the registry of one resource if there are resources, and none of them has a registry
    /// that `is_counted`. `None` also if the resources cannot be read.
    async fn none_with(&self, is_counted: fn(&Registry) -> bool) -> Option<Registry> {
        let mut example = None;
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector.clone_from(&self.label_selector);
        loop {
            let list = tokio::time::timeout(DEADLINE, self.resources.list(&params)).await;
            let list = list.ok()?.ok()?;
            for object in list.items {
                let registry = object.spec.registry.unwrap_or_default();
                if is_counted(&registry) {
                    return None;
                }
                example = Some(registry);
            }
            params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return example;
            }
        }
    }
}
