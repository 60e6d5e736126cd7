//! public.ecr.aws: everybody may read, with a token that everybody gets; who shows a login of ECR
//! Public's API reads more.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::errors::{Error, Result};
use super::quantities::{epoch, random_hex};
use super::shared::Shared;
use super::sigv4::Caller;
use super::token::{Checked, Tokens};
use crate::traffic::Answered;

/// Its place among the registries of accounts.
pub(crate) const ACCOUNT: &str = "public";
/// The only region with the API.
pub(crate) const REGION: &str = "us-east-1";
/// What the requests of ECR Public's API begin with (botocore, `ecr-public/2020-10-30`).
pub(crate) const TARGET: &str = "SpencerFrontendService.";
/// The only call that is known here, as the log has it.
pub(crate) const TOKEN_CALL: &str = "PublicGetAuthorizationToken";

/// Who may read.
#[derive(Debug)]
pub(crate) struct Public {
    /// Logins of the API.
    logins: Tokens,
    /// Tokens of the token server; nothing is known of their end.
    bearers: Mutex<HashSet<String>>,
}

impl Public {
    pub(crate) fn new() -> Self {
        Self { logins: Tokens::new(), bearers: Mutex::default() }
    }

    fn bearers(&self) -> MutexGuard<'_, HashSet<String>> {
        self.bearers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// GET `/token/`: for a login, or for nobody in particular. Scope and service are not looked
    /// at: both are always the same.
    pub(crate) fn token(&self, headers: &HeaderMap) -> Response {
        let login = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if login.is_some() && !matches!(self.logins.check(login), Checked::Valid(_)) {
            // Assumed.
            return refusal(401, "UNAUTHORIZED", "Not Authorized");
        }
        let token = random_hex(200);
        self.bearers().insert(token.clone());
        // It names no end: 60 s by the token specification.
        let mut response = Response::new(Body::from(json!({"token": token}).to_string()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Why a request to `/v2/` is refused, if it is. Its own API's token is taken as a bearer token
    /// too (ECR Public User Guide, registry authentication).
    pub(crate) fn refuse(&self, method: &str, host: &str, headers: &HeaderMap) -> Option<Response> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = given.and_then(|value| value.strip_prefix("Bearer "));
        let is_known = bearer.is_some_and(|token| {
            self.bearers().contains(token)
                || matches!(self.logins.check(Some(&format!("Basic {token}"))), Checked::Valid(_))
        });
        if !is_known {
            let mut response = refusal(401, "DENIED", "Not Authorized");
            // The same words for every repository (awslabs/amazon-ecr-credential-helper's and
            // ggcr's tests).
            let challenge = format!(
                r#"Bearer realm="http://{host}/token/",service="public.ecr.aws",scope="aws""#
            );
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            return Some(response);
        }
        // Nobody pushes here.
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

/// GetAuthorizationToken of ECR Public: one token, not a list; two rights, neither of them ECR's.
pub(crate) fn authorization_token(shared: &Shared, caller: &Caller) -> Result<Value> {
    if caller.region != REGION {
        // AWS has the API nowhere else, so that no other region's name resolves; these are its
        // words for a wrong scope.
        let message = "Credential should be scoped to a valid region.";
        return Err(Error::api("InvalidSignatureException", message));
    }
    for action in ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"] {
        shared.iam.check_on(caller, action, "*")?;
    }
    let (token, expires) = shared.public.logins.issue(caller.clone());
    Ok(json!({"authorizationData": {"authorizationToken": token, "expiresAt": epoch(expires)}}))
}
