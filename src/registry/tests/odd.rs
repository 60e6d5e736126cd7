//! Odd answers: allowed by HTTP, or sent by real servers in spite of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::class::Class;

/// A server that answers each request on a connection with the next of these texts, and then always
/// with the last one. Requests are short.
async fn raw(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answers = Arc::new(answers);
    let at = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answers, at) = (answers.clone(), at.clone());
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while socket.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                    let nth = at
                        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                        .min(answers.len() - 1);
                    if socket.write_all(answers[nth].as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let transport =
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
    let authenticator = Arc::new(StaticAuthenticator::default());

    (Client::new(transport, endpoint(Scheme::Http, host), authenticator, quick()).unwrap(), server)
}

fn tag() -> Tag {
    "1".parse().unwrap()
}

#[tokio::test]
async fn head_with_a_body_breaks_no_later_request() {
    let digest = Digest::sha256_of(b"{}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 5\r\n\r\nhello"
    );
    let (client, server) = raw(vec![head]).await;
    for _ in 0..3 {
        assert_eq!(client.resolve("a", &tag()).await.unwrap().digest, digest);
    }
    server.abort();
}

#[tokio::test]
async fn no_content_with_content_breaks_no_later_request() {
    let manifest = Manifest::new(Bytes::from_static(b"{}"), OCI_MANIFEST);
    let (client, server) =
        raw(vec!["HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".to_owned()]).await;
    for _ in 0..3 {
        client.put_manifest("a", tag(), &manifest).await.unwrap();
    }
    server.abort();
}

#[tokio::test]
async fn http_1_0_and_warnings_are_lived_with() {
    let body = r#"{"tags":["1"]}"#;
    let old = format!(
        "HTTP/1.0 200 OK\r\nWarning: 299 - \"this registry is old\"\r\nContent-Length: 14\r\n\r\n{body}"
    );
    let (client, server) = raw(vec![old]).await;
    assert_eq!(client.tags("a").await.unwrap().tags, [tag()]);
    server.abort();
}

#[tokio::test]
async fn unknown_host_name_is_registry_unavailable() {
    let transport =
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
    let options =
        Options { retry: RetryPolicy { retries: 0, ..RetryPolicy::default() }, ..quick() };
    // Nothing under .invalid resolves (RFC 6761).
    let endpoint = endpoint(Scheme::Https, "registry.invalid");
    let client =
        Client::new(transport, endpoint, Arc::new(StaticAuthenticator::default()), options)
            .unwrap();
    let error = client.resolve("a", &tag()).await.unwrap_err();
    assert_eq!(error.class(), Class::RegistryUnavailable, "{error}");
    assert!(error.to_string().contains("registry.invalid"), "{error}");
}

#[tokio::test]
async fn expired_signed_url_is_requested_again_at_the_registry() {
    let body = content(300_000);
    let store = Peer::new(move |seen| match (seen.line.ends_with("signature=0"), seen.nth) {
        (true, 0) => broken(200, &[], body.slice(..100_000), 300_000),
        // For a client that resumes at the signed URL.
        (true, _) => refusal(403, "AccessDenied", "Request has expired"),
        _ => {
            let range = "bytes 100000-299999/300000";
            respond(206, &[("content-range", range)], body.slice(100_000..))
        }
    })
    .await;
    let to = format!("http://{}/blob?signature=", store.host);
    let registry = Peer::new(move |seen| {
        let to = format!("{to}{}", seen.nth);
        respond(307, &[("location", &to)], "")
    })
    .await;
    let wanted = content(300_000);
    let stream = registry.client().blob("a", &descriptor(&wanted)).await.unwrap();
    assert!(stream.collect_bytes(300_000).await.unwrap() == wanted);

    assert_eq!((registry.lines().len(), store.lines()[1].as_str()), (2, "GET /blob?signature=1"));
}

#[tokio::test]
async fn plain_http_in_place_of_tls_is_named_and_not_retried() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let count = asked.clone();
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut hello = [0; 4096];
            let _ = socket.read(&mut hello).await;
            let _ = socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
                .await;
        }
    });
    let transport =
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
    let endpoint = endpoint(Scheme::Https, &*host);
    let client =
        Client::new(transport, endpoint, Arc::new(StaticAuthenticator::default()), quick())
            .unwrap();

    let error = client.resolve("a", &tag()).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("{host} speaks plain HTTP, not TLS: set insecure")),
        "{error}"
    );
    assert_eq!((error.class(), error.is_retryable()), (Class::RegistryUnavailable, false));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);

    server.abort();
}
