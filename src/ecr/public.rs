//! public.ecr.aws: the login of an AWS identity. It has higher limits than anonymous pulls (10
//! pulls per second, no quota of bytes per IP address). If there is no login, pulls are anonymous.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use crate::class::Class;
use crate::meter::Meter;
use crate::registry::{Authenticator, Credential};

/// The only region that has the API (amazon-ecr-credential-helper, `ecr-login/api/factory.go`).
pub(super) const REGION: &str = "us-east-1";

/// Whether this is one of the two host names of ECR's public registry.
#[must_use]
pub(crate) fn is_public(host: &str) -> bool {
    ["public.ecr.aws", "ecr-public.aws.com"].iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// The password of one identity, renewed at half life like that of private registries.
pub(super) struct PublicLogin {
    client: aws_sdk_ecrpublic::Client,
    meter: Arc<dyn Meter>,
    current: Expiring<String>,
    /// Time of the next attempt after AWS gave no login; pulls are anonymous until then.
    anonymous_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for PublicLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicLogin")
    }
}

impl PublicLogin {
    pub(super) fn new(client: aws_sdk_ecrpublic::Client, meter: Arc<dyn Meter>) -> Self {
        Self { client, meter, current: Expiring::default(), anonymous_until: Mutex::default() }
    }

    async fn fetch(&self) -> Result<Fresh<String>, Error> {
        const OPERATION: &str = "ecr-public:GetAuthorizationToken";
        const THING: &str = "public.ecr.aws";

        let incomplete =
            |field| Error::Incomplete { operation: OPERATION, thing: THING.to_owned(), field };
        let answer = self.client.get_authorization_token().send().await;
        let answer = answer.map_err(|error| Error::from_sdk(OPERATION, THING, &error))?;
        let data = answer.authorization_data().ok_or_else(|| incomplete("authorizationData"))?;
        let encoded = data.authorization_token().ok_or_else(|| incomplete("authorizationToken"))?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let password = decoded.as_deref().and_then(|pair| pair.strip_prefix("AWS:"));

        let password = password.ok_or_else(|| incomplete("authorizationToken"))?.to_owned();
        let expiry = data.expires_at().and_then(|at| SystemTime::try_from(*at).ok());

        let fresh = Fresh::new(password, expiry, Duration::MAX);
        self.meter.token_renewed("public", REGION, fresh.life);
        Ok(fresh)
    }
}

#[async_trait]
impl Authenticator for PublicLogin {
    /// Returns the login, or the anonymous credential if AWS gives none: public images can be read
    /// without a login.
    async fn credential(&self) -> Result<Credential, crate::registry::Error> {
        /// A missing permission is not granted within a minute, and each request is one more denial
        /// in somebody's audit log.
        const RETRY_DENIED: Duration = Duration::from_secs(60 * 60);
        const RETRY_UNANSWERED: Duration = Duration::from_secs(60);

        if self.anonymous_until.lock().is_some_and(|until| Instant::now() < until) {
            return Ok(Credential::Anonymous);
        }

        match self.current.get("login of public.ecr.aws", self.fetch()).await {
            Ok(password) => Ok(Credential::Basic { username: "AWS".to_owned(), password }),
            Err(error) => {
                let wait = match error.class() {
                    Class::RegistryUnavailable | Class::RateLimited => RETRY_UNANSWERED,
                    _ => RETRY_DENIED,
                };
                let mut until = self.anonymous_until.lock();
                // Only one of the callers that waited for this answer logs it.
                if until.is_none_or(|until| until <= Instant::now()) {
                    tracing::warn!(
                        %error,
                        "no login to public.ecr.aws, pulling anonymously: allow \
                         ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken, or leave \
                         out --public-ecr-login"
                    );
                    *until = Some(Instant::now() + wait);
                }
                Ok(Credential::Anonymous)
            }
        }
    }

    async fn refused(&self, credential: &Credential) {
        let Credential::Basic { password, .. } = credential else { return };
        self.current.refused(|current| current == password).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_the_public_registry_are_known() {
        for (host, public) in [
            ("public.ecr.aws", true),
            ("Public.ECR.aws", true),
            ("ecr-public.aws.com", true),
            ("public.ecr.aws.evil.example", false),
            ("public.ecr.aws:8080", false),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", false),
        ] {
            assert_eq!(is_public(host), public, "{host}");
        }
    }
}
