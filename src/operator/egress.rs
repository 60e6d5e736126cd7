//! Rules for connections: the operator's own, and those to sources that tenants name.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Config;

use crate::ecr;
use crate::registry::{AllowedAddress, AllowedRealm, Egress};

/// Addresses and token servers that may be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Private addresses that resources may name as sources.
    pub(crate) allowed: Vec<AllowedAddress>,
    /// Token servers besides the known ones.
    pub(crate) realms: Vec<AllowedRealm>,
}

/// The rules for the connections of the operator and of tenants.
pub(super) struct Egresses {
    pub(super) own: Arc<Egress>,
    pub(super) of_tenants: Egress,
}

impl Egresses {
    pub(super) async fn new(options: Options, cluster: &Config) -> Self {
        let Options { allowed, realms } = options;
        let api_server = api_server(cluster).await;
        let of_tenants = Egress::of_tenants(allowed, &ecr::HOSTS).without(api_server);
        Self {
            own: Arc::new(Egress::trusting().with_realms(realms.clone())),
            of_tenants: of_tenants.with_realms(realms),
        }
    }
}

/// Returns the addresses of the API server, which is no source.
async fn api_server(config: &Config) -> Vec<SocketAddr> {
    let host = config.cluster_url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            // The wait for the cluster reports it.
            tracing::debug!(%error, "cannot resolve the name of the API server");
            Vec::new()
        }
    }
}
