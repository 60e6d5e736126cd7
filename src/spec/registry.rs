//! `spec.registry`: the account and region of the repository, and the identity that works on it.

use super::Violations;
use super::grammar::{is_account_id, is_object_name, is_region};
use crate::api::v1alpha1;
use crate::ecr::{Location, RoleArn};

/// An ECR registry, and the identity that is used there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// Account and region; the operator's own where they are absent.
    pub(crate) location: Location,
    /// The role that is assumed for all work in ECR.
    pub(crate) role: Option<RoleArn>,
    /// The ServiceAccount whose role replaces the operator's identity.
    pub(crate) service_account: Option<String>,
}

impl Registry {
    /// The registry of a spec that may be wrong. A role that cannot be parsed counts as absent: it
    /// is reported elsewhere.
    pub(crate) fn of(registry: Option<&v1alpha1::Registry>) -> Self {
        parse(registry, &mut Violations::default())
    }
}

pub(super) fn parse(
    registry: Option<&v1alpha1::Registry>,
    violations: &mut Violations,
) -> Registry {
    let Some(registry) = registry else { return Registry::default() };
    let v1alpha1::Registry { account_id, region, role_arn, service_account_name } = registry;

    if let Some(account) = account_id.as_ref().filter(|account| !is_account_id(account)) {
        let message =
            format!("{account:?} is not an AWS account id: write its 12 digits, in quotes");
        violations.push("registry.accountId", message);
    }
    if let Some(region) = region.as_ref().filter(|region| !is_region(region)) {
        let message = format!("{region:?} is not an AWS region: write for example eu-west-1");
        violations.push("registry.region", message);
    }
    let role = role_arn.as_deref().map(str::parse::<RoleArn>);
    let role = role.and_then(|role| violations.take("registry.roleArn", role));
    if let Some(name) = service_account_name.as_ref().filter(|name| !is_object_name(name)) {
        let message = format!("{name:?} is not the name of a ServiceAccount");
        violations.push("registry.serviceAccountName", message);
    }

    Registry {
        location: Location { account: account_id.clone(), region: region.clone() },
        role,
        service_account: service_account_name.clone(),
    }
}
