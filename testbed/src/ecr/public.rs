//! public.ecr.aws: everybody may read with an anonymous token; a login of ECR Public's API has a
//! higher rate limit.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use super::errors::{Error, Result};
use super::origin;
use super::quantities::{epoch, random_hex};
use super::shared::Shared;
use super::sigv4::Caller;
use super::token::{Checked, Tokens};
use crate::traffic::Answered;

/// Account of the public registry in this stand-in.
pub(crate) const ACCOUNT: &str = "public";
/// The only region with the API.
pub(crate) const REGION: &str = "us-east-1";
/// Prefix of the requests to ECR Public's API (botocore, `ecr-public/2020-10-30`).
pub(crate) const TARGET: &str = "SpencerFrontendService.";
/// The only call that is implemented, as named in the log.
pub(crate) const TOKEN_CALL: &str = "PublicGetAuthorizationToken";

/// Logins and tokens.
#[derive(Debug)]
pub(crate) struct Public {
    /// Logins of the API.
    logins: Tokens,
    /// Tokens of the token server; their end is not known.
    bearers: Mutex<HashSet<String>>,
}

impl Public {
    pub(crate) fn new() -> Self {
        Self { logins: Tokens::new(), bearers: Mutex::default() }
    }

    fn bearers(&self) -> MutexGuard<'_, HashSet<String>> {
        self.bearers.lock()
    }

    /// Answers GET `/token/`, for a login or anonymously. Scope and service are always the same and
    /// not checked.
    pub(crate) fn token(&self, headers: &HeaderMap) -> Response {
        let login = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if login.is_some() && !matches!(self.logins.check(login), Checked::Valid(_)) {
            // Assumed.
            return refusal(401, "UNAUTHORIZED", "Not Authorized");
        }
        let token = random_hex(200);
        self.bearers().insert(token.clone());
        // Without an end: 60 s by the token specification.
        let mut response = Response::new(Body::from(json!({"token": token}).to_string()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Returns the refusal of a request to `/v2/`, if any. The token of the API is accepted as a
    /// bearer token, too (ECR Public User Guide, registry authentication).
    pub(crate) fn refuse(&self, method: &str, host: &str, headers: &HeaderMap) -> Option<Response> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = given.and_then(|value| value.strip_prefix("Bearer "));
        let is_known = bearer.is_some_and(|token| {
            self.bearers().contains(token)
                || matches!(self.logins.check(Some(&format!("Basic {token}"))), Checked::Valid(_))
        });
        if !is_known {
            let mut response = refusal(401, "DENIED", "Not Authorized");
            // The same message for every repository (awslabs/amazon-ecr-credential-helper's and
            // ggcr's tests).
            let challenge = format!(
                r#"Bearer realm="{}/token/",service="public.ecr.aws",scope="aws""#,
                origin(host)
            );
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            return Some(response);
        }
        // Pushes are refused.
        (!matches!(method, "GET" | "HEAD"))
            .then(|| refusal(405, "UNSUPPORTED", "The operation is unsupported."))
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let mut response = Response::new(Body::from(
        json!({"errors": [{"code": code, "message": message}]}).to_string(),
    ));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.extensions_mut().insert(Answered(code.to_owned()));
    response
}

/// Answers GetAuthorizationToken of ECR Public: one token, not a list; it needs two permissions,
/// neither of them ECR's.
pub(crate) fn authorization_token(shared: &Shared, caller: &Caller) -> Result<Value> {
    if caller.region != REGION {
        // AWS has the API in no other region, so other names do not resolve; this is the message
        // for a wrong scope.
        let message = "Credential should be scoped to a valid region.";
        return Err(Error::api("InvalidSignatureException", message));
    }
    for action in ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"] {
        shared.iam.check_on(caller, action, "*")?;
    }
    let (token, expires) = shared.public.logins.issue(caller.clone());
    Ok(json!({"authorizationData": {"authorizationToken": token, "expiresAt": epoch(expires)}}))
}
