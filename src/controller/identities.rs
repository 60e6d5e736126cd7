//! The AWS identity of a resource: ServiceAccount and role of its `spec.registry`, read live at
//! every pass.

use std::collections::HashMap;

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount as Account;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use super::api::{ApiError, Cluster, in_time};
use crate::class::Class;
use crate::ecr::{Identity, NoToken, RoleArn, ServiceAccount, ServiceAccountTokens};
use crate::spec::Registry;
use crate::sync::Failure;

/// Annotation of a ServiceAccount, as EKS's own webhook reads it (IRSA).
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";
/// Audience that trust policies of IRSA ask for.
const AUDIENCE: &str = "sts.amazonaws.com";
/// Lifetime of a token: it is exchanged at once, and the API server accepts nothing shorter.
const TOKEN_SECONDS: i64 = 600;

/// Reads identities, and remembers the roles of ServiceAccounts for callers that must not wait for
/// the API server.
pub(super) struct Identities {
    client: Client,
    /// Roles by namespace and name of the ServiceAccount.
    roles: Mutex<HashMap<(String, String), RoleArn>>,
}

impl Identities {
    pub(super) fn new(client: Client) -> Self {
        Self { client, roles: Mutex::default() }
    }

    /// Reads the identity that a resource names.
    pub(super) async fn read(
        &self,
        namespace: &str,
        registry: &Registry,
    ) -> Result<Identity, Failure> {
        let service_account = match &registry.service_account {
            Some(name) => Some(self.service_account(namespace, name).await?),
            None => None,
        };
        Ok(Identity { service_account, role: registry.role.clone() })
    }

    /// Returns the identity as far as it is known without a request; `Err` with the ServiceAccount
    /// whose role is unknown.
    pub(super) fn known(
        &self,
        namespace: &str,
        registry: &Registry,
    ) -> Result<Identity, (String, String)> {
        let role = registry.role.clone();
        let Some(name) = &registry.service_account else {
            return Ok(Identity { service_account: None, role });
        };

        let key = (namespace.to_owned(), name.clone());
        let roles = self.roles.lock();
        match roles.get(&key).cloned() {
            Some(own) => {
                let account = ServiceAccount { namespace: key.0, name: key.1, role: own };
                Ok(Identity { service_account: Some(account), role })
            }
            None => Err(key),
        }
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<ServiceAccount, Failure> {
        let title = format!("ServiceAccount {namespace}/{name} (registry.serviceAccountName)");
        let accounts: Api<Account> = Api::namespaced(self.client.clone(), namespace);
        let account = in_time(accounts.get_metadata_opt(name)).await.map_err(|error| {
            let NoToken { class, message } = refused(&title, "get serviceaccounts", &error);
            Failure::new(class, message)
        })?;

        // A class that is retried soon: with GitOps the account may arrive seconds after the
        // resource.
        let missing =
            |problem: &str| Failure::new(Class::SecretNotFound, format!("{title} {problem}"));
        let account =
            account.ok_or_else(|| missing("does not exist: create it, or correct the name"))?;
        let role = account.annotations().get(ROLE_ANNOTATION).ok_or_else(|| {
            missing(&format!(
                "has no annotation {ROLE_ANNOTATION}: set it to the ARN of the role to assume"
            ))
        })?;
        let role: RoleArn = role.parse().map_err(|error| {
            Failure::new(
                Class::InvalidSpec,
                format!("{title}: annotation {ROLE_ANNOTATION}: {error}"),
            )
        })?;

        let key = (namespace.to_owned(), name.to_owned());
        self.roles.lock().insert(key, role.clone());
        Ok(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned(), role })
    }
}

fn refused(title: &str, right: &str, error: &ApiError) -> NoToken {
    match error {
        error if error.is_forbidden() => NoToken {
            class: Class::AccessDenied,
            message: format!(
                "cannot use {title}: {error}; allow the operator to {right} in this namespace \
                 (docs/iam.md)"
            ),
        },
        _ => NoToken {
            class: Class::RegistryUnavailable,
            message: format!("cannot use {title}: {error}"),
        },
    }
}

#[async_trait]
impl ServiceAccountTokens for Cluster {
    async fn token(&self, account: &ServiceAccount) -> Result<String, NoToken> {
        let ServiceAccount { namespace, name, .. } = account;
        let accounts: Api<Account> = Api::namespaced(self.client.clone(), namespace);

        let spec = TokenRequestSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let title = format!("ServiceAccount {namespace}/{name}");

        let answer =
            in_time(accounts.create_token_request(name, &PostParams::default(), &request)).await;
        let answer =
            answer.map_err(|error| refused(&title, "create serviceaccounts/token", &error))?;

        answer.status.and_then(|status| status.token).ok_or_else(|| NoToken {
            class: Class::Internal,
            message: format!("the API server returned no token for {title}"),
        })
    }
}
