use std::sync::atomic::{AtomicU64, Ordering};

use super::auth::{NEW, renewing};
use super::*;
use crate::class::Class;

const SIZE: usize = 300_000;

/// A source that has the blob.
async fn source() -> Peer {
    let body = content(SIZE);
    Peer::new(move |_| respond(200, &[], body.clone())).await
}

fn is_put(seen: &Seen) -> bool {
    seen.line.starts_with("PUT")
}

/// A target that answers PUTs by `put`.
async fn target(put: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Peer {
    Peer::new(move |seen| if is_put(seen) { put(seen) } else { session() }).await
}

/// A target whose first upload session is at another URL than the later ones.
async fn target_with_first_upload_at(to: String) -> Peer {
    Peer::new(move |seen| match (is_put(seen), seen.nth) {
        (true, _) => respond(201, &[], ""),
        (_, 0) => respond(202, &[("location", &to)], ""),
        _ => session(),
    })
    .await
}

fn session() -> Response {
    respond(202, &[("location", "/v2/b/blobs/uploads/1?state=x%2Fy")], "")
}

async fn copy(source: &Client, target: &Client) -> (Result<(), Error>, u64) {
    let told = AtomicU64::new(0);
    let observer = |bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
    };
    let result = copy_blob(source, "a", target, "b", &descriptor(&content(SIZE)), &observer).await;
    (result, told.into_inner())
}

#[tokio::test]
async fn blob_is_copied_with_three_requests() {
    let source = source().await;
    for status in [200, 201, 202, 204] {
        let target = target(move |_| respond(status, &[], "")).await;
        let (result, told) = copy(&source.client(), &target.client()).await;
        result.unwrap();
        assert_eq!(told, SIZE as u64);
        let seen = target.seen();
        assert_eq!(seen[0].line, "POST /v2/b/blobs/uploads/");
        let digest = Digest::sha256_of(&content(SIZE)).to_string().replace(':', "%3A");
        assert_eq!(seen[1].line, format!("PUT /v2/b/blobs/uploads/1?state=x%2Fy&digest={digest}"));
        assert!(seen[1].body == content(SIZE));
        assert_eq!(seen[1].header("content-length"), SIZE.to_string());
        assert_eq!(seen.len(), 2);
    }
    assert_eq!(source.lines().len(), 4);
}

#[tokio::test]
async fn blob_that_was_corrupt_once_is_fetched_again() {
    let body = content(SIZE);
    let source = Peer::new(move |seen| {
        let mut bytes = body.to_vec();
        bytes[SIZE / 2] ^= u8::from(seen.nth == 0);
        respond(200, &[], bytes)
    })
    .await;
    let target =
        target(|seen| if seen.whole { respond(201, &[], "") } else { respond(400, &[], "") }).await;
    let (result, told) = copy(&source.client(), &target.client()).await;
    result.unwrap();
    assert_eq!((source.lines().len(), told), (2, SIZE as u64));
}

#[tokio::test]
async fn blob_that_is_corrupt_always_is_never_completed_at_the_target() {
    let source = Peer::new(|_| respond(200, &[], vec![7; SIZE])).await;
    let target = target(|_| respond(201, &[], "")).await;
    let error = copy(&source.client(), &target.client()).await.0.unwrap_err();
    assert_eq!(error.class(), Class::SourceInvalid);
    assert!(matches!(error, Error::ReadBlob { .. }), "{error}");
    assert_eq!(source.lines().len(), 2);
    assert!(target.seen().iter().all(|seen| !is_put(seen) || !seen.whole));
}

#[tokio::test]
async fn broken_source_is_resumed_within_the_same_upload() {
    let body = content(SIZE);
    let source = Peer::new(move |seen| match seen.nth {
        0 => broken(200, &[], body.slice(..SIZE / 2), SIZE),
        _ => {
            let from: usize = seen
                .header("range")
                .trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse()
                .unwrap();
            let range = format!("bytes {from}-{}/{SIZE}", SIZE - 1);
            respond(206, &[("content-range", &range)], body.slice(from..))
        }
    })
    .await;
    let target = target(|_| respond(201, &[], "")).await;
    copy(&source.client(), &target.client()).await.0.unwrap();
    assert_eq!((source.lines().len(), target.lines().len()), (2, 2));
}

#[tokio::test]
async fn blob_is_sent_again_after_a_transient_failure_of_the_target() {
    let lost = |status, code| {
        move |seen: &Seen| {
            if seen.nth == 0 { refusal(status, code, "x") } else { respond(201, &[], "") }
        }
    };

    for target in [
        target(lost(503, "UNAVAILABLE")).await,
        target(lost(500, "UNKNOWN")).await,
        target(lost(429, "TOOMANYREQUESTS")).await,
        target(lost(404, "BLOB_UPLOAD_UNKNOWN")).await,
        target(lost(400, "DIGEST_INVALID")).await,
    ] {
        let source = source().await;
        let (result, told) = copy(&source.client(), &target.client()).await;
        result.unwrap();
        assert_eq!((source.lines().len(), target.count("POST"), target.count("PUT")), (2, 2, 2));
        assert_eq!(told, SIZE as u64, "each byte is reported once");
    }
}

#[tokio::test]
async fn expired_credential_at_the_put_is_renewed_and_the_blob_sent_again() {
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    let target = target(move |seen| match seen.authorization() {
        NEW => respond(201, &[], ""),
        _ => refusal(403, "DENIED", message),
    })
    .await;
    let source = source().await;
    copy(&source.client(), &renewing(&target)).await.0.unwrap();
    assert_eq!((target.count("POST"), target.count("PUT")), (2, 2));
}

#[tokio::test]
async fn no_upload_session_is_opened_while_the_source_is_paused() {
    let source = source().await;
    let from = source.client();
    let (watched, early) = (from.clone(), Arc::new(AtomicU64::new(0)));
    let counted = early.clone();
    let target = Peer::new(move |seen| {
        counted.fetch_add(watched.limits().pause().is_some().into(), Ordering::Relaxed);
        if is_put(seen) { respond(201, &[], "") } else { session() }
    })
    .await;
    from.limits().pause_for(Duration::from_millis(100));
    copy(&from, &target.client()).await.0.unwrap();
    assert_eq!((target.count("POST"), target.count("PUT")), (1, 1));
    assert_eq!(early.load(Ordering::Relaxed), 0, "none during the pause");

    // A pause that is too long to wait for fails the copy, and the target is not asked at all.
    from.limits().pause_for(Duration::from_secs(600));
    let error = copy(&from, &target.client()).await.0.unwrap_err();
    assert!(matches!(error, Error::ReadBlob { .. }), "{error}");
    assert_eq!(error.class(), Class::RateLimited);
    assert_eq!(target.count("POST"), 1);

    // Embedded content needs no source.
    let embedded = Descriptor { data: Some(Bytes::from_static(b"{}")), ..descriptor(b"{}") };
    copy_blob(&from, "a", &target.client(), "b", &embedded, &|_| {}).await.unwrap();
    assert_eq!(target.count("POST"), 2);
}

#[tokio::test]
async fn refusal_during_an_upload_is_reported() {
    let huge = content(32 << 20);
    let (body, blob) = (huge.clone(), descriptor(&huge));
    let source = Peer::new(move |_| respond(200, &[], body.clone())).await;
    let refuse = |seen: &Seen| {
        is_put(seen)
            .then(|| refusal(403, "DENIED", "not authorized to perform: ecr:UploadLayerPart"))
    };
    let target = Peer::with_early(refuse, |_| session()).await;
    let error = copy_blob(&source.client(), "a", &target.client_as(user()), "b", &blob, &|_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ecr:UploadLayerPart"), "{error}");
    // The second PUT has no body: the refusal was lost with the connection.
    assert!(target.count("PUT") <= 2 && source.lines().len() == 1);
}

#[tokio::test]
async fn blob_is_sent_again_after_a_broken_put() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/upload", listener.local_addr().unwrap());
    // Reads a little and closes the connection, each time.
    let rude = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.readable().await.unwrap();
            let _ = socket.try_read(&mut [0; 100]);
        }
    });
    let target = target_with_first_upload_at(to).await;
    let source = source().await;
    copy(&source.client(), &target.client()).await.0.unwrap();
    assert_eq!((target.count("POST"), target.count("PUT"), source.lines().len()), (2, 1, 2));
    rude.abort();
}

#[tokio::test]
async fn message_says_which_side_broke() {
    let good = source().await;
    let missing = Peer::new(|_| refusal(404, "BLOB_UNKNOWN", "no")).await;
    let refusing = target(|_| refusal(400, "NAME_INVALID", "no")).await;
    let taking = target(|_| respond(201, &[], "")).await;
    let error = copy(&good.client(), &refusing.client()).await.0.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot write blob {}/b@", refusing.host)),
        "{error}"
    );
    let error = copy(&missing.client(), &taking.client()).await.0.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot read blob {}/a@", missing.host)),
        "{error}"
    );
    assert_eq!(error.class(), Class::SourceNotFound);
}

#[tokio::test]
async fn upload_that_is_not_read_is_ended() {
    // Never reads and never answers: its socket buffers fill up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/upload", listener.local_addr().unwrap());
    let deaf = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let target = Peer::new(move |_| respond(202, &[("location", &to)], "")).await;
    let huge = content(32 << 20);
    let blob = descriptor(&huge);
    let stream = BlobStream::from_bytes("memory", &blob, huge.clone());
    let options = Options { commit_timeout: Duration::from_millis(300), ..quick() };
    let client = target.client_with(Arc::new(StaticAuthenticator::default()), options);

    let error = client.upload("b", &blob, stream).await.unwrap_err();
    assert!(
        matches!(error.failure(), Some(Cause::Stalled { .. } | Cause::NoAnswer { .. })),
        "{error}"
    );
    assert_eq!(error.class(), Class::RegistryUnavailable);

    deaf.abort();
}

#[tokio::test]
async fn retries_end_if_the_target_always_asks_to_wait() {
    let target = Peer::new(|_| respond(429, &[("retry-after", "0")], "")).await;
    let error = copy(&source().await.client(), &target.client()).await.0.unwrap_err();
    assert_eq!(
        (error.class(), target.count("POST")),
        (Class::RateLimited, 4),
        "retried by the request, not by the blob too"
    );

    // A PUT cannot be sent again by the request.
    let target = self::target(|seen| match seen.nth {
        0 => respond(429, &[("retry-after", "0")], ""),
        _ => respond(201, &[], ""),
    })
    .await;
    copy(&source().await.client(), &target.client()).await.0.unwrap();
    assert_eq!(target.count("PUT"), 2);
}

#[tokio::test]
async fn blob_is_sent_again_after_a_silent_target() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/upload", listener.local_addr().unwrap());
    // Reads every byte, and never answers.
    let mute = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await });
        }
    });
    let target = target_with_first_upload_at(to).await;
    let source = source().await;
    copy(&source.client(), &target.client()).await.0.unwrap();
    assert_eq!((target.count("POST"), target.count("PUT"), source.lines().len()), (2, 1, 2));
    mute.abort();
}

#[test]
fn timeout_after_an_upload_grows_with_its_size() {
    let options = Options::default();
    for (size, seconds) in
        [(0, 60), (1 << 20, 60), (400 << 20, 160), (1 << 30, 300), (50 << 30, 300)]
    {
        assert_eq!(options.commit_timeout_of(size).as_secs(), seconds, "{size}");
    }
}

#[tokio::test]
async fn upload_to_another_host_carries_no_credential() {
    let store = Peer::new(|_| respond(201, &[], "")).await;
    let to = format!("http://{}/upload", store.host);
    let target = Peer::new(move |_| respond(202, &[("location", &to)], "")).await;
    let source = source().await;
    copy(&source.client(), &renewing(&target)).await.0.unwrap();
    assert!(target.seen()[0].authorization().starts_with("Basic"));
    assert_eq!(store.seen()[0].authorization(), "");
}

#[tokio::test]
async fn upload_session_needs_a_usable_location() {
    for location in ["http://169.254.169.254/x", "ftp://x/", ""] {
        let target = Peer::new(move |_| match location {
            "" => respond(202, &[], ""),
            _ => respond(202, &[("location", location)], ""),
        })
        .await;
        let error = copy(&source().await.client(), &target.client()).await.0.unwrap_err();
        assert_eq!(error.class(), Class::RegistryUnavailable, "{location}: {error}");
        assert_eq!(target.lines().len(), 1);
    }
}

#[tokio::test]
async fn empty_blob_is_written_and_a_false_one_is_not() {
    let target = target(|_| respond(201, &[], "")).await;
    let client = target.client();
    let empty = descriptor(b"");
    client
        .upload("b", &empty, BlobStream::from_bytes("memory", &empty, Bytes::new()))
        .await
        .unwrap();
    assert_eq!(target.seen()[1].header("content-length"), "0");
    let mut false_one = empty;
    false_one.digest = Digest::sha256_of(b"x");
    let stream = BlobStream::from_bytes("memory", &false_one, Bytes::new());
    assert_eq!(
        client.upload("b", &false_one, stream).await.unwrap_err().class(),
        Class::SourceInvalid
    );
    assert_eq!(target.count("PUT"), 1);
}

#[tokio::test]
async fn mount_needs_no_source_and_its_refusal_no_second_session() {
    let source = source().await;
    for (status, moved, posts, reads) in [
        (201, Moved::Mounted, 1, 0),
        (202, Moved::Copied, 1, 1),
        (400, Moved::Copied, 2, 2),
        (403, Moved::Copied, 2, 3),
        (404, Moved::Copied, 2, 4),
        (405, Moved::Copied, 2, 5),
    ] {
        let target = Peer::new(move |seen| match (is_put(seen), seen.line.contains("mount=")) {
            (true, _) => respond(201, &[], ""),
            (_, true) if status == 201 => respond(201, &[], ""),
            (_, true) if status >= 400 => refusal(status, "UNSUPPORTED", "no"),
            _ => session(),
        })
        .await;
        let blob = descriptor(&content(SIZE));
        let (from, to) = (source.client(), target.client());
        assert_eq!(
            mount_or_copy_blob(&from, "a", &to, "b", &blob, "base", &|_| {}).await.unwrap(),
            moved
        );
        assert_eq!((target.count("POST"), source.lines().len()), (posts, reads), "{status}");
    }
}

#[tokio::test]
async fn permanent_refusal_is_not_retried() {
    let target = target(|_| refusal(400, "NAME_INVALID", "no")).await;
    let error = copy(&source().await.client(), &target.client()).await.0.unwrap_err();
    assert_eq!((error.status(), target.count("PUT")), (Some(400), 1));
}

#[tokio::test]
async fn one_slot_of_each_kind_is_enough_to_copy_within_one_registry() {
    let body = content(SIZE);
    let peer = Peer::new(move |seen| match seen.line.split(' ').next() {
        Some("GET") => respond(200, &[], body.clone()),
        Some("PUT") => respond(201, &[], ""),
        _ => session(),
    })
    .await;
    let limits = Arc::new(Limits::new(Widths { requests: 1, downloads: 1, uploads: 1 }));
    let options = Options { limits: Some(limits), ..quick() };
    let client = peer.client_with(Arc::new(StaticAuthenticator::default()), options);
    let copies = (0..8).map(|_| copy(&client, &client));
    for (result, _) in futures::future::join_all(copies).await {
        result.unwrap();
    }
    assert_eq!(peer.count("PUT"), 8);
}

/// A gate that blocks all until it is opened.
#[derive(Debug, Default)]
struct Barrier {
    open: tokio::sync::Notify,
    throttled: AtomicU64,
}

#[async_trait::async_trait]
impl Gate for Barrier {
    async fn pass(&self) {
        self.open.notified().await;
    }

    fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn slow_target_blocks_no_other_copy_from_the_source() {
    let (source, target) = (source().await, target(|_| respond(201, &[], "")).await);
    let limits = Arc::new(Limits::new(Widths { downloads: 1, ..Widths::default() }));
    let from = source.client_with(
        Arc::new(StaticAuthenticator::default()),
        Options { limits: Some(limits), ..quick() },
    );
    let gate = Arc::new(Barrier::default());
    let slow = target.client_with(
        Arc::new(StaticAuthenticator::default()),
        Options { uploads: Some(gate.clone()), ..quick() },
    );
    let mut waiting = Box::pin(copy(&from, &slow));
    assert!(futures::poll!(&mut waiting).is_pending());

    // Meanwhile another target gets the blob through the source's only slot.
    copy(&from, &target.client()).await.0.unwrap();
    assert_eq!((source.lines().len(), target.count("POST")), (1, 1));
    gate.open.notify_one();
    waiting.await.0.unwrap();

    assert_eq!((source.lines().len(), target.count("POST")), (2, 2));
}

#[tokio::test]
async fn throttled_upload_is_reported_to_its_gate() {
    for struck in ["POST", "PUT"] {
        let target = Peer::new(move |seen| {
            match (seen.line.starts_with(struck) && seen.nth == 0, is_put(seen)) {
                (true, _) => refusal(429, "TOOMANYREQUESTS", "Rate exceeded"),
                (_, true) => respond(201, &[], ""),
                _ => session(),
            }
        })
        .await;
        let gate = Arc::new(Barrier::default());
        let options = Options { uploads: Some(gate.clone()), ..quick() };
        let client = target.client_with(Arc::new(StaticAuthenticator::default()), options);
        let source = source().await;
        let from = source.client();
        let open = async {
            loop {
                gate.open.notify_one();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { copied = copy(&from, &client) => copied.0.unwrap(), () = open => {} }
        assert_eq!(gate.throttled.load(Ordering::Relaxed), 1, "{struck}");
    }
}
