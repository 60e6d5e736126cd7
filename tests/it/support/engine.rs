//! The engine without a controller: a pass as the operator runs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecr_sync::api::v1alpha1::AdoptionPolicy;
use ecr_sync::ecr::{Identity, Owner};
use ecr_sync::registry::{Egress, Transport, TransportOptions};
use ecr_sync::spec;
use ecr_sync::sync::{
    Access, Accesses, Bounds, Claim, Claimant, Earlier, Engine, Job, OwnerRules, Progress,
};
use serde_json::Value;
use testbed::ecr::StandIn;

use super::session;

/// An engine of the stand-in's default user.
pub fn engine(ecr: &StandIn) -> Engine {
    // The sources of tests are on this machine.
    let egress = Arc::new(Egress::trusting());
    let transport = Transport::new(&TransportOptions::default(), &egress).expect("a transport");
    Engine::new(session(ecr, transport.clone()), transport, egress, None, Bounds::default())
}

/// The job of a resource `app` with this spec, whose sources need no login.
pub fn job(spec: &Value, earlier: Earlier) -> Job {
    let owner =
        Owner { cluster: "cluster".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
    let (adoption, rules) = (AdoptionPolicy::IfUnowned, OwnerRules::default());
    let is_insecure = |source: &str| spec[source]["insecure"] == true;
    let access = |source| Ok(Access::anonymous(is_insecure(source)));
    let access = Accesses { image: access("image"), chart: access("chart") };
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    Job {
        spec: spec::parse("app", &spec).expect("no violations"),
        identity: Ok(Identity::default()),
        claimant: Claimant::Resource(Claim {
            owner,
            generation: 1,
            adoption,
            may_adopt: true,
            rules,
            recorded: None,
        }),
        access,
        mirrored: None,
        chart_source: None,
        derived: BTreeMap::new(),
        earlier,
        progress: Progress::default(),
    }
}
