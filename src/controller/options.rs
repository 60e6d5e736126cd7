//! Settings of the controller.

use std::sync::Arc;
use std::time::Duration;

use super::resource_metrics::ResourceMetrics;
use crate::credentials::DockerConfig;
use crate::mirrors::Mirrors;
use crate::reload::Reloaded;
use crate::sync::OwnerRules;
use crate::tenancy::Tenancy;
use crate::wildcard::matches_any;

/// Settings of the controller.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The only namespace to watch; all when absent.
    pub(crate) namespace: Option<String>,
    /// The labels that a resource must have to be watched; all resources when absent.
    pub(crate) label_selector: Option<String>,
    /// Whether the metadata of Secrets is watched, so that a changed Secret is used at once.
    pub(crate) watch_secrets: bool,
    /// Logins for sources whose resource names no Secret.
    pub(crate) registry_config: Option<Arc<DockerConfig>>,
    /// Places to read images from instead of their own.
    pub(crate) mirrors: Option<Reloaded<Mirrors>>,
    /// Whether the AWS identity logs in to public.ecr.aws.
    pub(crate) public_ecr_login: bool,
    /// Rules about the owners of repositories.
    pub(crate) owners: OwnerRules,
    /// Patterns of the repositories that resources may adopt.
    pub(crate) adoption: Vec<String>,
    /// Limits of each namespace.
    pub(crate) tenancy: Tenancy,
    /// Whether nothing is written to ECR.
    pub(crate) dry_run: bool,
    /// Resources that are synced at the same time.
    pub(crate) max_jobs: usize,
    /// The time after which a pass without progress ends, whatever its resource says.
    pub(crate) max_timeout: Duration,
    /// Reconciles that run at the same time. They are short: they wait for the API server only.
    pub(crate) concurrency: u16,
    /// The resources that have metrics of their own.
    pub(crate) resource_metrics: ResourceMetrics,
    /// Time over which the periodic checks that are due at the start are spread.
    pub(crate) startup_spread: Duration,
}

impl Options {
    /// Whether a resource of `namespace` may adopt a repository of this name that belongs to
    /// nobody.
    pub(super) fn adopts(&self, namespace: &str, repository: &str) -> bool {
        matches_any(&self.adoption, repository) || self.tenancy.names(namespace, repository)
    }
}

/// The running process, as repositories and events name it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// ID of this cluster in owner tags.
    pub(crate) cluster_id: String,
    /// Name of this process in events.
    pub(crate) instance: String,
}
