//! public.ecr.aws: the login of an AWS identity. It has higher limits than anonymous pulls (10
//! pulls per second, no quota of bytes per IP address). If there is no login, pulls are anonymous.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use super::token::decoded;
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
#[derive(Debug)]
pub(super) struct PublicLogin {
    client: aws_sdk_ecrpublic::Client,
    meter: Arc<dyn Meter>,
    current: Expiring<Credential>,
    /// Time of the next attempt after AWS gave no login; pulls are anonymous until then.
    anonymous_until: Mutex<Option<Instant>>,
}

impl PublicLogin {
    pub(super) fn new(client: aws_sdk_ecrpublic::Client, meter: Arc<dyn Meter>) -> Self {
        Self { client, meter, current: Expiring::default(), anonymous_until: Mutex::default() }
    }

    async fn fetch(&self) -> Result<Fresh<Credential>, Error> {
        const OPERATION: &str = "ecr-public:GetAuthorizationToken";
        const THING: &str = "public.ecr.aws";

        let incomplete = |field| Error::incomplete(OPERATION, THING, field);
        let answer = self.client.get_authorization_token().send().await;
        let answer = answer.map_err(|error| Error::from_sdk(OPERATION, THING, &error))?;
        let data = answer.authorization_data().ok_or_else(|| incomplete("authorizationData"))?;
        let credential = data.authorization_token().and_then(decoded);
        let credential = credential.ok_or_else(|| incomplete("authorizationToken"))?;
        let expiry = data.expires_at().and_then(|at| SystemTime::try_from(*at).ok());

        let fresh = Fresh::new(credential, expiry, Duration::MAX);
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
            Ok(credential) => Ok(credential),
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
        self.current.refused(|current| current == credential).await;
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
