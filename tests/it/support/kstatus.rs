//! The rules of kstatus (kubernetes-sigs/cli-utils, `pkg/kstatus/status/generic.go`), with which
//! kubectl plugins, Flux and others wait for a resource.

use ecr_sync::api::v1alpha1::EcrRepositorySync;

/// The results of kstatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    InProgress,
    Failed,
    Current,
    Terminating,
}

/// The rules of `checkGenericProperties`, in their order.
pub fn kstatus(object: &EcrRepositorySync) -> Kstatus {
    if object.metadata.deletion_timestamp.is_some() {
        return Kstatus::Terminating;
    }
    let status = object.status.clone().unwrap_or_default();
    if status
        .observed_generation
        .is_some_and(|observed| Some(observed) != object.metadata.generation)
    {
        return Kstatus::InProgress;
    }
    let is = |type_: &str| {
        status.conditions.iter().find(|c| c.type_ == type_).map(|c| c.status.as_str())
    };
    match (is("Reconciling"), is("Stalled"), is("Ready")) {
        (Some("True"), _, _) => Kstatus::InProgress,
        (_, Some("True"), _) => Kstatus::Failed,
        (_, _, Some("False" | "Unknown")) => Kstatus::InProgress,
        _ => Kstatus::Current,
    }
}
