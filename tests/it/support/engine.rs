//! The engine without a controller: a pass as the operator runs it.

use std::collections::BTreeMap;

use ecr_sync::api::v1alpha1::AdoptionPolicy;
use ecr_sync::ecr::{Identity, Owner};
use ecr_sync::registry::{Transport, TransportOptions};
use ecr_sync::spec;
use ecr_sync::sync::{
    Access, Accesses, Bounds, Claim, Claimant, Earlier, Engine, Job, OwnerRules, Progress,
};
use serde_json::Value;
use testbed::ecr::StandIn;

use super::session;

/// An engine of the stand-in's default user.
pub fn engine(ecr: &StandIn) -> Engine {
    let transport = Transport::new(&TransportOptions::default()).expect("a transport");
    Engine::new(session(ecr, transport.clone()), transport, None, Bounds::default())
}

/// The job of a resource `app` with this spec, whose sources need no login.
pub fn job(spec: &Value, earlier: Earlier) -> Job {
    let owner =
        Owner { cluster: "cluster".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
    let (adoption, rules) = (AdoptionPolicy::IfUnowned, OwnerRules::default());
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    Job {
        spec: spec::parse("app", &spec).expect("no violations"),
        identity: Ok(Identity::default()),
        claimant: Claimant::Resource(Claim { owner, adoption, rules, recorded: None }),
        access: Accesses { image: Ok(Access::default()), chart: Ok(Access::default()) },
        mirrored: None,
        chart_source: None,
        derived: BTreeMap::new(),
        earlier,
        progress: Progress::default(),
    }
}
