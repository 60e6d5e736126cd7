//! public.ecr.aws: the login of an AWS identity. It allows more than reading without one does (10
//! pulls a second and no limit of bytes per address), and reading without one is always the way
//! out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine;
use tokio::time::Instant;

use super::error::Error;
use super::expiring::{Expiring, Fresh};
use crate::class::Class;
use crate::meter::Meter;
use crate::registry::{Authenticator, Credential};

/// The only region that has the API (amazon-ecr-credential-helper, `ecr-login/api/factory.go`).
pub(super) const REGION: &str = "us-east-1";

/// Whether this is ECR's public registry, by one of its names.
#[must_use]
pub fn is_public(host: &str) -> bool {
    ["public.ecr.aws", "ecr-public.aws.com"].iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// The password of one identity, renewed as that of private registries.
pub(super) struct PublicLogin {
    client: aws_sdk_ecrpublic::Client,
    meter: Arc<dyn Meter>,
    current: Expiring<String>,
    /// Until when it is not asked for again, since it was not given.
    without: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for PublicLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicLogin")
    }
}

impl PublicLogin {
    pub(super) fn new(client: aws_sdk_ecrpublic::Client, meter: Arc<dyn Meter>) -> Self {
        Self { client, meter, current: Expiring::default(), without: Mutex::default() }
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
        let end = data.expires_at().and_then(|end| SystemTime::try_from(*end).ok());
        let fresh = Fresh::new(password, end, Duration::MAX);
        self.meter.token_renewed("public", REGION, fresh.life);
        Ok(fresh)
    }

    fn without(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.without.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Authenticator for PublicLogin {
    /// Nobody in particular, where no login is to be had: what is public can be read all the same.
    async fn credential(&self) -> Result<Credential, crate::registry::Error> {
        /// A right that is missing is not given in a minute, and each question is a refusal in
        /// somebody's audit log.
        const REFUSED: Duration = Duration::from_secs(60 * 60);
        const UNANSWERED: Duration = Duration::from_secs(60);
        if self.without().is_some_and(|until| Instant::now() < until) {
            return Ok(Credential::Anonymous);
        }
        match self.current.get("login of public.ecr.aws", self.fetch()).await {
            Ok(password) => Ok(Credential::Basic { username: "AWS".to_owned(), password }),
            Err(error) => {
                let passes =
                    matches!(error.class(), Class::RegistryUnavailable | Class::RateLimited);
                let mut until = self.without();
                // Of those who waited for the same answer one tells.
                if until.is_none_or(|until| until <= Instant::now()) {
                    tracing::warn!(
                        %error,
                        "public.ecr.aws is read without a login: allow ecr-public:GetAuthorizationToken and \
                         sts:GetServiceBearerToken, or leave out --public-ecr-login"
                    );
                    *until = Some(Instant::now() + if passes { UNANSWERED } else { REFUSED });
                }
                Ok(Credential::Anonymous)
            }
        }
    }

    async fn refused(&self, credential: &Credential) {
        let same = |ours: &String| matches!(credential, Credential::Basic { password, .. } if password == ours);
        self.current.refused(same).await;
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
