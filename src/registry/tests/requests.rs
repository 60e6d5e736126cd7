use super::*;
use crate::class::Class;

const MANIFEST: &str = concat!(
    r#"{ "schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","#,
    r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
    r#""size":2},"layers":null,"extra":1}"#,
    "\n"
);

fn tag() -> Tag {
    "1.27".parse().unwrap()
}

fn manifest(body: impl Into<Body>) -> Response {
    respond(200, &[("content-type", OCI_MANIFEST)], body)
}

#[tokio::test]
async fn transient_failure_is_retried() {
    for status in [408, 425, 429, 500, 502, 503, 504, 520, 524] {
        let peer = Peer::new(move |seen| {
            if seen.nth == 0 { refusal(status, "X", "Slow Down") } else { manifest(MANIFEST) }
        })
        .await;
        peer.client().manifest("a", tag()).await.unwrap_or_else(|e| panic!("{status}: {e}"));
        assert_eq!(peer.count("GET"), 2, "{status}");
    }
}

#[tokio::test]
async fn permanent_failure_is_returned_after_four_tries() {
    let peer = Peer::new(|_| refusal(503, "UNAVAILABLE", "down")).await;
    let error = peer.client().tags("a").await.unwrap_err();
    assert_eq!(peer.count("GET"), 4);
    assert_eq!(error.class(), Class::RegistryUnavailable);
    assert_eq!(
        error.to_string(),
        format!("cannot read tags of {}/a: 503 Service Unavailable (UNAVAILABLE: down)", peer.host)
    );
}

#[tokio::test]
async fn missing_manifest_is_not_retried() {
    let peer = Peer::new(|_| refusal(404, "MANIFEST_UNKNOWN", "no")).await;
    let error = peer.client().manifest("a", tag()).await.unwrap_err();
    assert_eq!(
        (peer.count("GET"), error.class(), error.is_retryable()),
        (1, Class::SourceNotFound, false)
    );
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
}

#[tokio::test]
async fn manifest_that_breaks_in_its_body_is_read_again() {
    let peer = Peer::new(|seen| match seen.nth {
        0 => broken(200, &[], Bytes::from_static(&MANIFEST.as_bytes()[..10]), MANIFEST.len()),
        _ => manifest(MANIFEST),
    })
    .await;
    assert_eq!(peer.client().manifest("a", tag()).await.unwrap().bytes, MANIFEST);
}

#[tokio::test]
async fn manifest_that_was_corrupt_once_is_read_again() {
    let flipped = MANIFEST.replacen('1', "2", 1);
    let peer =
        Peer::new(
            move |seen| if seen.nth == 0 { manifest(flipped.clone()) } else { manifest(MANIFEST) },
        )
        .await;
    let digest = Digest::sha256_of(MANIFEST.as_bytes());
    assert_eq!(peer.client().manifest("a", digest.clone()).await.unwrap().digest, digest);
    assert_eq!(peer.count("GET"), 2);

    let peer = Peer::new(|_| manifest("{}")).await;
    let error = peer.client().manifest("a", digest).await.unwrap_err();
    assert_eq!((peer.count("GET"), error.class()), (2, Class::SourceInvalid), "retried once only");
}

#[tokio::test]
async fn unanswered_request_times_out_and_is_retried() {
    let options = || Options { answer_timeout: Duration::from_millis(200), ..quick() };
    let peer = Peer::new(|seen| match seen.nth {
        0 => hanging(Bytes::from_static(&MANIFEST.as_bytes()[..10]), MANIFEST.len()),
        _ => manifest(MANIFEST),
    })
    .await;
    let client = peer.client_with(Arc::new(StaticAuthenticator::default()), options());
    assert_eq!(client.manifest("a", tag()).await.unwrap().bytes, MANIFEST);
    assert_eq!(peer.count("GET"), 2);

    // Accepts connections and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let mute = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let transport =
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())).unwrap();
    let authenticator = Arc::new(StaticAuthenticator::default());
    let client =
        Client::new(transport, endpoint(Scheme::Http, &*host), authenticator, options()).unwrap();
    let written = Manifest::new(Bytes::from_static(MANIFEST.as_bytes()), OCI_MANIFEST);

    for error in [
        client.manifest("a", tag()).await.unwrap_err(),
        client.resolve("a", &tag()).await.unwrap_err(),
        client.put_manifest("a", tag(), &written).await.unwrap_err(),
    ] {
        assert!(matches!(error.failure(), Some(Cause::NoAnswer { .. })), "{error}");
        assert_eq!(error.class(), Class::RegistryUnavailable);
    }

    mute.abort();
}

#[tokio::test]
async fn refused_connection_is_registry_unavailable() {
    let peer = Peer::new(|_| manifest(MANIFEST)).await;
    let client = peer.client();
    drop(peer);
    let error = client.manifest("a", tag()).await.unwrap_err();
    assert_eq!(error.class(), Class::RegistryUnavailable);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn short_retry_after_is_waited_for_and_a_long_one_returned_at_once() {
    let peer = Peer::new(|seen| match seen.nth {
        0 => respond(429, &[("retry-after", "0")], "<html>"),
        1 => manifest(MANIFEST),
        _ => respond(429, &[("retry-after", "3600")], r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#),
    })
    .await;
    let client = peer.client();
    client.manifest("a", tag()).await.unwrap();
    assert_eq!(peer.count("GET"), 2);

    let error = client.manifest("a", tag()).await.unwrap_err();
    assert_eq!((peer.count("GET"), error.class()), (3, Class::RateLimited));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));

    // During the pause no other request is sent either.
    let error = client.tags("b").await.unwrap_err();
    assert_eq!((peer.lines().len(), error.class()), (3, Class::RateLimited));
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(800)));
}

#[tokio::test]
async fn error_pages_of_ten_megabytes_are_cut() {
    let peer = Peer::new(|_| respond(404, &[], vec![b'x'; 10 << 20])).await;
    let error = peer.client().manifest("a", tag()).await.unwrap_err();
    assert!(error.to_string().len() < 600);
    assert_eq!(error.class(), Class::SourceNotFound);
}

#[tokio::test]
async fn redirect_to_another_host_carries_no_credential() {
    for status in [301, 302, 303, 307, 308] {
        let store = Peer::new(|_| manifest(MANIFEST)).await;
        let to = format!("http://{}/signed?x=y", store.host);
        let peer = Peer::new(move |_| respond(status, &[("location", &to)], "")).await;
        let client = peer.client_with(
            Arc::new(StaticAuthenticator(user())),
            Options { preemptive_basic: true, ..quick() },
        );
        client.manifest("a", tag()).await.unwrap();
        assert_eq!(peer.seen()[0].authorization(), BASIC);
        assert_eq!(store.lines(), ["GET /signed?x=y"]);
        assert_eq!(store.seen()[0].authorization(), "", "{status}");
    }
}

#[tokio::test]
async fn redirect_on_the_same_host_keeps_the_credential() {
    let peer = Peer::new(|seen| match seen.line.as_str() {
        "GET /elsewhere" => manifest(MANIFEST),
        _ => respond(307, &[("location", "/elsewhere")], ""),
    })
    .await;
    let client = peer.client_with(
        Arc::new(StaticAuthenticator(user())),
        Options { preemptive_basic: true, ..quick() },
    );
    client.manifest("a", tag()).await.unwrap();
    assert_eq!(peer.seen()[1].authorization(), BASIC);
}

#[tokio::test]
async fn redirects_end() {
    let peer = Peer::new(|_| respond(307, &[("location", "/again")], "")).await;
    let error = peer.client().manifest("a", tag()).await.unwrap_err();
    assert_eq!((peer.lines().len(), error.class()), (11, Class::RegistryUnavailable));
    for location in ["http://169.254.169.254/latest", "ftp://x/", "http://", ""] {
        let peer = Peer::new(move |_| respond(302, &[("location", location)], "")).await;
        let error = peer.client().tags("a").await.unwrap_err();
        assert_eq!(error.class(), Class::RegistryUnavailable, "{location}: {error}");
        assert!(peer.lines().len() <= 11, "{location}");
    }
}

#[tokio::test]
async fn tag_is_resolved_by_one_head() {
    let digest = Digest::sha256_of(MANIFEST.as_bytes());
    let text = digest.to_string();
    let peer = Peer::new(move |_| {
        respond(
            200,
            &[
                ("docker-content-digest", &text),
                ("content-type", OCI_INDEX),
                ("content-length", "157"),
            ],
            "",
        )
    })
    .await;
    let found = peer.client().resolve("a/b", &tag()).await.unwrap();
    assert_eq!(found.digest, digest);
    assert_eq!(found.media_type.as_deref(), Some(OCI_INDEX));
    assert_eq!(peer.lines(), ["HEAD /v2/a/b/manifests/1.27"]);

    assert!(peer.seen()[0].header("accept").contains(OCI_INDEX));
}

#[tokio::test]
async fn tag_is_resolved_by_get_if_head_sends_no_digest() {
    for status in [200, 400, 403, 404, 405] {
        let peer = Peer::new(move |seen| {
            if seen.line.starts_with("HEAD") {
                respond(status, &[], "")
            } else {
                manifest(MANIFEST)
            }
        })
        .await;
        let found = peer.client().resolve("a", &tag()).await.unwrap();
        assert_eq!(found.digest, Digest::sha256_of(MANIFEST.as_bytes()), "{status}");
        assert_eq!(peer.lines().len(), 2);
    }
}

#[tokio::test]
async fn manifest_keeps_its_bytes_and_gets_its_type_from_header_or_body() {
    for (said, body, media_type) in [
        (OCI_MANIFEST, MANIFEST, OCI_MANIFEST),
        ("application/vnd.oci.image.manifest.v1+json; charset=utf-8", MANIFEST, OCI_MANIFEST),
        ("application/json", MANIFEST, OCI_MANIFEST),
        ("text/plain", r#"{"manifests":[]}"#, OCI_INDEX),
        (
            "text/plain",
            r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#,
            DOCKER_LIST,
        ),
    ] {
        let peer = Peer::new(move |_| respond(200, &[("content-type", said)], body)).await;
        let manifest = peer.client().manifest("a", tag()).await.unwrap();
        assert_eq!(
            (manifest.media_type.as_str(), &manifest.bytes[..]),
            (media_type, body.as_bytes()),
            "{said}"
        );
    }
}

#[tokio::test]
async fn manifest_with_another_digest_is_refused() {
    let wrong = Digest::sha256_of(b"other");
    let text = wrong.to_string();
    let peer = Peer::new(move |_| {
        respond(200, &[("content-type", OCI_MANIFEST), ("docker-content-digest", &text)], MANIFEST)
    })
    .await;

    for what in [
        TagOrDigest::from(tag()),
        wrong.clone().into(),
        Digest::sha256_of(MANIFEST.as_bytes()).into(),
    ] {
        let error = peer.client().manifest("a", what.clone()).await.unwrap_err();
        assert_eq!(error.class(), Class::SourceInvalid, "{what}: {error}");
    }

    let sha512 = Digest::of(Algorithm::Sha512, MANIFEST.as_bytes());
    let peer = Peer::new(|_| manifest(MANIFEST)).await;
    assert_eq!(peer.client().manifest("a", sha512.clone()).await.unwrap().digest, sha512);
}

#[tokio::test]
async fn manifest_of_four_mebibytes_is_read_and_a_larger_one_is_not() {
    let sized = |size: usize| {
        let mut body = br#"{"schemaVersion":2}"#.to_vec();
        body.resize(size, b' ');
        body
    };
    for (size, announced, good) in
        [(4 << 20, true, true), ((4 << 20) + 1, true, false), ((4 << 20) + 1, false, false)]
    {
        let peer = Peer::new(move |_| match announced {
            true => manifest(sized(size)),
            false => manifest(Body::from_stream(stream::iter([Ok::<_, io::Error>(sized(size))]))),
        })
        .await;
        match peer.client().manifest("a", tag()).await {
            Ok(manifest) => assert!(good && manifest.bytes.len() == size),
            Err(error) => {
                assert!(!good && error.class() == Class::SourceInvalid, "{size}: {error}")
            }
        }
        assert_eq!(peer.lines().len(), 1);
    }
}

#[test]
fn kinds_of_manifests_are_told_apart() {
    let child = r#"{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
    for (media_type, body, expected) in [
        (OCI_MANIFEST, MANIFEST.to_owned(), "image 0"),
        (DOCKER_MANIFEST, format!(r#"{{"config":{child},"layers":[{child},{child}]}}"#), "image 2"),
        (OCI_INDEX, format!(r#"{{"manifests":[{child}],"annotations":null}}"#), "index 1"),
        (DOCKER_LIST, r#"{"manifests":null}"#.to_owned(), "index 0"),
        ("", format!(r#"{{"manifests":[{child}]}}"#), "index 1"),
        (OCI_INDEX, format!(r#"{{"manifests":[],"layers":[{child}]}}"#), "has layers"),
        (OCI_MANIFEST, format!(r#"{{"manifests":[],"config":{child}}}"#), "has children"),
        (OCI_MANIFEST, "{}".to_owned(), "without config"),
        (
            OCI_MANIFEST,
            r#"{"config":{"digest":"sha256:1","size":2}}"#.to_owned(),
            "has another form",
        ),
        (
            OCI_MANIFEST,
            r#"{"config":{"digest":"sha256:1","size":-2}}"#.to_owned(),
            "not a manifest",
        ),
        (OCI_MANIFEST, "junk".to_owned(), "not a manifest"),
        (
            "application/vnd.oci.artifact.manifest.v1+json",
            r#"{"blobs":[]}"#.to_owned(),
            "withdrawn",
        ),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}".to_owned(), "schema 1"),
        ("application/json", r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
    ] {
        let told = match Manifest::new(body.clone().into(), media_type).kind() {
            Ok(Content::Index { children }) => format!("index {}", children.len()),
            Ok(Content::Image { layers, .. }) => format!("image {}", layers.len()),
            Err(error) => {
                assert_eq!(error.class(), Class::SourceInvalid);
                error.to_string()
            }
        };
        assert!(told.contains(expected), "{body}: {told}");
    }
}

#[tokio::test]
async fn manifest_is_written_byte_for_byte_with_its_type() {
    for status in [200, 201, 202, 204] {
        let peer = Peer::new(move |_| respond(status, &[], "")).await;
        let manifest = Manifest::new(Bytes::from_static(MANIFEST.as_bytes()), DOCKER_MANIFEST);
        peer.client().put_manifest("a", &manifest.digest, &manifest).await.unwrap();
        let seen = &peer.seen()[0];
        assert_eq!(seen.line, format!("PUT /v2/a/manifests/{}", manifest.digest));
        assert_eq!(
            (seen.body.as_ref(), seen.header("content-type")),
            (MANIFEST.as_bytes(), DOCKER_MANIFEST)
        );
    }
}

#[tokio::test]
async fn failed_manifest_writes_have_the_right_class() {
    let manifest = Manifest::new(Bytes::from_static(MANIFEST.as_bytes()), OCI_MANIFEST);
    let immutable = "The image tag '1' already exists in the 'a' repository and cannot be \
                     overwritten because the tag is immutable.";
    for (status, code, message, class, missing) in [
        (400, "TAG_INVALID", immutable, Class::TagImmutable, false),
        (
            404,
            "MANIFEST_BLOB_UNKNOWN",
            "Images with digests required for pushing",
            Class::RegistryUnavailable,
            true,
        ),
        (403, "DENIED", "not authorized to perform: ecr:PutImage", Class::AccessDenied, false),
    ] {
        let peer = Peer::new(move |_| refusal(status, code, message)).await;
        let error = peer.client().put_manifest("a", tag(), &manifest).await.unwrap_err();
        assert_eq!((error.class(), error.is_missing_content()), (class, missing), "{error}");
        assert_eq!(peer.lines().len(), 1);
    }

    let other = Digest::sha256_of(b"other").to_string();
    let peer = Peer::new(move |_| respond(201, &[("docker-content-digest", &other)], "")).await;
    let error = peer.client().put_manifest("a", tag(), &manifest).await.unwrap_err();
    assert!(error.to_string().contains("stored the manifest as"), "{error}");
}

#[tokio::test]
async fn manifest_is_checked_by_head() {
    let peer =
        Peer::new(|seen| respond(if seen.line.ends_with("/1.27") { 200 } else { 404 }, &[], ""))
            .await;
    let client = peer.client();
    assert!(client.manifest_exists("a", tag()).await.unwrap());
    assert!(!client.manifest_exists("a", Digest::sha256_of(b"")).await.unwrap());
    assert_eq!(peer.lines().len(), 2);
}

#[tokio::test]
async fn repositories_cannot_leave_the_api_path() {
    let peer = Peer::new(|_| respond(200, &[], "")).await;
    for repository in ["", "../x", "a/../../x", "a?b", "a#b", "/etc", "http://evil/x", "a%2e"] {
        assert!(peer.client().tags(repository).await.is_err(), "{repository}");
    }
    assert_eq!(peer.lines().len(), 0);
}

#[tokio::test]
async fn referrers_are_read_from_the_api_if_there_is_one() {
    let subject = Digest::sha256_of(b"subject");
    let child = |name: &str| {
        let digest = Digest::sha256_of(name.as_bytes());
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","size":2,"digest":"{digest}","artifactType":"x/sig"}}"#
        )
    };

    let index = |name: &str| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, child(name))
    };
    let (first, second) = (index("1"), index("2"));
    let next = format!("</v2/a/referrers/{subject}?page=2>; rel=next");
    let peer = Peer::new(move |seen| match seen.line.ends_with("?page=2") {
        false => {
            respond(200, &[("link", next.as_str()), ("content-type", OCI_INDEX)], first.clone())
        }
        true => respond(200, &[("content-type", OCI_INDEX)], second.clone()),
    })
    .await;
    let digests = peer.client().referrers("a", &subject).await.unwrap().unwrap();
    assert_eq!(digests, [Digest::sha256_of(b"1"), Digest::sha256_of(b"2")]);

    // None of these is an answer of the referrers API, and none is a failure.
    for (status, body) in
        [(404, "{}"), (405, ""), (200, "<html>Sign in</html>"), (200, r#"{"config":{}}"#)]
    {
        let peer = Peer::new(move |_| respond(status, &[], body)).await;
        assert_eq!(peer.client().referrers("a", &subject).await.unwrap(), None, "{status} {body}");
    }
    let peer = Peer::new(|_| refusal(403, "DENIED", "no")).await;

    assert!(peer.client().referrers("a", &subject).await.is_err());
}

/// A gate that counts.
#[derive(Debug, Default)]
struct Turnstile {
    passed: std::sync::atomic::AtomicUsize,
    throttled: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Gate for Turnstile {
    async fn pass(&self) {
        self.passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn throttled(&self) {
        self.throttled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn each_try_of_a_manifest_passes_the_gate_and_a_throttle_is_reported_to_it() {
    let peer = Peer::new(|seen| match seen.nth {
        0 => refusal(429, "TOOMANYREQUESTS", "slow down"),
        1 => refusal(500, "INTERNAL", "oops"),
        _ => respond(201, &[], ""),
    })
    .await;
    let gate = Arc::new(Turnstile::default());
    let client = peer.client_with(
        Arc::new(StaticAuthenticator(Credential::Anonymous)),
        Options { manifests: Some(gate.clone()), ..quick() },
    );
    let manifest = Manifest::new(Bytes::from_static(b"{}"), OCI_MANIFEST);
    client.put_manifest("a", &manifest.digest, &manifest).await.unwrap();
    let count = |counter: &std::sync::atomic::AtomicUsize| {
        counter.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!((count(&gate.passed), count(&gate.throttled)), (3, 1));
}
