//! The keys of roles that are assumed: sts:AssumeRole and sts:AssumeRoleWithWebIdentity.

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

/// Keys are renewed so long before they end: a request that is signed with the old ones must still
/// arrive.
const AHEAD: Duration = Duration::from_secs(300);

/// Keys of one role, shared by all who use it.
#[derive(Clone, Debug)]
pub(super) struct AssumedRole(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    role: RoleArn,
    session_name: String,
    client: aws_sdk_sts::Client,
    how: How,
    keys: Expiring<Credentials>,
}

/// What STS is shown.
#[derive(Debug)]
enum How {
    /// Keys that may assume the role: the client's.
    Keys {
        /// Comes first: its errors say more than the SDK's.
        from: Option<AssumedRole>,
        external_id: Option<String>,
    },
    /// A token of the cluster; the client's keys do not matter.
    Token { account: ServiceAccount, tokens: Arc<dyn ServiceAccountTokens> },
}

impl AssumedRole {
    /// The role of a ServiceAccount.
    pub(super) fn by_token(
        sts: aws_sdk_sts::config::Builder,
        account: ServiceAccount,
        tokens: Arc<dyn ServiceAccountTokens>,
        session_name: String,
    ) -> Self {
        let client = aws_sdk_sts::Client::from_conf(sts.build());
        let role = account.role.clone();
        let how = How::Token { account, tokens };
        Self(Arc::new(Inner { role, session_name, client, how, keys: Expiring::default() }))
    }

    /// A role that the operator, or the role `from`, may assume.
    pub(super) fn by_keys(
        sts: aws_sdk_sts::config::Builder,
        from: Option<Self>,
        role: RoleArn,
        external_id: Option<String>,
        session_name: String,
    ) -> Self {
        let sts = match &from {
            Some(from) => {
                sts.credentials_provider(from.clone()).identity_cache(IdentityCache::no_cache())
            }
            None => sts,
        };
        let client = aws_sdk_sts::Client::from_conf(sts.build());
        let how = How::Keys { from, external_id };
        Self(Arc::new(Inner { role, session_name, client, how, keys: Expiring::default() }))
    }

    /// The keys.
    ///
    /// # Errors
    /// As STS answers.
    pub(super) async fn keys(&self) -> Result<Credentials, Error> {
        let inner = &self.0;
        inner.keys.get(&format!("keys of {}", inner.role), inner.fetch()).await
    }
}

impl Inner {
    // Boxed: a role may be assumed from another.
    fn fetch(&self) -> futures::future::BoxFuture<'_, Result<Fresh<Credentials>, Error>> {
        Box::pin(async move {
            let (operation, answer) = match &self.how {
                How::Keys { from, external_id } => {
                    const OPERATION: &str = "sts:AssumeRole";
                    if let Some(from) = from {
                        from.keys().await?;
                    }
                    let call = self.client.assume_role().role_arn(self.role.as_str());
                    let call = call
                        .role_session_name(&self.session_name)
                        .set_external_id(external_id.clone());
                    let answer = call.send().await;
                    let answer = answer.map_err(|error| {
                        let hint = if external_id.is_some() {
                            " (with the externalId of the operator's roles file)"
                        } else {
                            " (without externalId: the operator's roles file has none for it)"
                        };
                        Error::from_sdk(OPERATION, &format!("{}{hint}", self.role), &error)
                    })?;
                    (OPERATION, answer.credentials)
                }
                How::Token { account, tokens } => {
                    const OPERATION: &str = "sts:AssumeRoleWithWebIdentity";
                    let token = tokens.token(account).await?;
                    let call =
                        self.client.assume_role_with_web_identity().role_arn(self.role.as_str());
                    let answer = call
                        .role_session_name(&self.session_name)
                        .web_identity_token(token)
                        .send()
                        .await;
                    let answer = answer.map_err(|error| {
                        let ServiceAccount { namespace, name, role } = account;
                        let thing = format!("{role} for ServiceAccount {namespace}/{name}");
                        Error::from_sdk(OPERATION, &thing, &error)
                    })?;
                    (OPERATION, answer.credentials)
                }
            };
            let keys = answer.ok_or_else(|| Error::Incomplete {
                operation,
                thing: self.role.to_string(),
                field: "Credentials",
            })?;
            Ok(fresh(&keys))
        })
    }
}

fn fresh(answer: &Answer) -> Fresh<Credentials> {
    let end = SystemTime::try_from(*answer.expiration()).ok();
    let token = Some(answer.session_token().to_owned());
    let keys = Credentials::new(
        answer.access_key_id(),
        answer.secret_access_key(),
        token,
        end,
        "ecr-sync",
    );
    Fresh::new(keys, end, AHEAD)
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.keys().await.map_err(CredentialsError::provider_error)
        })
    }
}
