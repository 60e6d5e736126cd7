//! Bearer tokens: <https://distribution.github.io/distribution/spec/auth/token/> and `…/oauth/`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::addresses::{authority, is_link_local, is_loopback};
use super::auth::Credential;
use super::bodies::{read_answer, read_body};
use super::failure::Failure;
use super::transport::{Body, Request, Transport};

/// Tokens are some kilobytes; Azure's reach 4.
const MOST_BYTES: usize = 256 * 1024;
/// What the token spec says where the server is silent.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is used up to here before its end, so that it does not end between two hops.
const MARGIN: Duration = Duration::from_secs(30);

/// A token and how long it is to be used.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) anonymous: bool,
    renew_at: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

/// Fetches tokens from wherever the registry says, within bounds.
#[derive(Debug)]
pub(crate) struct TokenServer {
    transport: Transport,
    /// The registry: what it is configured to be, its token server may be too.
    home: Url,
}

#[derive(Deserialize)]
struct Document {
    token: Option<String>,
    access_token: Option<String>,
    // Some servers write it as a string or a fraction.
    expires_in: Option<serde_json::Value>,
}

impl TokenServer {
    pub(crate) const fn new(transport: Transport, home: Url) -> Self {
        Self { transport, home }
    }

    /// Any failure is told as what it is; a request without token would be refused with a
    /// misleading 401.
    pub(crate) async fn fetch(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credential: &Credential,
    ) -> Result<Token, Failure> {
        let url = self.realm(realm)?;
        let host = authority(&url);
        self.ask(url, service, scope, credential)
            .await
            .map_err(|source| Failure::Token { realm: host, source: Box::new(source) })
    }

    async fn ask(
        &self,
        mut url: Url,
        service: Option<&str>,
        scope: &str,
        credential: &Credential,
    ) -> Result<Token, Failure> {
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
        let asked = Instant::now();
        let response = self.transport.send(request).await?;
        if !response.status().is_success() {
            // The text about missing things fits the registry, not the token server.
            return Err(Failure::Answer(Box::new(read_answer(response, false).await.0)));
        }
        let body = read_body(response, MOST_BYTES).await?;
        token(&body, asked, credential.is_anonymous())
    }

    /// A hostile registry names any realm it likes, and we are about to send a password there:
    /// https only. It may be another host (Docker Hub, GitLab), so that cannot be checked.
    fn realm(&self, realm: &str) -> Result<Url, Failure> {
        let wrong = |why: &str| {
            Err(Failure::Challenge(format!("the registry's token server {realm:?} {why}")))
        };
        let Ok(mut url) = realm.parse::<Url>() else { return wrong("is not an absolute URL") };
        match url.scheme() {
            "https" => {}
            "http" if self.home.scheme() == "http" => {}
            _ => return wrong("must be https"),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return wrong("names no host");
        }
        if is_link_local(&url) && !is_link_local(&self.home) {
            return wrong("has a link-local address");
        }
        if is_loopback(&url) && !is_loopback(&self.home) {
            return wrong("has a loopback address");
        }
        // Not ours to send.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(url)
    }
}

fn form(params: &[(&str, &str)]) -> Bytes {
    // A URL's query has the encoding of forms.
    let mut url = Url::parse("form:").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(params);
    }
    Bytes::from(url.as_ref().and_then(Url::query).unwrap_or_default().to_owned())
}

fn token(body: &[u8], asked: Instant, anonymous: bool) -> Result<Token, Failure> {
    let document: Document = serde_json::from_slice(body)
        .map_err(|_| Failure::Unexpected("the answer is not the JSON of a token".into()))?;
    // The same thing under two names; where they differ, the one that the token spec requires
    // counts.
    let value = [document.token, document.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| Failure::Unexpected("the answer holds no token".into()))?;
    let life = document.expires_in.as_ref().and_then(seconds).unwrap_or(DEFAULT_LIFE);
    // Our clock from our asking on: issued_at is the server's clock, which may be wrong.
    Ok(Token { value, anonymous, renew_at: asked + life - MARGIN.min(life / 5) })
}

fn seconds(value: &serde_json::Value) -> Option<Duration> {
    const MOST: f64 = 24.0 * 60.0 * 60.0;
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MOST)))
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
