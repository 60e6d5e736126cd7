//! The token server of a registry: the Docker token protocol, with ES256 tokens that the real
//! registry checks.
//!
//! As on Docker Hub, a request without a login gets a token that may allow nothing; the registry
//! then refuses it. A wrong login is refused here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::User;
use crate::Error;

pub(super) const ISSUER: &str = "testbed tokens";
pub(super) const SERVICE: &str = "testbed registry";
/// Repositories that may be pulled without a login.
pub(super) const PUBLIC: &str = "public/";

const KEY_ID: &str = "testbed";
/// The registry accepts a token for this time after its end (`Leeway` in distribution's
/// registry/auth/token/token.go). The end in the token is that much earlier, so that a token
/// expires exactly after its lifetime.
const LEEWAY: u64 = 60;

/// The key that signs tokens, and their lifetime.
#[derive(Debug)]
pub(super) struct Tokens {
    key: EcdsaKeyPair,
    life: Duration,
    requests: AtomicU64,
}

pub(super) async fn answer(State(tokens): State<Arc<Tokens>>, request: Request) -> Response {
    tokens.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let mut form = pairs(head.uri.query().unwrap_or_default());
    // Some clients use GET with Basic, others an OAuth2 form.
    if let Ok(body) = axum::body::to_bytes(body, 64 * 1024).await {
        form.extend(pairs(&String::from_utf8_lossy(&body)));
    }
    let Some(user) = user(&head.headers, &form) else {
        let refusal = json!({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or \
                                                                             password"}]});
        return (StatusCode::UNAUTHORIZED, refusal.to_string()).into_response();
    };
    let access: Vec<Value> = all(&form, "scope")
        .flat_map(str::split_whitespace)
        .filter_map(|s| grant(user, s))
        .collect();
    match tokens.issue(user, &access) {
        Ok(token) => {
            let life = tokens.life.as_secs();
            let answer = json!({"token": token, "access_token": token, "expires_in": life});
            ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e).into_response(),
    }
}

/// `Some(None)` is an anonymous request, `None` a wrong login.
fn user(headers: &HeaderMap, form: &[(String, String)]) -> Option<Option<User>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
        let login = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (name, password) = login.split_once(':')?;
        return User::login(name, password).map(Some);
    }
    match (all(form, "username").next(), all(form, "password").next()) {
        (Some(name), Some(password)) => User::login(name, password).map(Some),
        _ => Some(None),
    }
}

/// Returns the part of `repository:NAME:ACTIONS` that this user may do; `None` if nothing.
fn grant(user: Option<User>, scope: &str) -> Option<Value> {
    let rest = scope.strip_prefix("repository:")?;
    let (name, actions) = rest.rsplit_once(':')?;
    let allowed = |action: &str| match user {
        Some(User::Writer) => true,
        Some(User::Reader) => action == "pull",
        None => action == "pull" && name.starts_with(PUBLIC),
    };
    let actions: Vec<&str> = actions.split(',').filter(|action| allowed(action)).collect();
    (!actions.is_empty()).then(|| json!({"type": "repository", "name": name, "actions": actions}))
}

impl Tokens {
    pub(super) fn new(life: Duration) -> Result<Self, Error> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|e| format!("cannot generate a key for tokens: {e}"))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
            .map_err(|e| format!("cannot read the key just generated: {e}"))?;
        Ok(Self { key, life, requests: AtomicU64::new(0) })
    }

    /// Returns the number of token requests, granted or not.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the public key in the registry's format.
    pub(super) fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y (SEC 1, 2.3.3).
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..65]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": x, "y": y}]})
    }

    fn issue(&self, user: Option<User>, access: &[Value]) -> Result<String, String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|e| format!("the clock is wrong: {e}"))?
            .as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": KEY_ID});
        let claims = json!({
            "iss": ISSUER,
            "sub": user.map_or("", User::name),
            "aud": SERVICE,
            "exp": now + self.life.as_secs() - LEEWAY,
            "nbf": now,
            "iat": now,
            "jti": self.requests().to_string(),
            "access": access,
        });
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|e| format!("cannot sign: {e}"))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

fn pairs(encoded: &str) -> Vec<(String, String)> {
    // The URL parser, which is in the tree already, decodes forms, too.
    let Ok(mut url) = reqwest::Url::parse("http://form") else { return Vec::new() };
    url.set_query(Some(encoded));
    url.query_pairs().into_owned().collect()
}

fn all<'a>(form: &'a [(String, String)], key: &'a str) -> impl Iterator<Item = &'a str> {
    form.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
}
