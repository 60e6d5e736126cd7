//! Credentials of assumed roles: sts:AssumeRole and sts:AssumeRoleWithWebIdentity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_ecr::config::{Credentials, IdentityCache};
use aws_sdk_sts::types::Credentials as Answer;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use super::identity::{ServiceAccount, ServiceAccountTokens};
use super::role::RoleArn;

/// Time between renewal and expiry: a request that was signed with the old credentials must still
/// arrive.
const AHEAD: Duration = Duration::from_secs(300);

/// One assumed role. Clones share its credentials.
#[derive(Clone, Debug)]
pub(super) struct AssumedRole(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    role: RoleArn,
    session_name: String,
    client: aws_sdk_sts::Client,
    proof: Proof,
    credentials: Expiring<Credentials>,
}

/// Proof of identity for STS.
#[derive(Debug)]
pub(super) enum Proof {
    /// The client's credentials, which may assume the role.
    Credentials {
        /// Assumed first: its errors say more than the SDK's.
        from: Option<AssumedRole>,
        external_id: Option<String>,
    },
    /// A ServiceAccount token of the cluster; the client's credentials do not matter.
    Token { account: ServiceAccount, tokens: Arc<dyn ServiceAccountTokens> },
}

impl AssumedRole {
    /// The role of a ServiceAccount, or one that the operator or another role may assume.
    pub(super) fn new(
        sts: aws_sdk_sts::config::Builder,
        role: RoleArn,
        session_name: String,
        proof: Proof,
    ) -> Self {
        let sts = match &proof {
            Proof::Credentials { from: Some(from), .. } => {
                sts.credentials_provider(from.clone()).identity_cache(IdentityCache::no_cache())
            }
            Proof::Credentials { from: None, .. } | Proof::Token { .. } => sts,
        };
        let client = aws_sdk_sts::Client::from_conf(sts.build());

        let credentials = Expiring::default();
        Self(Arc::new(Inner { role, session_name, client, proof, credentials }))
    }

    /// Returns the role's credentials.
    ///
    /// # Errors
    /// As STS answers.
    pub(super) async fn credentials(&self) -> Result<Credentials, Error> {
        let inner = &self.0;
        inner.credentials.get(&format!("credentials of {}", inner.role), inner.fetch()).await
    }
}

impl Inner {
    /// Boxed: a role may be assumed from another.
    fn fetch(&self) -> futures::future::BoxFuture<'_, Result<Fresh<Credentials>, Error>> {
        Box::pin(async move {
            let (operation, answer) = match &self.proof {
                Proof::Credentials { from, external_id } => {
                    const OPERATION: &str = "sts:AssumeRole";
                    if let Some(from) = from {
                        from.credentials().await?;
                    }

                    let call = self
                        .client
                        .assume_role()
                        .role_arn(self.role.as_str())
                        .role_session_name(&self.session_name)
                        .set_external_id(external_id.clone());
                    let answer = call.send().await.map_err(|error| {
                        let hint = if external_id.is_some() {
                            " (with the externalId of the operator's roles file)"
                        } else {
                            " (without externalId: the operator's roles file has none for it)"
                        };
                        Error::from_sdk(OPERATION, &format!("{}{hint}", self.role), &error)
                    })?;
                    (OPERATION, answer.credentials)
                }
                Proof::Token { account, tokens } => {
                    const OPERATION: &str = "sts:AssumeRoleWithWebIdentity";
                    let token = tokens.token(account).await?;

                    let call = self
                        .client
                        .assume_role_with_web_identity()
                        .role_arn(self.role.as_str())
                        .role_session_name(&self.session_name)
                        .web_identity_token(token);
                    let answer = call.send().await.map_err(|error| {
                        let ServiceAccount { namespace, name, role } = account;
                        let thing = format!("{role} for ServiceAccount {namespace}/{name}");
                        Error::from_sdk(OPERATION, &thing, &error)
                    })?;
                    (OPERATION, answer.credentials)
                }
            };

            let credentials = answer
                .ok_or_else(|| Error::incomplete(operation, self.role.as_str(), "Credentials"))?;
            Ok(fresh(&credentials))
        })
    }
}

fn fresh(answer: &Answer) -> Fresh<Credentials> {
    let expiry = SystemTime::try_from(*answer.expiration()).ok();
    let credentials = Credentials::new(
        answer.access_key_id(),
        answer.secret_access_key(),
        Some(answer.session_token().to_owned()),
        expiry,
        "ecr-sync",
    );

    Fresh::new(credentials, expiry, AHEAD)
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}
