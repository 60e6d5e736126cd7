use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;

use super::*;
use crate::class::Class;

const TAGS: &str = r#"{"tags":[]}"#;
const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";

/// A registry whose token server issues `t0`, `t1`, …, and that accepts the tokens for which `takes`
/// is true.
async fn bearer(takes: impl Fn(&str, &Seen) -> bool + Send + Sync + 'static) -> Peer {
    let host = Arc::new(std::sync::OnceLock::new());
    let (known, tokens) = (host.clone(), AtomicUsize::new(0));
    let peer = Peer::new(move |seen| {
        if seen.line.contains("/token") {
            let nth = tokens.fetch_add(1, Ordering::Relaxed);
            return respond(200, &[], format!(r#"{{"token":"t{nth}"}}"#));
        }
        if let Some(token) = seen.authorization().strip_prefix("Bearer ")
            && takes(token, seen)
        {
            return respond(200, &[], TAGS);
        }
        let repository = seen.line.split('/').nth(2).unwrap_or_default();
        let challenge = format!(
            r#"bearer realm="http://{}/token?x=y",service=reg,scope="repository:{repository}:pull""#,
            known.get().unwrap()
        );
        respond(401, &[("www-authenticate", "Basic realm=x"), ("www-authenticate", &challenge)], "{}")
    })
    .await;
    host.set(peer.host.clone()).unwrap();

    peer
}

/// Returns `old` until it was refused, then `new`.
#[derive(Debug, Default)]
struct Renewing {
    refused: AtomicUsize,
}

#[async_trait]
impl Authenticator for Renewing {
    async fn credential(&self) -> Result<Credential, Error> {
        let password = if self.refused.load(Ordering::Relaxed) == 0 { "old" } else { "new" };
        Ok(Credential::Basic { username: "AWS".into(), password: password.into() })
    }

    async fn refused(&self, credential: &Credential) {
        assert_eq!(
            *credential,
            Credential::Basic { username: "AWS".into(), password: "old".into() }
        );
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// `AWS:new` in base64.
pub(super) const NEW: &str = "Basic QVdTOm5ldw==";

pub(super) fn renewing(peer: &Peer) -> Client {
    peer.client_with(Arc::new(Renewing::default()), Options { preemptive_basic: true, ..quick() })
}

#[tokio::test]
async fn first_request_learns_the_login_method_and_later_ones_send_the_token() {
    let peer = bearer(|_, _| true).await;
    let client = peer.client_as(user());
    client.tags("a").await.unwrap();
    client.tags("a").await.unwrap();
    client.tags("b").await.unwrap();
    assert_eq!(
        peer.lines(),
        [
            "GET /v2/a/tags/list?n=1000",
            "GET /token?x=y&scope=repository%3Aa%3Apull&service=reg",
            "GET /v2/a/tags/list?n=1000",
            "GET /v2/a/tags/list?n=1000",
            "GET /token?x=y&scope=repository%3Ab%3Apull&service=reg",
            "GET /v2/b/tags/list?n=1000",
        ]
    );
    let sent: Vec<_> = peer.seen().iter().map(|seen| seen.authorization().to_owned()).collect();
    assert_eq!(sent, ["", BASIC, "Bearer t0", "Bearer t0", BASIC, "Bearer t1"]);
}

#[tokio::test]
async fn burst_of_requests_meets_one_challenge_and_fetches_one_token() {
    let peer = bearer(|_, _| true).await;
    let client = peer.client();
    for result in join_all((0..20).map(|_| client.tags("a"))).await {
        result.unwrap();
    }
    assert_eq!((peer.count("GET /token"), peer.count("GET /v2/")), (1, 21));
}

#[tokio::test]
async fn burst_against_an_open_registry_costs_nothing_more() {
    let peer = Peer::new(|_| respond(200, &[], TAGS)).await;
    let client = peer.client();
    join_all((0..20).map(|_| client.tags("a"))).await;
    assert_eq!(peer.lines().len(), 20);
}

#[tokio::test]
async fn token_that_expires_in_use_is_renewed_once() {
    let peer = bearer(|token, seen| token == "t1" || seen.nth < 2).await;
    let client = peer.client();
    for _ in 0..3 {
        client.tags("a").await.unwrap();
    }
    assert_eq!(peer.count("GET /token"), 2);
}

#[tokio::test]
async fn refusal_of_a_fresh_token_is_final() {
    let peer = bearer(|_, _| false).await;
    let error = peer.client().tags("a").await.unwrap_err();
    assert_eq!(error.class(), Class::AuthenticationFailed);
    assert!(error.to_string().contains("does not exist, or it is private"), "{error}");
    assert_eq!((peer.count("GET /token"), peer.count("GET /v2/")), (1, 2));
}

#[tokio::test]
async fn failures_of_the_token_server_are_not_swallowed() {
    for (status, tokens, class) in [
        (429, 4, Class::RateLimited),
        (503, 4, Class::RegistryUnavailable),
        (401, 1, Class::AuthenticationFailed),
        (403, 1, Class::AuthenticationFailed),
    ] {
        let host = Arc::new(std::sync::OnceLock::<String>::new());
        let known = host.clone();
        let peer = Peer::new(move |seen| match seen.line.contains("/token") {
            true => refusal(status, "X", "y"),
            false => {
                let challenge = format!("Bearer realm=\"http://{}/token\"", known.get().unwrap());
                respond(401, &[("www-authenticate", &challenge)], "")
            }
        })
        .await;
        host.set(peer.host.clone()).unwrap();
        let error = peer.client_as(user()).tags("a").await.unwrap_err();
        assert_eq!((error.class(), peer.count("GET /token")), (class, tokens), "{status}: {error}");
        assert!(error.to_string().contains("cannot get a token from"), "{error}");
    }
}

#[tokio::test]
async fn realm_without_tls_gets_no_password_from_a_registry_with_tls() {
    let peer = Peer::new(|_| respond(200, &[], r#"{"token":"t"}"#)).await;
    let transport =
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
    let home = "https://registry.example/v2/".parse().unwrap();
    let server = crate::registry::token::TokenServer::new(transport, home);
    let realms = [
        "/token",
        "ftp://x/",
        "https://169.254.1.1/",
        "https://127.0.0.1/",
        "https://localhost/token",
    ];
    for realm in
        realms.map(str::to_owned).into_iter().chain([format!("http://{}/token", peer.host)])
    {
        let failure = server.fetch(&realm, None, "s", &user()).await.unwrap_err();
        assert!(matches!(failure, Cause::Challenge(_)), "{realm}: {failure}");
    }
    assert_eq!(peer.lines().len(), 0);
}

#[tokio::test]
async fn identity_token_is_exchanged_by_post() {
    let peer = bearer(|_, _| true).await;
    peer.client_as(Credential::IdentityToken("refresh+me".into())).tags("a").await.unwrap();
    let seen = &peer.seen()[1];
    assert_eq!(seen.line, "POST /token?x=y");
    assert_eq!(seen.authorization(), "");
    assert_eq!(
        seen.body,
        "scope=repository%3Aa%3Apull&service=reg&grant_type=refresh_token&client_id=ecr-sync&refresh_token=refresh%2Bme"
    );
}

#[tokio::test]
async fn fixed_scope_is_requested_once() {
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known = host.clone();
    let peer = Peer::new(move |seen| match (seen.line.contains("/token"), seen.authorization()) {
        (true, _) => respond(200, &[], r#"{"access_token":"t"}"#),
        (_, "Bearer t") => respond(200, &[], TAGS),
        _ => {
            let challenge =
                format!("Bearer realm=\"http://{}/token/\",scope=\"aws\"", known.get().unwrap());
            respond(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    host.set(peer.host.clone()).unwrap();
    let client = peer.client();
    client.tags("a").await.unwrap();
    client.tags("b").await.unwrap();
    assert_eq!(peer.lines().len(), 4);
    assert_eq!(peer.lines()[1], "GET /token/?scope=aws");
}

#[tokio::test]
async fn basic_is_sent_when_asked_for_and_a_wrong_password_only_once() {
    let peer = Peer::new(|seen| match seen.authorization() {
        BASIC => respond(200, &[], TAGS),
        _ => respond(401, &[("www-authenticate", "Basic realm=\"x\"")], "Not Authorized"),
    })
    .await;
    let client = peer.client_as(user());
    client.tags("a").await.unwrap();
    client.tags("a").await.unwrap();
    assert_eq!(peer.lines().len(), 3);

    let wrong = Credential::Basic { username: "user".into(), password: "wrong".into() };
    let error = peer.client_as(wrong).tags("a").await.unwrap_err();
    assert_eq!((error.class(), peer.lines().len()), (Class::AuthenticationFailed, 5));
    assert!(!error.to_string().contains("no credential"), "{error}");

    let error = peer.client().tags("a").await.unwrap_err();
    assert!(error.to_string().contains("no credential was given"), "{error}");
    assert_eq!(peer.lines().len(), 6);
}

#[tokio::test]
async fn preemptive_basic_saves_the_challenge() {
    let peer = Peer::new(|_| respond(200, &[], TAGS)).await;
    renewing(&peer).tags("a").await.unwrap();
    assert_eq!(peer.seen().len(), 1);
    assert!(peer.seen()[0].authorization().starts_with("Basic "));
}

#[tokio::test]
async fn expired_ecr_token_is_renewed_whatever_the_status() {
    for status in [401, 403] {
        let peer = Peer::new(move |seen| match seen.authorization() {
            NEW => respond(201, &[], TAGS),
            _ => refusal(status, "DENIED", EXPIRED),
        })
        .await;
        let client = renewing(&peer);
        let manifest = Manifest::new(Bytes::from_static(b"{}"), OCI_MANIFEST);
        client.put_manifest("a", "1".parse::<Tag>().unwrap(), &manifest).await.unwrap();
        assert_eq!(peer.lines().len(), 2, "{status}");
        assert_eq!(peer.seen()[1].body, "{}");
    }
}

#[tokio::test]
async fn bare_403_to_head_is_taken_for_an_expiry_once() {
    let peer =
        Peer::new(|seen| respond(if seen.authorization() == NEW { 200 } else { 403 }, &[], ""))
            .await;
    assert!(renewing(&peer).blob_exists("a", &Digest::sha256_of(b"")).await.unwrap());
    assert_eq!(peer.lines().len(), 2);

    let denies = Peer::new(|_| respond(403, &[], "")).await;
    let client = renewing(&denies);
    for requests in [2, 3] {
        let error = client.blob_exists("a", &Digest::sha256_of(b"")).await.unwrap_err();
        assert_eq!((error.class(), denies.lines().len()), (Class::AccessDenied, requests));
    }
}

#[tokio::test]
async fn challenge_after_a_redirect_to_another_host_is_not_answered() {
    let evil = Peer::new(|_| respond(401, &[("www-authenticate", "Basic realm=x")], "")).await;
    let to = format!("http://{}/x", evil.host);
    let peer = Peer::new(move |_| respond(307, &[("location", &to)], "")).await;
    peer.client_as(user()).tags("a").await.unwrap_err();
    assert_eq!(evil.seen().len(), 1);
    assert_eq!(evil.seen()[0].authorization(), "");
}

#[tokio::test]
async fn a_refresh_token_follows_no_redirect_to_another_host() {
    let elsewhere = Peer::new(|_| respond(200, &[], r#"{"token":"t"}"#)).await;
    let to = format!("http://{}/token", elsewhere.host);
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known = host.clone();
    let peer = Peer::new(move |seen| match seen.line.as_str() {
        "POST /token" => respond(307, &[("location", &to)], ""),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", known.get().unwrap());
            respond(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    host.set(peer.host.clone()).unwrap();

    let client = peer.client_as(Credential::IdentityToken("refresh-token".into()));
    let error = client.tags("a").await.unwrap_err();
    assert_eq!(elsewhere.lines(), [""; 0], "neither the token nor an empty request");
    assert!(error.to_string().contains("answers POST with a redirect to"), "{error}");
    assert!(!error.to_string().contains("refresh-token"), "{error}");
}

#[tokio::test]
async fn missing_credential_is_reported_with_its_class() {
    #[derive(Debug)]
    struct Broken;
    #[async_trait]
    impl Authenticator for Broken {
        async fn credential(&self) -> Result<Credential, Error> {
            Err(Error::Credential {
                host: "ecr".into(),
                class: Class::AccessDenied,
                source: "no ecr:GetAuthorizationToken".into(),
            })
        }
        async fn refused(&self, _: &Credential) {}
    }

    let peer = Peer::new(|_| respond(200, &[], TAGS)).await;
    let client = peer.client_with(Arc::new(Broken), Options { preemptive_basic: true, ..quick() });
    let error = client.tags("a").await.unwrap_err();
    assert_eq!((error.class(), peer.lines().len()), (Class::AccessDenied, 0));
    assert!(error.to_string().contains("GetAuthorizationToken"), "{error}");
}
