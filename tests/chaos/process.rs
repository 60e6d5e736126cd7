//! The engine with everything that it keeps in memory. Dropping it is a kill.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use serde_json::Value;
use testbed::ecr::StandIn;
use tokio_util::sync::CancellationToken;

use super::network::{Line, Network};
use super::world::{ACCOUNT, REGION, World};
use crate::api::v1alpha1::AdoptionPolicy;
use crate::ecr::{self, Identity, Owner};
use crate::meter::Silent;
use crate::registry::{Egress, Transport};
use crate::spec;
use crate::sync::{
    Access, Accesses, Bounds, Claim, Claimant, Earlier, Engine, Job, Mode, OwnerLookup, OwnerRules,
    Progress, Report,
};

/// The engine without a controller, as the command line uses it.
pub(super) struct Process {
    engine: Engine,
}

/// An engine whose requests go over a line.
pub(super) fn engine(world: &World, line: &Line, owners: Option<Arc<dyn OwnerLookup>>) -> Engine {
    let network = Network { ecr: world.ecr.clone(), line: line.clone() };
    let egress = Arc::new(Egress::default());
    let transport = Transport::over(Arc::new(network.clone()), &egress);
    let keys = Credentials::new(StandIn::access_key(ACCOUNT), "any", None, None, "chaos");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .region(Region::new(REGION))
        .http_client(network)
        .build();
    let options = ecr::Options::default();
    let aws = ecr::Session::new(sdk, options, transport.clone(), Arc::new(Silent), None);
    Engine::new(aws, transport.clone(), egress, owners, Bounds::default()).with_sources(transport)
}

impl Process {
    pub(super) fn start(world: &World) -> Self {
        Self { engine: engine(world, &Line::default(), None) }
    }

    /// Runs a pass over the repository `app`.
    pub(super) async fn pass(&self, spec: &Value, stop: &CancellationToken) -> Report {
        self.engine.sync(&job(spec), Mode::Apply, stop).await
    }
}

/// The job of a resource `app`.
fn job(spec: &Value) -> Job {
    let owner =
        Owner { cluster: "cluster".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
    let access = Accesses { image: Ok(Access::anonymous(false)), chart: Ok(Access::default()) };
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    Job {
        spec: spec::parse("app", &spec).expect("no violations"),
        identity: Ok(Identity::default()),
        claimant: Claimant::Resource(Claim {
            owner,
            generation: 1,
            adoption: AdoptionPolicy::IfUnowned,
            may_adopt: true,
            rules: OwnerRules::default(),
            recorded: None,
        }),
        access,
        mirrored: None,
        chart_source: None,
        derived: BTreeMap::new(),
        earlier: Earlier::default(),
        progress: Progress::default(),
    }
}
