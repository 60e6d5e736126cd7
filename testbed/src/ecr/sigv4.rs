//! The caller, read from the credential scope of a SigV4 signature. The signature itself is not
//! verified.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::errors::{Error, Result};

/// The caller of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) region: String,
    /// The access key id.
    pub(crate) key: String,
    /// The ARN of the role session that the keys belong to.
    pub(crate) session: Option<String>,
}

impl Caller {
    /// Reads `Credential=AKIA123456789012XXXX/20260101/eu-west-1/ecr/aws4_request`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let header =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(|| {
                Error::api("MissingAuthenticationTokenException", "Missing Authentication Token")
            })?;
        let incomplete = || {
            let message = "Authorization header requires 'Credential' parameter.";
            Error::api("IncompleteSignatureException", message)
        };
        let fields = header.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(incomplete)?;
        let scope = fields
            .split([',', ' '])
            .find_map(|field| field.trim().strip_prefix("Credential="))
            .ok_or_else(incomplete)?;
        let mut parts = scope.split('/');
        let (Some(key), Some(_date), Some(region)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(incomplete());
        };
        let account = account(key).ok_or_else(|| {
            let message = "The security token included in the request is invalid.";
            Error::api("UnrecognizedClientException", message)
        })?;
        Ok(Self {
            account: account.to_owned(),
            region: region.to_owned(),
            key: key.to_owned(),
            session: None,
        })
    }

    /// The assumed role that access denials name.
    pub(crate) fn arn(&self) -> String {
        let user = || {
            format!(
                "arn:{}:sts::{}:assumed-role/testbed/session",
                partition(&self.region),
                self.account
            )
        };
        self.session.clone().unwrap_or_else(user)
    }
}

/// Returns the account of an access key made by [`StandIn::access_key`](super::StandIn::access_key)
/// or by `AssumeRole`.
fn account(key: &str) -> Option<&str> {
    let account = key.strip_prefix("AKIA").or_else(|| key.strip_prefix("ASIA"))?.get(..12)?;
    account.bytes().all(|byte| byte.is_ascii_digit()).then_some(account)
}

/// `aws`, `aws-cn` or `aws-us-gov`.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}
