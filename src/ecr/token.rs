//! The registry password of one (account, region): GetAuthorizationToken, shared by all pushes to
//! that registry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use crate::meter::Meter;
use crate::registry::{Authenticator, Credential, Scheme};

/// The password, renewed at half life, and when the registry says that it has expired.
#[derive(Debug)]
pub(super) struct Token {
    client: aws_sdk_ecr::Client,
    account: String,
    region: String,
    meter: Arc<dyn Meter>,
    current: Expiring<(Credential, Scheme)>,
}

impl Token {
    pub(super) fn new(
        client: aws_sdk_ecr::Client,
        account: String,
        region: String,
        meter: Arc<dyn Meter>,
    ) -> Self {
        Self { client, account, region, meter, current: Expiring::default() }
    }

    /// Returns `https`, or the scheme of the endpoint in ECR's answer.
    pub(super) async fn scheme(&self) -> Result<Scheme, Error> {
        Ok(self.get().await?.1)
    }

    async fn get(&self) -> Result<(Credential, Scheme), Error> {
        self.current
            .get(&format!("ECR token of {} in {}", self.account, self.region), self.fetch())
            .await
    }

    async fn fetch(&self) -> Result<Fresh<(Credential, Scheme)>, Error> {
        const OPERATION: &str = "ecr:GetAuthorizationToken";

        let thing = format!("registry {} in {}", self.account, self.region);
        let incomplete = |field| Error::incomplete(OPERATION, &thing, field);
        let answer = self
            .client
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| Error::from_sdk(OPERATION, &thing, &error))?;

        let data =
            answer.authorization_data().first().ok_or_else(|| incomplete("authorizationData"))?;
        let credential = data.authorization_token().and_then(decoded);
        let credential = credential.ok_or_else(|| incomplete("authorizationToken"))?;
        let plain = data.proxy_endpoint().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let end = data.expires_at().and_then(|end| SystemTime::try_from(*end).ok());
        let scheme = if plain { Scheme::Http } else { Scheme::Https };

        // Renewed at half life, as in AWS's own credential helper.
        let fresh = Fresh::new((credential, scheme), end, Duration::MAX);
        self.meter.token_renewed(&self.account, &self.region, fresh.life);
        Ok(fresh)
    }
}

#[async_trait]
impl Authenticator for Token {
    async fn credential(&self) -> Result<Credential, crate::registry::Error> {
        let token = self.get().await.map_err(|error| {
            let host = format!("ECR {} in {}", self.account, self.region);
            crate::registry::Error::Credential { host, class: error.class(), source: error.into() }
        })?;
        Ok(token.0)
    }

    async fn refused(&self, credential: &Credential) {
        self.current.refused(|(current, _)| current == credential).await;
    }
}

/// Decodes an authorization token: `name:password` in base64.
pub(super) fn decoded(token: &str) -> Option<Credential> {
    let pair = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
}
