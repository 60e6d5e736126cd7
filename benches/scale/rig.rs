//! The real API server that all rows share, and what each measurement has for itself.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use testbed::cluster::Cluster;
use testbed::ecr::{self, StandIn};
use testbed::generated::Generated;
use testbed::proxy::Proxy;
use testbed::scratch;

use crate::Error;
use crate::crowd::Crowd;
use crate::operator::Operator;
use crate::options::{Build, Options};

/// Namespaces of the resources.
pub const NAMESPACES: [&str; 2] = ["crowd", "others"];

/// The parts that all measurements share.
pub struct Rig {
    pub client: Client,
    pub resources: usize,
    /// A source with one small image, `scale/image:1`.
    pub source: Generated,
    cluster: Cluster,
    folder: PathBuf,
    kubeconfig: PathBuf,
    latency: Duration,
}

impl Rig {
    pub async fn new(options: &Options) -> Result<Self, Error> {
        let folder = scratch::folder("scale")?;
        let cluster = Cluster::start(folder.join("cluster")).await?;
        cluster.apply(&ecr_sync::api::v1alpha1::crd_yaml()?).await?;
        let definition = "crd/ecrrepositorysyncs.ecr-sync.io";
        cluster
            .kubectl(&["wait", "--for=condition=Established", definition, "--timeout=60s"])
            .await?;
        for namespace in ["ecr-sync-system"].iter().chain(&NAMESPACES) {
            cluster.create_namespace(namespace).await?;
        }
        let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
        cluster.apply(&std::fs::read_to_string(rights)?).await?;
        let kubeconfig = cluster.service_account_kubeconfig("ecr-sync-system", "ecr-sync").await?;

        let own = Kubeconfig::read_from(cluster.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(own, &KubeConfigOptions::default()).await?;
        Ok(Self {
            client: Client::try_from(config)?,
            resources: options.resources,
            source: Generated::start(&[("scale/image", 2, 64 << 10)]).await?,
            cluster,
            folder,
            kubeconfig,
            latency: options.latency(),
        })
    }

    /// An ECR of its own for one measurement, with the delay of the options.
    pub async fn ecr(&self) -> Result<StandIn, Error> {
        let ecr = StandIn::start(ecr::Config::default()).await?;
        ecr.set_latency(self.latency);
        Ok(ecr)
    }

    /// An operator that works. The last one may have been killed, and its Lease must end first.
    pub async fn operator(&self, build: &Build, ecr: &StandIn) -> Result<Operator, Error> {
        let operator = self.follower(build, ecr).await?;
        operator.leads().await?;
        Ok(operator)
    }

    /// An operator that waits until no other one works.
    pub async fn follower(&self, build: &Build, ecr: &StandIn) -> Result<Operator, Error> {
        Operator::start(build, &self.folder, &self.kubeconfig, ecr).await
    }

    /// An operator that reaches the API server through a proxy.
    pub async fn operator_behind(
        &self,
        proxy: &Proxy,
        build: &Build,
        ecr: &StandIn,
    ) -> Result<Operator, Error> {
        let mut config = Kubeconfig::read_from(&self.kubeconfig)?;
        for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(format!("http://{}", proxy.host()));
            cluster.certificate_authority = None;
        }
        let path = self.folder.join("proxied.kubeconfig");
        std::fs::write(&path, serde_json::to_string(&config)?)?;
        let operator = Operator::start(build, &self.folder, &path, ecr).await?;
        operator.leads().await?;
        Ok(operator)
    }

    /// A proxy in front of the API server, which can play an outage.
    pub async fn proxy(&self) -> Result<Proxy, Error> {
        Proxy::start_to(self.cluster.url(), &self.cluster.ca()).await
    }

    /// A view of all resources, which are none yet.
    pub async fn crowd(&self) -> Result<Crowd, Error> {
        Crowd::new(&self.client).await
    }

    pub async fn stop(self) -> Result<(), Error> {
        self.cluster.stop().await
    }
}
