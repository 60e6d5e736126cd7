//! Bearer tokens from the token server that a registry names, and which token servers are trusted.
//! <https://distribution.github.io/distribution/spec/auth/token/> and `…/oauth/`.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use super::addresses::{authority, is_link_local, is_loopback};
use super::auth::Credential;
use super::bodies::{BODY_PER_BYTE, Bound, foreign_answer};
use super::cause::Cause;
use super::json::object;
use super::request::{Body, Request};
use super::transport::Transport;
use crate::memory_budget::Need;

/// Tokens have a few kilobytes; Azure's have up to 4.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// The memory of an answer: its body, and two copies of the token.
pub(super) const NEED: Need =
    Need { fixed: 16 * 1024, per_byte: BODY_PER_BYTE + 2, parsed: (0, 0) };
/// The longest wait for the head of the answer: that for a manifest, which waits for the token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The lifetime by the token spec if the server sends none.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// The time before the expiry at which a token is replaced, so that it does not expire in transit.
const MARGIN: Duration = Duration::from_secs(30);

/// A token and the time of its renewal.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) anonymous: bool,
    pub(super) renew_at: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

/// The token server that the registry names, if its address is allowed.
#[derive(Debug)]
pub(crate) struct TokenServer {
    transport: Transport,
    /// The registry. If it is configured as plain HTTP, or with a loopback address, its token
    /// server may be such an address too.
    home: Url,
}

#[derive(Deserialize)]
struct Document {
    token: Option<String>,
    access_token: Option<String>,
    // Some servers write it as a string or a fraction.
    #[serde(default)]
    expires_in: Lifetime,
}

/// A number of seconds. Any other value is as good as none, and is not kept.
#[derive(Default)]
struct Lifetime(Option<f64>);

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl<'de> Visitor<'de> for Seconds {
            type Value = Lifetime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Lifetime, E> {
                Ok(Lifetime(None))
            }

            fn visit_unit<E>(self) -> Result<Lifetime, E> {
                Ok(Lifetime(None))
            }

            fn visit_i64<E>(self, seconds: i64) -> Result<Lifetime, E> {
                Ok(Lifetime(Some(seconds as f64)))
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<Lifetime, E> {
                Ok(Lifetime(Some(seconds as f64)))
            }

            fn visit_f64<E>(self, seconds: f64) -> Result<Lifetime, E> {
                Ok(Lifetime(Some(seconds)))
            }

            fn visit_str<E>(self, seconds: &str) -> Result<Lifetime, E> {
                Ok(Lifetime(seconds.trim().parse().ok()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lifetime, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Lifetime(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lifetime, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Lifetime(None))
            }
        }

        deserializer.deserialize_any(Seconds)
    }
}

impl TokenServer {
    pub(crate) const fn new(transport: Transport, home: Url) -> Self {
        Self { transport, home }
    }

    /// Fetches a token. Failures are reported here: a request without a token would be refused with
    /// a misleading 401.
    pub(crate) async fn fetch(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credential: &Credential,
    ) -> Result<Token, Cause> {
        let url = self.realm(realm, credential)?;
        let host = authority(&url);
        self.ask(url, service, scope, credential)
            .await
            .map_err(|source| Cause::Token { realm: host, source: Box::new(source) })
    }

    async fn ask(
        &self,
        mut url: Url,
        service: Option<&str>,
        scope: &str,
        credential: &Credential,
    ) -> Result<Token, Cause> {
        let mut params = vec![("scope", scope)];
        params.extend(service.map(|service| ("service", service)));
        let mut request = match credential {
            Credential::IdentityToken(token) => {
                params.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "ecr-sync"),
                    ("refresh_token", token),
                ]);
                let mut request = Request::new(Method::POST, url);
                request.body = Body::Bytes(form(&params));
                let value = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers.insert(CONTENT_TYPE, value);
                request
            }
            Credential::Anonymous | Credential::Basic { .. } => {
                url.query_pairs_mut().extend_pairs(&params);
                let mut request = Request::get(url);
                request.authorization = credential.basic_header();
                request
            }
        };

        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        request.timeout = TOKEN_TIMEOUT;

        let requested = Instant::now();
        let response = self.transport.send(request).await?;
        if !response.status().is_success() {
            return Err(Cause::Answer(Box::new(foreign_answer(&response, None))));
        }
        let bound = Bound::new(self.transport.budget(), NEED, MAX_BYTES);
        let (body, _memory) = bound.read(response).await?;

        token(&body, requested, credential.is_anonymous())
    }

    /// Checks the token server's address, which a hostile registry could choose: https only, and a
    /// login is sent to allowed hosts only. The address is judged when it is connected to.
    fn realm(&self, realm: &str, credential: &Credential) -> Result<Url, Cause> {
        let wrong = |why: &str| {
            Err(Cause::Challenge(format!("the registry's token server {realm:?} {why}")))
        };
        let Ok(mut url) = realm.parse::<Url>() else { return wrong("is not an absolute URL") };
        match url.scheme() {
            "https" => {}
            "http" if self.home.scheme() == "http" => {}
            _ => return wrong("must be https"),
        }

        if url.host_str().is_none_or(str::is_empty) {
            return wrong("has no host");
        }
        if is_link_local(&url) && !is_link_local(&self.home) {
            return wrong("has a link-local address");
        }
        if is_loopback(&url) && !is_loopback(&self.home) {
            return wrong("has a loopback address");
        }

        let hosts = (self.home.host_str().unwrap_or_default(), url.host_str().unwrap_or_default());
        let realms = self.transport.egress().realms();
        if !credential.is_anonymous() && !realms.allow(hosts.0, hosts.1) {
            let (registry, realm) = hosts;
            return Err(Cause::Challenge(format!(
                "{registry} names {realm} as its token server, and the login for {registry} is not \
                 sent to another host: if {realm} belongs to the registry, allow it with \
                 --allow-realm {registry}={realm}"
            )));
        }

        // A credential in the realm is not ours.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(url)
    }
}

fn form(params: &[(&str, &str)]) -> Bytes {
    // The query of a URL is encoded like a form.
    let mut url = Url::parse("form:").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(params);
    }
    Bytes::from(url.as_ref().and_then(Url::query).unwrap_or_default().to_owned())
}

pub(super) fn token(body: &[u8], requested: Instant, anonymous: bool) -> Result<Token, Cause> {
    let document: Document = object(body)
        .map_err(|_| Cause::Unexpected("the answer is not a token in JSON form".into()))?;
    // Both fields hold the token; if they differ, the one that the token spec requires counts.
    let value = [document.token, document.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| Cause::Unexpected("the answer contains no token".into()))?;
    let lifetime = seconds(&document.expires_in).unwrap_or(DEFAULT_LIFETIME);

    // Counted from our request: `issued_at` is by the server's clock, which may be wrong.
    Ok(Token { value, anonymous, renew_at: requested + lifetime - MARGIN.min(lifetime / 5) })
}

fn seconds(lifetime: &Lifetime) -> Option<Duration> {
    const MAX: f64 = 24.0 * 60.0 * 60.0;
    let seconds = lifetime.0?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_documents_of_all_shapes_are_read() {
        let now = Instant::now();
        for (json, value, life) in [
            (r#"{"token":"a"}"#, Some("a"), 48),
            (r#"{"access_token":"b"}"#, Some("b"), 48),
            (r#"{"token":"a","access_token":"b","expires_in":300}"#, Some("a"), 270),
            (r#"{"token":"","access_token":"b","expires_in":5}"#, Some("b"), 4),
            (
                r#"{"token":"a","expires_in":"300","issued_at":"1970-01-01T00:00:00Z"}"#,
                Some("a"),
                270,
            ),
            (r#"{"token":"a","expires_in":0}"#, Some("a"), 48),
            (r#"{"token":"a","expires_in":-5}"#, Some("a"), 48),
            (r#"{"token":"a","expires_in":null}"#, Some("a"), 48),
            (r#"{"token":"a","expires_in":1e30}"#, Some("a"), 86_370),
            (r#"{}"#, None, 0),
            ("<html>", None, 0),
        ] {
            let token = token(json.as_bytes(), now, false);
            assert_eq!(token.as_ref().ok().map(|token| token.value.as_str()), value, "{json}");
            if let Ok(token) = token {
                assert_eq!((token.renew_at - now).as_secs(), life, "{json}");
                assert!(!format!("{token:?}").contains("\"a\""));
            }
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form(&[("a", "b c"), ("d", "e&f=+")]), "a=b+c&d=e%26f%3D%2B".as_bytes());
    }
}
