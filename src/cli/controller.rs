//! `ecr-sync controller`: its flags, and the options of the operator made from them.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedI64ValueParser;

use super::flags::{self, duration, parallel};
use super::switch::Switch;
use crate::causes::with_causes;
use crate::controller::{self, ResourceMetrics};
use crate::credentials::DockerConfig;
use crate::mirrors::Mirrors;
use crate::operator;
use crate::registry::AllowedAddress;
use crate::reload::Reloaded;
use crate::shard;
use crate::sync::{Bounds, Defaults, OwnerRules};
use crate::tenancy::{Tenancy, Unlisted};

/// Runs the Kubernetes controller until it is stopped
///
/// Connects to the cluster as kubectl does (KUBECONFIG, ~/.kube/config) or with the ServiceAccount
/// of its pod, and to AWS as other AWS tools do (environment, profile, IRSA, EKS Pod Identity,
/// instance metadata).
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
    /// Without the watch, a change is used in the next pass, and the permission to list and watch
    /// Secrets is not needed.
    #[arg(long, env = "WATCH_SECRETS", switch = true)]
    watch_secrets: bool,

    /// Docker config with logins for sources whose resource has no secretRef; its credential
    /// helpers are not run
    #[arg(long, env = "REGISTRY_CONFIG", value_name = "FILE")]
    registry_config: Option<PathBuf>,

    /// YAML table of mirrors to read images from (docs/mirrors.md)
    ///
    /// `mirrors: [{match: docker.io, rewrite: mirror.example.com/hub}]`: match is a host, or a host
    /// and the beginning of a path; the longest match is used. Optional fields:
    /// credentialsSecretRef (name and namespace) or credentialsFile (a docker config), fallback,
    /// insecure and direct. The file is read again when it changes.
    #[arg(long, env = "MIRRORS_FILE", value_name = "FILE")]
    mirrors_file: Option<PathBuf>,

    /// YAML file of tenants: which repositories, accounts, regions, roles and sources a namespace
    /// may use (docs/iam.md)
    ///
    /// Checked before any request is made for a resource. The file is read again when it changes.
    #[arg(long, env = "TENANTS_FILE", value_name = "FILE")]
    tenants: Option<PathBuf>,

    /// Rule for namespaces that the tenants file does not name: everything or nothing
    ///
    /// Default: deny with --tenants, allow without.
    #[arg(long, env = "TENANTS_DEFAULT", value_enum, value_name = "POLICY")]
    tenants_default: Option<Unlisted>,

    /// Write nothing to ECR; status.plan of each resource shows the changes that would be made
    #[arg(long, env = "DRY_RUN", switch = false)]
    dry_run: bool,

    /// ID of this cluster in the owner tag of repositories; must be unique among clusters
    ///
    /// Default: the UID of the namespace kube-system.
    #[arg(long, env = "CLUSTER_ID", value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<String>,

    /// IDs that this cluster had before it was rebuilt, comma-separated; owner tags with these IDs
    /// are its own
    #[arg(long, env = "FORMER_CLUSTER_IDS", value_name = "ID,...", value_delimiter = ',')]
    former_cluster_ids: Vec<String>,

    /// Names of existing repositories without an owner that resources may adopt, comma-separated;
    /// `*` matches any characters
    ///
    /// Repositories that the tenants file lists for a namespace may be adopted, too. Default: none.
    #[arg(long, env = "ADOPTION", value_name = "PATTERN,...", value_delimiter = ',')]
    adoption: Vec<String>,

    /// Let resources with adoptionPolicy: Always take over repositories from other owners
    #[arg(long, env = "ALLOW_TAKEOVER", switch = false)]
    allow_takeover: bool,

    /// Record the owner of each repository in its resource tags
    ///
    /// Needs ecr:TagResource. Without owner tags, two clusters that manage the same repository do
    /// not notice each other.
    #[arg(long, env = "OWNER_TAGS", switch = true)]
    owner_tags: bool,

    /// Resources to sync at the same time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = parallel())]
    max_jobs: u16,

    /// Reconciles to run at the same time; they are short and wait for the API server only
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = parallel())]
    concurrency: u16,

    /// After a start, spread the first checks of resources that are Ready over this time
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    startup_spread: Duration,

    /// Work only while holding a Lease, so that several replicas can run
    #[arg(long, env = "LEADER_ELECTION", switch = true)]
    leader_election: bool,

    /// Namespace of the Lease
    ///
    /// Default: POD_NAMESPACE, else the namespace of the kubeconfig's context or of the pod.
    #[arg(long, env = "LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,

    /// Divide the resources into N shards; each replica works on its fair share of them
    ///
    /// A resource belongs to a shard by the name of its repository. Shards move when replicas come
    /// and go. Replicas with another number wait until all shards of the former number are released.
    /// Needs --leader-election, and with more than one shard the permission to list and delete
    /// Leases.
    #[arg(long, env = "SHARDS", default_value_t = 1, value_name = "N", value_parser = shards())]
    shards: u16,

    /// Maximum number of tags of one image or chart after selection
    #[arg(
        long,
        env = "MAX_TAGS",
        default_value_t = 500,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    max_tags: u16,

    /// Upper limit of spec.timeout: a pass without progress for this time ends and frees its slot
    #[arg(
        long,
        env = "MAX_TIMEOUT",
        default_value = "1h",
        value_name = "DURATION",
        value_parser = duration
    )]
    max_timeout: Duration,

    /// Let /healthz fail if a pass is due and there is no progress for this time
    ///
    /// Progress is a pass that ends, or a copy that transfers bytes. While all slots (--max-jobs)
    /// are taken, --max-timeout is added: a source that does not answer is not a reason for a
    /// restart.
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = duration)]
    watchdog: Duration,

    /// Address to serve /metrics, /healthz, /readyz and /schedule on
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Resources that have metrics of their own (ecrsync_resource_*): none, all, or namespaces and
    /// labels, comma-separated, for example team-a,team-b,tier=gold
    ///
    /// A resource is chosen if it is in one of the namespaces and has all labels. Each chosen
    /// resource has about 20 series; the other metrics do not grow with the number of resources.
    #[arg(long, env = "RESOURCE_METRICS", default_value = "none", value_name = "LIST")]
    resource_metrics: ResourceMetrics,

    /// Private addresses that resources may name as sources: hosts, networks, or all;
    /// comma-separated, for example registry.corp.example.com,10.20.0.0/16
    ///
    /// By default none, because services in private networks often trust every client in the
    /// network: a source, token server, redirect, chart URL or proxy of a resource must have a
    /// public address. `all` does not include loopback and link-local networks: name them. The API
    /// server and the metadata services of clouds are never allowed. ECR, the AWS API, mirrors and
    /// the proxy of the environment are not affected.
    #[arg(long, env = "ALLOW_PRIVATE_SOURCES", value_name = "LIST", value_delimiter = ',')]
    allow_private_sources: Vec<flags::Entry<AllowedAddress>>,

    #[command(flatten)]
    memory: flags::Memory,

    #[command(flatten)]
    sources: flags::Sources,

    #[command(flatten)]
    aws: flags::Aws,

    #[command(flatten)]
    defaults: flags::Defaults,
}

/// Accepts the characters that AWS allows in the value of a resource tag, without spaces.
fn cluster_id(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-=._:/@".contains(c);
    if text.is_empty() || !text.chars().all(is_allowed) {
        return Err(
            "write letters, digits and any of + - = . _ : / @, as in a resource tag".to_owned()
        );
    }
    Ok(text.to_owned())
}

/// Parses a number of shards.
fn shards() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=shard::MOST.into())
}

pub(super) async fn run(arguments: Arguments) -> ExitCode {
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => return super::fail(&with_causes(&*error)),
    };

    match operator::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = with_causes(&error), "cannot run");
            ExitCode::from(super::FAILED)
        }
    }
}

/// Reads the files that the flags name.
///
/// # Errors
/// The message for the user if a file cannot be used.
fn options(arguments: Arguments) -> Result<operator::Options, Box<dyn Error>> {
    if arguments.shards > 1 && !arguments.leader_election {
        return Err("--shards: more than 1 needs --leader-election".into());
    }
    let registry_config =
        arguments.registry_config.map(|path| DockerConfig::read(&path)).transpose()?.map(Arc::new);
    let mirrors =
        arguments.mirrors_file.map(|path| Reloaded::load(&path, Mirrors::parse)).transpose()?;
    let defaults = Defaults::load(&arguments.defaults.files())?;
    let aws = arguments.aws.options()?;

    let default = if arguments.tenants.is_some() { Unlisted::Deny } else { Unlisted::Allow };
    let unlisted = arguments.tenants_default.unwrap_or(default);
    let tenancy = Tenancy::load(arguments.tenants.as_deref(), unlisted)?;

    let former_clusters = arguments.former_cluster_ids.into_iter();
    let owners = OwnerRules {
        marks: arguments.owner_tags,
        allow_takeover: arguments.allow_takeover,
        former_clusters: former_clusters.filter(|id| !id.is_empty()).collect(),
    };
    let controller = controller::Options {
        namespace: arguments.namespace,
        label_selector: arguments.watch_label_selector,
        watch_secrets: arguments.watch_secrets,
        registry_config,
        mirrors,
        public_ecr_login: arguments.sources.public_ecr.login,
        tenancy,
        owners,
        adoption: arguments.adoption,
        dry_run: arguments.dry_run,
        max_jobs: arguments.max_jobs.into(),
        max_timeout: arguments.max_timeout,
        concurrency: arguments.concurrency,
        resource_metrics: arguments.resource_metrics,
        startup_spread: arguments.startup_spread,
    };

    Ok(operator::Options {
        controller,
        cluster_id: arguments.cluster_id,
        leader_election: arguments.leader_election.then_some(operator::LeaderElection {
            namespace: arguments.leader_election_namespace,
            shards: arguments.shards,
        }),
        watchdog: arguments.watchdog,
        listen: arguments.listen,
        egress: operator::EgressOptions {
            allowed: flags::values(arguments.allow_private_sources),
            realms: flags::values(arguments.sources.allow_realm),
        },
        bounds: Bounds {
            max_tags: arguments.max_tags.into(),
            max_timeout: Some(arguments.max_timeout),
            reserve: arguments.sources.rate_reserve,
        },
        memory: arguments.memory.limit(),
        aws,
        defaults,
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

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

    #[test]
    fn empty_lists_allow_nothing() {
        let parse = |arguments: &[&str]| {
            let command = Arguments::augment_args(clap::Command::new("controller"));
            let matches = command.try_get_matches_from([&["controller"], arguments].concat());
            Arguments::from_arg_matches(&matches.expect("valid")).expect("valid")
        };
        for (list, expected) in
            [("", 0), (" , ", 0), ("10.0.0.0/8,", 1), ("a.example,b.example", 2)]
        {
            let arguments = parse(&["--allow-private-sources", list]);
            assert_eq!(flags::values(arguments.allow_private_sources).len(), expected, "{list:?}");
        }
        assert!(flags::values(parse(&["--allow-realm="]).sources.allow_realm).is_empty());
    }
}
