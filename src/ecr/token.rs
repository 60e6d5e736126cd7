//! The registry password of one (account, region): GetAuthorizationToken, shared by everything that pushes there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_ecr::primitives::DateTime;
use base64::Engine;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;
use crate::meter::Meter;
use crate::registry::{Authenticator, Credential, Scheme};

/// Tokens live 12 hours. One that says it ends sooner, or in the past, is not renewed more often than this: a loop
/// keyed on the expiry alone would spin.
const LEAST_LIFE: Duration = Duration::from_secs(60);

/// The password, renewed at half life and whenever the registry says that it has expired.
pub(super) struct Token {
    client: aws_sdk_ecr::Client,
    account: String,
    region: String,
    meter: Arc<dyn Meter>,
    /// Held across the request: callers that come meanwhile wait for its answer instead of asking again.
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    username: String,
    password: String,
    scheme: Scheme,
    renew_at: Instant,
    ends_at: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({} {})", self.account, self.region)
    }
}

impl Token {
    pub(super) fn new(client: aws_sdk_ecr::Client, account: String, region: String, meter: Arc<dyn Meter>) -> Self {
        Self { client, account, region, meter, current: Mutex::new(None) }
    }

    /// `https`, or what the endpoint in use says.
    pub(super) async fn scheme(&self) -> Result<Scheme, Error> {
        Ok(self.get().await?.scheme)
    }

    async fn get(&self) -> Result<Current, Error> {
        let mut current = self.current.lock().await;
        let now = Instant::now();
        if let Some(token) = current.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.clone());
        }
        match self.fetch().await {
            Ok(token) => {
                tracing::debug!(account = self.account, region = self.region, "new ECR authorization token");
                self.meter.token_renewed(&self.account, &self.region, token.ends_at.duration_since(now));
                Ok(current.insert(token).clone())
            }
            // Half of its life is left for trying again.
            Err(error) => match current.as_mut().filter(|token| now < token.ends_at) {
                Some(token) => {
                    tracing::warn!(account = self.account, region = self.region, %error, "cannot renew the ECR token yet");
                    token.renew_at = now + LEAST_LIFE;
                    Ok(token.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn fetch(&self) -> Result<Current, Error> {
        const OPERATION: &str = "ecr:GetAuthorizationToken";
        let thing = format!("registry {} in {}", self.account, self.region);
        let incomplete = |field| Error::Incomplete { operation: OPERATION, thing: thing.clone(), field };
        let answer = self
            .client
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| Error::from_sdk(OPERATION, &thing, &error))?;
        let data = answer.authorization_data().first().ok_or_else(|| incomplete("authorizationData"))?;
        let encoded = data.authorization_token().ok_or_else(|| incomplete("authorizationToken"))?;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| incomplete("authorizationToken"))?;
        let (username, password) = decoded.split_once(':').ok_or_else(|| incomplete("authorizationToken"))?;
        let plain = data.proxy_endpoint().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let life = data.expires_at().map_or(LEAST_LIFE, |ends| {
            let left = ends.as_secs_f64() - DateTime::from(SystemTime::now()).as_secs_f64();
            Duration::try_from_secs_f64(left).unwrap_or_default().max(LEAST_LIFE)
        });
        let fetched = Instant::now();
        Ok(Current {
            username: username.to_owned(),
            password: password.to_owned(),
            scheme: if plain { Scheme::Http } else { Scheme::Https },
            renew_at: fetched + life / 2,
            ends_at: fetched + life,
        })
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
        let mut current = self.current.lock().await;
        let same = current.as_ref().is_some_and(
            |token| matches!(credential, Credential::Basic { password, .. } if *password == token.password),
        );
        if same {
            *current = None;
        }
    }
}
