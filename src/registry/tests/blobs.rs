use futures::TryStreamExt as _;

use super::*;
use crate::class::Class;

/// Reads to the end; returns the released bytes, and the error if there is one.
async fn read(mut blob: BlobStream) -> (Vec<u8>, Option<Error>) {
    let mut out = Vec::new();
    loop {
        match blob.try_next().await {
            Ok(Some(chunk)) => out.extend_from_slice(&chunk),
            Ok(None) => return (out, None),
            Err(error) => return (out, Some(error)),
        }
    }
}

fn offset(seen: &Seen) -> usize {
    seen.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0)
}

#[tokio::test]
async fn broken_download_is_resumed() {
    let all = content(300_000);
    let body = all.clone();
    let peer = Peer::new(move |seen| {
        let (from, size) = (offset(seen), body.len());
        if seen.nth == 2 {
            let range = format!("bytes {from}-{}/{size}", size - 1);
            return respond(206, &[("content-range", &range)], body.slice(from..));
        }
        let range = format!("bytes {from}-{}/{size}", size - 1);
        let status = if from == 0 { 200 } else { 206 };
        broken(status, &[("content-range", &range)], body.slice(from..from + 100_000), size - from)
    })
    .await;
    let blob = peer.client().blob("a", &descriptor(&all)).await.unwrap();

    let (out, error) = read(blob).await;
    assert!(error.is_none(), "{error:?}");
    assert!(out == all);
    let ranges: Vec<_> = peer.seen().iter().map(|seen| seen.header("range").to_owned()).collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], "");

    assert!(ranges[1..].iter().all(|range| range.starts_with("bytes=")));
}

#[tokio::test]
async fn server_that_ignores_ranges_is_read_again_from_the_start() {
    let all = content(200_000);
    let body = all.clone();
    let peer = Peer::new(move |seen| match seen.nth {
        0 => broken(200, &[], body.slice(..150_000), body.len()),
        _ => respond(200, &[], body.clone()),
    })
    .await;
    let (out, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
    assert!(error.is_none() && out == all, "{error:?}");
    assert_eq!(peer.lines().len(), 2);
}

#[tokio::test]
async fn break_is_reported_if_the_server_has_no_more_bytes() {
    let all = content(1000);
    let body = all.clone();
    let peer = Peer::new(move |seen| match seen.nth {
        0 => respond(
            200,
            &[],
            Body::from_stream(stream::iter([Ok::<_, io::Error>(body.slice(..500))])),
        ),
        _ => respond(416, &[], ""),
    })
    .await;

    let (_, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
    let error = error.unwrap();
    assert!(
        matches!(error.failure(), Some(Cause::Truncated { .. })) && error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn download_that_always_breaks_fails() {
    let all = content(1000);
    let peer = Peer::new(|_| broken(200, &[], Bytes::new(), 1000)).await;
    let (out, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
    assert_eq!((out.len(), peer.lines().len()), (0, 4));
    assert_eq!(error.unwrap().class(), Class::RegistryUnavailable);
}

#[tokio::test]
async fn stalled_download_is_ended_and_resumed() {
    let all = content(1000);
    let body = all.clone();
    let peer = Peer::new(move |seen| match seen.nth {
        0 => hanging(body.slice(..100), 1000),
        _ => respond(206, &[("content-range", "bytes 100-999/1000")], body.slice(100..)),
    })
    .await;
    let (out, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
    assert!(error.is_none() && out == all, "{error:?}");
    assert_eq!(peer.lines().len(), 2);
}

#[tokio::test]
async fn body_below_the_minimum_rate_counts_as_stalled() {
    let all = content(1000);
    let trickle = stream::iter(0..1000).then(|_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, io::Error>(Bytes::from_static(b"x"))
    });
    let trickle = Mutex::new(Some(trickle));
    let body = all.clone();
    let peer = Peer::new(move |_| match trickle.lock().unwrap().take() {
        Some(trickle) => {
            respond(200, &[("content-length", "1000")], Body::from_stream(Box::pin(trickle)))
        }
        None => respond(200, &[], body.clone()),
    })
    .await;

    let (_, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
    // The bytes before were wrong too, as the hash shows.
    assert!(matches!(error.unwrap().failure(), Some(Cause::Digest { .. })));
    assert_eq!(peer.lines().len(), 2);
}

#[tokio::test]
async fn slow_consumer_is_not_a_stall() {
    let all = content(4 << 20);
    let body = all.clone();
    let peer = Peer::new(move |_| respond(200, &[], body.clone())).await;
    let options = Options { stall_window: Duration::from_millis(50), ..quick() };
    let client = peer.client_with(Arc::new(StaticAuthenticator::default()), options);
    let mut blob = client.blob("a", &descriptor(&all)).await.unwrap();
    let first = blob.try_next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest: Vec<Bytes> = blob.try_collect().await.unwrap();
    assert_eq!(first.len() + rest.iter().map(Bytes::len).sum::<usize>(), all.len());
    assert_eq!(peer.lines().len(), 1);
}

#[tokio::test]
async fn end_of_wrong_content_is_never_released() {
    let all = content(100_000);
    for (body, kind) in [
        (content(99_999), "short"),
        ([&all[..], b"x"].concat().into(), "long"),
        ([&all[..99_999], b"x"].concat().into(), "corrupt"),
    ] {
        // Without a length, so that it is noticed only at the end.
        let peer = Peer::new(move |seen| match offset(seen) {
            0 => respond(
                200,
                &[],
                Body::from_stream(stream::iter([Ok::<_, io::Error>(body.clone())])),
            ),
            _ => respond(416, &[], ""),
        })
        .await;
        let (out, error) = read(peer.client().blob("a", &descriptor(&all)).await.unwrap()).await;
        let error = error.unwrap_or_else(|| panic!("{kind} came through"));
        assert!(out.len() < all.len(), "{kind}");
        assert!(
            matches!(error.class(), Class::SourceInvalid | Class::RegistryUnavailable),
            "{kind}: {error}"
        );
    }
}

#[tokio::test]
async fn announced_length_that_is_wrong_is_refused_before_a_byte() {
    let peer = Peer::new(|_| respond(200, &[], content(10))).await;
    let error = peer.client().blob("a", &descriptor(&content(11))).await.unwrap_err();
    assert!(matches!(error.failure(), Some(Cause::Size { .. })), "{error}");
    assert_eq!(error.class(), Class::SourceInvalid);
}

#[tokio::test]
async fn embedded_content_needs_no_request_unless_it_is_wrong() {
    let all = content(20);
    let body = all.clone();
    let peer = Peer::new(move |_| respond(200, &[], body.clone())).await;
    let client = peer.client();
    let mut blob = descriptor(&all);
    blob.data = Some(all.clone());
    assert_eq!(client.blob("a", &blob).await.unwrap().collect_bytes(100).await.unwrap(), all);
    assert_eq!(peer.lines().len(), 0);
    blob.data = Some(Bytes::from_static(b"wrong"));
    assert_eq!(client.blob("a", &blob).await.unwrap().collect_bytes(100).await.unwrap(), all);
    assert_eq!(peer.lines().len(), 1);
    assert!(client.blob("a", &blob).await.unwrap().collect_bytes(19).await.is_err());
}

#[tokio::test]
async fn compressed_transfer_is_neither_asked_for_nor_undone() {
    let all = Bytes::from_static(b"\x1f\x8b\x08 bytes as they are");
    let body = all.clone();
    let peer =
        Peer::new(move |_| respond(200, &[("content-encoding", "gzip")], body.clone())).await;
    let blob = peer.client().blob("a", &descriptor(&all)).await.unwrap();
    assert_eq!(blob.collect_bytes(100).await.unwrap(), all);
    assert_eq!(peer.seen()[0].header("accept-encoding"), "identity");
}

#[tokio::test]
async fn blob_that_cannot_be_checked_counts_as_missing() {
    for (status, there) in [(200, true), (404, false), (405, false), (400, false)] {
        let peer = Peer::new(move |_| respond(status, &[], "")).await;
        assert_eq!(
            peer.client().blob_exists("a", &Digest::sha256_of(b"")).await.unwrap(),
            there,
            "{status}"
        );
        assert_eq!(peer.lines().len(), 1);
    }
}
