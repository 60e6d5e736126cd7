//! Errors with ECR's codes and messages, as both planes send them.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;

use crate::traffic::Answered;

/// A refusal: status, code, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Returns a client error of the control plane, where all have HTTP status 400.
    pub(crate) fn api(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// `Invalid parameter at 'NAME' failed to satisfy constraint: 'RULE'`.
    pub(crate) fn invalid(parameter: &str, rule: impl std::fmt::Display) -> Self {
        let message =
            format!("Invalid parameter at '{parameter}' failed to satisfy constraint: '{rule}'");
        Self::api("InvalidParameterException", message)
    }

    pub(crate) fn no_repository(name: &str, account: &str) -> Self {
        let message = format!(
            "The repository with name '{name}' does not exist in the registry with id '{account}'"
        );
        Self::api("RepositoryNotFoundException", message)
    }

    /// Returns the answer of the JSON API. The front of the API writes `Message`, the service
    /// `message`, and an unknown operation has no message at all: a client has to read all three.
    pub(crate) fn control(&self) -> Response {
        let body = match self.code {
            "UnknownOperationException" => json!({"__type": self.code}),
            "AccessDeniedException" => json!({"__type": self.code, "Message": self.message}),
            _ => json!({"__type": self.code, "message": self.message}),
        };
        self.answer("application/x-amz-json-1.1", body.to_string())
    }

    /// Returns the answer of the registry API: the same error with its OCI code.
    pub(crate) fn data(&self) -> Response {
        let (status, code) = match self.code {
            "RepositoryNotFoundException" => (404, "NAME_UNKNOWN"),
            "AccessDeniedException" => (403, "DENIED"),
            // The docs' own wording: "toomanyrequests: Rate exceeded".
            "ThrottlingException" => (429, "TOOMANYREQUESTS"),
            // 400 TAG_INVALID: moby/buildkit#3776.
            "ImageTagAlreadyExistsException" => (400, "TAG_INVALID"),
            "ImageDigestDoesNotMatchException" => (400, "MANIFEST_INVALID"),
            // int128/docker-manifest-create-action PR#63.
            "ReferencedImagesNotFoundException" => (404, "MANIFEST_BLOB_UNKNOWN"),
            "LayersNotFoundException" => (404, "BLOB_UNKNOWN"),
            "ImageNotFoundException" => (404, "MANIFEST_UNKNOWN"),
            "LimitExceededException" => (403, "DENIED"),
            "InvalidParameterException" => (400, "MANIFEST_INVALID"),
            "ServerException" => (500, "UNKNOWN"),
            code => (self.status, code),
        };
        let body = json!({"errors": [{"code": code, "message": self.message}]}).to_string();
        Self::new(status, code, "").answer("application/json; charset=utf-8", body)
    }

    fn answer(&self, kind: &'static str, body: String) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response.extensions_mut().insert(Answered(self.code.to_owned()));
        response
    }
}

/// 401 with a Basic challenge and plain text, not JSON (regclient/regclient#709, NVIDIA/enroot#59).
pub(crate) fn not_authorized(host: &str) -> Response {
    let mut response = Response::new(Body::from("Not Authorized\n"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let challenge = format!("Basic realm=\"http://{host}/\",service=\"ecr.amazonaws.com\"");
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response.extensions_mut().insert(Answered("UNAUTHORIZED".to_owned()));
    response
}
