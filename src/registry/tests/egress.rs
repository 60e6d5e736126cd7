//! Hostile servers on loopback addresses: no connection where none is allowed, no words of a server
//! that is not a registry.

use std::sync::OnceLock;
use std::time::Instant;

use futures::stream;

use super::*;
use crate::class::Class;

/// Rules of an operator that allows 127.0.0.1 alone of all private addresses.
fn one_address() -> Egress {
    Egress::of_tenants(vec!["127.0.0.1".parse().unwrap()], &[])
}

fn tag() -> Tag {
    "1.27".parse().unwrap()
}

/// A server at an address that is not allowed.
async fn internal() -> Peer {
    Peer::at("127.0.0.2:0", |_| respond(200, &[], r#"{"token":"internal","tags":["x"]}"#)).await
}

#[tokio::test]
async fn a_source_at_an_address_that_is_not_allowed_gets_no_connection() {
    let peer = Peer::new(|_| respond(200, &[], r#"{"tags":[]}"#)).await;
    let error = peer.client_within(Egress::default(), user()).tags("a").await.unwrap_err();
    assert_eq!((error.class(), error.is_retryable()), (Class::AccessDenied, false));
    let text = error.to_string();
    assert!(text.contains("127.0.0.1 has a loopback address"), "{text}");
    assert!(text.contains("--allow-private-sources"), "{text}");
    assert_eq!(peer.lines(), [""; 0]);

    peer.client_within(one_address(), user()).tags("a").await.unwrap();
    assert_eq!(peer.lines().len(), 1);
}

#[tokio::test]
async fn a_redirect_leads_to_no_address_that_is_not_allowed() {
    let internal = internal().await;
    let to = format!("http://{}/latest", internal.host);
    let peer = Peer::new(move |_| respond(307, &[("location", &to)], "")).await;
    let error = peer.client_within(one_address(), user()).tags("a").await.unwrap_err();
    assert_eq!(error.class(), Class::AccessDenied, "{error}");
    assert_eq!((peer.lines().len(), internal.lines().len()), (1, 0));
}

/// A registry that names this token server, and the tokens that it gets.
async fn registry_of(realm: String) -> Peer {
    Peer::new(move |seen| match seen.authorization() {
        "" => {
            let challenge = format!("Bearer realm=\"{realm}\"");
            respond(401, &[("www-authenticate", &challenge)], "")
        }
        _ => respond(200, &[], r#"{"tags":[]}"#),
    })
    .await
}

#[tokio::test]
async fn a_token_server_at_an_address_that_is_not_allowed_is_not_asked_and_no_token_is_sent_on() {
    let internal = internal().await;
    let peer = registry_of(format!("http://{}/token", internal.host)).await;
    let error =
        peer.client_within(one_address(), Credential::Anonymous).tags("a").await.unwrap_err();
    assert_eq!(error.class(), Class::AccessDenied, "{error}");
    assert_eq!(internal.lines(), [""; 0]);
    let sent: Vec<_> = peer.seen().iter().map(|seen| seen.authorization().to_owned()).collect();
    assert_eq!(sent, [""], "no token of the internal server");
}

#[tokio::test]
async fn a_login_goes_to_another_host_only_if_the_operator_allows_that_token_server() {
    let other = internal().await;
    let realm = other.host.split(':').next().unwrap().to_owned();
    let peer = registry_of(format!("http://{}/token", other.host)).await;

    let error = peer.client_within(Egress::trusting(), user()).tags("a").await.unwrap_err();
    assert_eq!(error.class(), Class::AuthenticationFailed);
    let text = error.to_string();
    for part in ["127.0.0.1 names 127.0.0.2", "--allow-realm 127.0.0.1=127.0.0.2"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(other.lines(), [""; 0]);

    let allowed = vec![format!("127.0.0.1={realm}").parse().unwrap()];
    let egress = Egress::trusting().with_realms(allowed);
    peer.client_within(egress, user()).tags("a").await.unwrap();
    assert_eq!(other.seen()[0].authorization(), BASIC);

    // Without a login there is nothing to lose.
    peer.client_within(Egress::trusting(), Credential::Anonymous).tags("a").await.unwrap();
}

#[tokio::test]
async fn a_token_servers_words_are_not_shown() {
    let host = Arc::new(OnceLock::<String>::new());
    let known = host.clone();
    let peer = Peer::new(move |seen| match seen.line.starts_with("GET /token") {
        true => refusal(403, "DENIED", "internal words"),
        false => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", known.get().unwrap());
            respond(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    host.set(peer.host.clone()).unwrap();
    let text = peer.client_as(user()).tags("a").await.unwrap_err().to_string();
    assert!(text.ends_with("cannot get a token from ".to_owned().as_str()) || text.contains("403"));
    assert!(!text.contains("internal words"), "{text}");
}

#[tokio::test]
async fn words_of_a_redirect_target_are_not_shown() {
    let other = Peer::new(|_| refusal(403, "DENIED", "internal words")).await;
    let to = format!("http://{}/x", other.host);
    let peer = Peer::new(move |_| respond(307, &[("location", &to)], "")).await;
    let text = peer.client().tags("a").await.unwrap_err().to_string();
    assert!(text.contains(&format!("403 Forbidden from {}", other.host)), "{text}");
    assert!(!text.contains("internal words"), "{text}");
}

#[tokio::test]
async fn a_document_that_is_no_manifest_is_neither_quoted_nor_confirmed_by_its_digest() {
    for (body, media_type) in [
        (r#"{"password":"hunter2"}"#, "application/json"),
        (r#"{"schemaVersion":"hunter2"}"#, "application/json"),
        (r#"{"config":"hunter2"}"#, OCI_MANIFEST),
        ("hunter2", "text/plain"),
        (r#"["hunter2"]"#, "application/json"),
    ] {
        let digest = Digest::sha256_of(body.as_bytes()).to_string();
        let peer = Peer::new(move |_| respond(200, &[("content-type", media_type)], body)).await;
        let client = peer.client();
        let by_digest = client.manifest("a", &Digest::sha256_of(b"guess")).await.unwrap_err();
        for text in [
            client.manifest("a", tag()).await.unwrap_err().to_string(),
            client.resolve("a", &tag()).await.unwrap_err().to_string(),
            client.tags("a").await.err().map(|error| error.to_string()).unwrap_or_default(),
            by_digest.to_string(),
        ] {
            assert!(!text.contains("hunter2") && !text.contains(&digest), "{body}: {text}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up() {
    /// A body of one byte now and then, and never a whole silence.
    fn drip() -> Body {
        let bytes = stream::iter(0..1000).then(|_| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, io::Error>(Bytes::from_static(b" "))
        });
        Body::from_stream(bytes)
    }

    for status in [200, 404] {
        let peer = Peer::new(move |_| respond(status, &[], drip())).await;
        let began = Instant::now();
        let error = peer.client().tags("a").await.unwrap_err();
        let text = error.to_string();
        let took = began.elapsed();
        match status {
            200 => {
                assert!(text.contains("sends its answer too slowly"), "{text}");
                assert!(took < Duration::from_secs(5), "{took:?}");
            }
            _ => {
                assert!(text.contains("404"), "{text}");
                assert!(took < Duration::from_secs(20), "{took:?}");
            }
        }
    }
}
