//! `ecr-sync controller`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::api::v1alpha1::validation::parse_duration;
use crate::operator;

/// Runs the Kubernetes controller until it is told to stop
///
/// Finds the cluster as kubectl does (KUBECONFIG, ~/.kube/config) or from its pod's ServiceAccount, and AWS as other
/// AWS tools do (environment, profile, IRSA, EKS Pod Identity, instance metadata).
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Watch this namespace only
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Identity of this cluster in the owner tag of repositories
    ///
    /// Default: the uid of the namespace kube-system. Two clusters must not have the same.
    #[arg(long, env = "CLUSTER_ID", value_name = "ID")]
    cluster_id: Option<String>,

    /// Resources to sync at the same time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    max_jobs: u16,

    /// Reconciles at the same time; they are short and wait for the API server only
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    concurrency: u16,

    /// Spread the first checks of resources that are in order over this time after a start
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    startup_spread: Duration,

    /// Address of /metrics, /healthz and /readyz
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    #[command(flatten)]
    aws: super::Aws,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration like 0s, 90s, 10m or 1h30m".to_owned())
}

pub(super) async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { namespace, cluster_id, max_jobs, concurrency, startup_spread, listen, aws } = arguments;
    let options = operator::Options {
        namespace,
        cluster_id,
        max_jobs: max_jobs.into(),
        concurrency,
        startup_spread,
        listen,
        aws: aws.into(),
    };
    match operator::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = super::with_causes(&error), "cannot run");
            ExitCode::from(super::FAILED)
        }
    }
}
