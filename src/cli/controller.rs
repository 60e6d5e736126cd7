//! `ecr-sync controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::causes::with_causes;
use crate::controller;
use crate::credentials::DockerConfig;
use crate::mirrors::Mirrors;
use crate::operator;
use crate::reload::Reloaded;
use crate::spec::validation::parse_duration;
use crate::sync::{Defaults, Limits, OwnerRules};
use crate::tenancy::{Tenancy, Unlisted};

/// Runs the Kubernetes controller until it is told to stop
///
/// Finds the cluster as kubectl does (KUBECONFIG, ~/.kube/config) or from its pod's ServiceAccount,
/// and AWS as other AWS tools do (environment, profile, IRSA, EKS Pod Identity, instance metadata).
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Watch this namespace only
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Watch only resources with these labels, for example `team=platform`
    #[arg(long, env = "WATCH_LABEL_SELECTOR", value_name = "SELECTOR")]
    watch_label_selector: Option<String>,

    /// Watch the metadata of Secrets, so that a changed login or certificate is used at once
    ///
    /// Without the watch a change is used at the next pass, and the right to list and watch Secrets
    /// is not needed.
    #[arg(long, env = "WATCH_SECRETS", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    watch_secrets: bool,

    /// Docker config with logins for sources whose resource has no secretRef; helpers in it are not
    /// run
    #[arg(long, env = "REGISTRY_CONFIG", value_name = "FILE")]
    registry_config: Option<PathBuf>,

    /// YAML table of places to read images from instead of their own (docs/mirrors.md)
    ///
    /// `mirrors: [{match: docker.io, rewrite: mirror.example.com/hub}]`: match is a host, or a host
    /// and the beginning of a path, the longest counts. Also credentialsSecretRef (name and
    /// namespace) or credentialsFile (a docker config), fallback, insecure and direct. Read again
    /// when it changes.
    #[arg(long, env = "MIRRORS_FILE", value_name = "FILE")]
    mirrors_file: Option<PathBuf>,

    /// YAML file of tenants: which repositories, accounts, regions, roles and sources a namespace
    /// may use (docs/iam.md)
    ///
    /// Checked before any request is made for a resource. Read again when it changes.
    #[arg(long, env = "TENANTS_FILE", value_name = "FILE")]
    tenants: Option<PathBuf>,

    /// What namespaces may do that the file does not name
    ///
    /// Default: deny with --tenants, allow without.
    #[arg(long, env = "TENANTS_DEFAULT", value_enum, value_name = "POLICY")]
    tenants_default: Option<Unlisted>,

    /// Write nothing to ECR: status.plan of each resource shows what would be done
    #[arg(long, env = "DRY_RUN", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    dry_run: bool,

    /// Identity of this cluster in the owner tag of repositories
    ///
    /// Default: the uid of the namespace kube-system. Two clusters must not have the same.
    #[arg(long, env = "CLUSTER_ID", value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<String>,

    /// What this cluster was called in owner tags before it was built anew, comma-separated
    #[arg(long, env = "FORMER_CLUSTER_IDS", value_name = "ID,...", value_delimiter = ',')]
    former_cluster_ids: Vec<String>,

    /// Let resources with adoptionPolicy: Always take repositories from other owners
    #[arg(long, env = "ALLOW_TAKEOVER", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    allow_takeover: bool,

    /// Mark repositories with their owner, by resource tags
    ///
    /// Needs ecr:TagResource. Without marks two clusters that want one repository do not notice
    /// each other.
    #[arg(long, env = "OWNER_TAGS", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    owner_tags: bool,

    /// Resources to sync at the same time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    max_jobs: u16,

    /// Reconciles at the same time; they are short and wait for the API server only
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    concurrency: u16,

    /// Spread the first checks of resources that are in order over this time after a start
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    startup_spread: Duration,

    /// Work only while holding a Lease, so that several replicas can run
    #[arg(long, env = "LEADER_ELECTION", value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    leader_election: bool,

    /// Namespace of the Lease
    ///
    /// Default: POD_NAMESPACE, else the namespace of the kubeconfig's context or of the pod.
    #[arg(long, env = "LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,

    /// Most tags that one artifact may have after selection
    #[arg(long, env = "MAX_TAGS", default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_tags: u16,

    /// /healthz fails when work is due and nothing was finished for so long
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = duration)]
    watchdog: Duration,

    /// Address of /metrics, /healthz and /readyz
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    #[command(flatten)]
    sources: super::FromSources,

    #[command(flatten)]
    aws: super::Aws,

    #[command(flatten)]
    defaults: super::Defaults,
}

/// What AWS takes in the value of a resource tag, without spaces.
fn cluster_id(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "+-=._:/@".contains(c);
    if text.is_empty() || !text.chars().all(is_fine) {
        return Err(
            "write letters, digits and any of + - = . _ : / @, as in a resource tag".to_owned()
        );
    }
    Ok(text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration like 0s, 90s, 10m or 1h30m".to_owned())
}

pub(super) async fn run(arguments: Arguments) -> ExitCode {
    let registry_config =
        match arguments.registry_config.map(|path| DockerConfig::read(&path)).transpose() {
            Ok(config) => config.map(Arc::new),
            Err(error) => return super::fail(&with_causes(&error)),
        };
    let mirrors = match arguments
        .mirrors_file
        .map(|path| Reloaded::load(&path, Mirrors::parse))
        .transpose()
    {
        Ok(mirrors) => mirrors,
        Err(error) => return super::fail(&error.to_string()),
    };
    let defaults = match Defaults::load(arguments.defaults.into()) {
        Ok(defaults) => defaults,
        Err(error) => return super::fail(&with_causes(&error)),
    };
    let aws = match arguments.aws.options() {
        Ok(aws) => aws,
        Err(error) => return super::fail(&error),
    };
    let default = if arguments.tenants.is_some() { Unlisted::Deny } else { Unlisted::Allow };
    let unlisted = arguments.tenants_default.unwrap_or(default);
    let tenancy = match Tenancy::load(arguments.tenants.as_deref(), unlisted) {
        Ok(tenancy) => tenancy,
        Err(error) => return super::fail(&error),
    };
    let options = operator::Options {
        controller: controller::Options {
            namespace: arguments.namespace,
            label_selector: arguments.watch_label_selector,
            watch_secrets: arguments.watch_secrets,
            registry_config,
            mirrors,
            public_ecr_login: arguments.sources.public_ecr_login,
            tenancy,
            owners: OwnerRules {
                marks: arguments.owner_tags,
                allow_takeover: arguments.allow_takeover,
                former_clusters: arguments
                    .former_cluster_ids
                    .into_iter()
                    .filter(|id| !id.is_empty())
                    .collect(),
            },
            dry_run: arguments.dry_run,
            max_jobs: arguments.max_jobs.into(),
            concurrency: arguments.concurrency,
            startup_spread: arguments.startup_spread,
        },
        cluster_id: arguments.cluster_id,
        leader_election: arguments
            .leader_election
            .then_some(operator::LeaderElection { namespace: arguments.leader_election_namespace }),
        watchdog: arguments.watchdog,
        listen: arguments.listen,
        limits: Limits {
            max_tags: arguments.max_tags.into(),
            reserve: arguments.sources.rate_reserve,
        },
        aws,
        defaults,
    };
    match operator::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = with_causes(&error), "cannot run");
            ExitCode::from(super::FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_what_a_resource_tag_can_hold() {
        for good in ["7d0b1c9e-1d7c-4a3e-8c55-2f1a3b4c5d6e", "prod/eu-west-1", "a:b=c@d+e_f.g"] {
            assert_eq!(cluster_id(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "prod,eu", "größe", "a\n"] {
            assert!(cluster_id(bad).is_err(), "{bad:?}");
        }
    }
}
