//! All processes of the demo: cluster, ECR stand-in, registry, chart repository, operator.

use std::path::{Path, PathBuf};

use super::examples::CHART;
use super::monitoring::Monitoring;
use super::narrator::Narrator;
use super::operator::Operator;
use super::shell::Shell;
use super::{ACCOUNT, NAMESPACE, REGION, examples, shown};
use crate::chart_repository::ChartRepository;
use crate::cluster::Cluster;
use crate::ecr::{self, StandIn};
use crate::upstream::{Auth, Upstream, User};
use crate::{Error, tools};

/// A cluster with the operator, an ECR stand-in, and a registry and a chart repository to copy
/// from. Dropping it kills all of them.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) monitoring: Option<Monitoring>,
    // Dropped in this order: the operator first, then its servers.
    pub(super) operator: Operator,
    pub(super) upstream: Upstream,
    pub(super) charts: ChartRepository,
    pub(super) ecr: StandIn,
    pub(super) cluster: Cluster,
    pub(super) shell: Shell,
}

impl Stage {
    /// Starts everything in `dir`.
    pub(super) async fn start(
        dir: &Path,
        monitoring: bool,
        narrator: &Narrator,
    ) -> Result<Self, Error> {
        let program = Operator::program()?;

        narrator.step("Start a Kubernetes API: etcd and kube-apiserver");
        let cluster = Cluster::start(dir.join("cluster")).await?;
        narrator.say(format!("{} is ready", cluster.url()));

        narrator.step("Start a stand-in for ECR");
        let ecr = StandIn::start(ecr::Config::default()).await?;
        let registry = ecr.registry(ACCOUNT, REGION).await;
        narrator.say(format!(
            "API {}, registry {registry} of account {ACCOUNT} in {REGION}",
            ecr.endpoint()
        ));

        narrator.step("Start a registry to copy from, and fill it with crane");
        let upstream = Upstream::start(dir.join("upstream"), Auth::TOKEN).await?;
        let count = examples::seed(&upstream).await?;
        narrator.say(format!(
            "{count} tags at {}; it stands in for docker.io and registry.example.com",
            upstream.host()
        ));

        narrator.step("Start a chart repository, and fill it with helm");
        let charts = ChartRepository::start(dir.join("charts"), None).await?;
        examples::package(&charts).await?;
        narrator.say(format!(
            "{} {} at {}; it stands in for charts.example.com",
            CHART.name,
            CHART.versions.join(", "),
            charts.host()
        ));

        narrator.step("Install the CustomResourceDefinition and the operator's permissions");
        install(&cluster, narrator).await?;

        narrator.step("Start the operator under its ServiceAccount");
        let kubeconfig = cluster.service_account_kubeconfig("ecr-sync-system", "ecr-sync").await?;
        let shell = Shell::new(dir, &ecr, cluster.kubeconfig())?;
        log_in(&shell, &upstream, &ecr, &registry).await?;
        let operator = Operator::start(&program, dir, &kubeconfig, &shell).await?;
        narrator.say(format!(
            "pid {}, /readyz answers ok, log in {}",
            operator.pid(),
            shown(operator.log())
        ));

        let monitoring = if monitoring {
            narrator.step("Start Prometheus, which scrapes the operator");
            Some(Monitoring::start(dir, operator.address(), narrator).await?)
        } else {
            None
        };

        Ok(Self {
            dir: dir.to_owned(),
            monitoring,
            operator,
            upstream,
            charts,
            ecr,
            cluster,
            shell,
        })
    }

    /// Stops everything with SIGTERM.
    pub(super) async fn stop(&self, narrator: &Narrator) -> Result<(), Error> {
        narrator.step("Stop everything");
        // The others must end even if the operator fails to.
        let operator = self.operator.stop().await;
        self.upstream.stop().await?;
        self.cluster.stop().await?;

        let duration = operator?;
        narrator.proven(format!(
            "the operator ended {:.1} s after SIGTERM with exit code 0",
            duration.as_secs_f64()
        ));
        Ok(())
    }
}

async fn install(cluster: &Cluster, narrator: &Narrator) -> Result<(), Error> {
    for file in ["crds", "deploy/rbac.yaml"] {
        let path = tools::workspace().join(file);
        let output = cluster.kubectl(&["apply", "--filename", &path.display().to_string()]).await?;
        for line in output.lines() {
            narrator.say(line);
        }
    }
    let crd = "customresourcedefinition/ecrrepositorysyncs.ecr-sync.io";
    cluster.kubectl(&["wait", "--for", "condition=Established", "--timeout", "30s", crd]).await?;
    cluster.create_namespace(NAMESPACE).await?;
    // From here on, kubectl needs no --namespace: in the demo, and in the user's other terminal.
    cluster.kubectl(&["config", "set-context", "--current", "--namespace", NAMESPACE]).await?;
    Ok(())
}

/// Logs crane and helm in to both registries: to the source as the user who may push to it.
async fn log_in(
    shell: &Shell,
    upstream: &Upstream,
    ecr: &StandIn,
    registry: &str,
) -> Result<(), Error> {
    let writer = User::Writer;
    for (host, user, password) in [
        (upstream.host(), writer.name(), writer.password().to_owned()),
        (registry, "AWS", ecr.password(ACCOUNT, REGION)),
    ] {
        let login = ["auth", "login", "--username", user, "--password-stdin", host];
        shell.run_with_input("crane", &login, &password).await?;
    }
    Ok(())
}
