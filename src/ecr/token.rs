//! The registry password of one (account, region): GetAuthorizationToken, shared by all pushes to
//! that registry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use crate::meter::Meter;
use crate::registry::{Authenticator, Credential, Scheme};

/// The password, renewed at half life, and when the registry says that it has expired.
pub(super) struct Token {
    client: aws_sdk_ecr::Client,
    account: String,
    region: String,
    meter: Arc<dyn Meter>,
    current: Expiring<Current>,
}

#[derive(Clone)]
struct Current {
    username: String,
    password: String,
    scheme: Scheme,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({} {})", self.account, self.region)
    }
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
        Ok(self.get().await?.scheme)
    }

    async fn get(&self) -> Result<Current, Error> {
        self.current
            .get(&format!("ECR token of {} in {}", self.account, self.region), self.fetch())
            .await
    }

    async fn fetch(&self) -> Result<Fresh<Current>, Error> {
        const OPERATION: &str = "ecr:GetAuthorizationToken";

        let thing = format!("registry {} in {}", self.account, self.region);
        let incomplete =
            |field| Error::Incomplete { operation: OPERATION, thing: thing.clone(), field };
        let answer = self
            .client
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| Error::from_sdk(OPERATION, &thing, &error))?;

        let data =
            answer.authorization_data().first().ok_or_else(|| incomplete("authorizationData"))?;
        let encoded = data.authorization_token().ok_or_else(|| incomplete("authorizationToken"))?;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| incomplete("authorizationToken"))?;
        let (username, password) =
            decoded.split_once(':').ok_or_else(|| incomplete("authorizationToken"))?;

        let plain = data.proxy_endpoint().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let end = data.expires_at().and_then(|end| SystemTime::try_from(*end).ok());
        let current = Current {
            username: username.to_owned(),
            password: password.to_owned(),
            scheme: if plain { Scheme::Http } else { Scheme::Https },
        };

        // Renewed at half life, as in AWS's own credential helper.
        let fresh = Fresh::new(current, end, Duration::MAX);
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
        Ok(Credential::Basic { username: token.username, password: token.password })
    }

    async fn refused(&self, credential: &Credential) {
        let Credential::Basic { password, .. } = credential else { return };
        self.current.refused(|current| current.password == *password).await;
    }
}
