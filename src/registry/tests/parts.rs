//! Targets that do not accept a whole blob.

use std::sync::Mutex;

use super::*;
use crate::class::Class;

/// Two parts and a rest.
const SIZE: usize = 2 * PART + 1000;
const PART: usize = 5 << 20;

/// The upload session of a registry.
#[derive(Debug, Default)]
struct Store {
    bytes: Vec<u8>,
    completed: bool,
    /// The status for a PUT with a body.
    refuses: u16,
    /// The largest accepted body.
    most: Option<usize>,
}

impl Store {
    fn location(&self) -> String {
        format!("/v2/b/blobs/uploads/1?at={}", self.bytes.len())
    }

    /// Answers by the distribution spec.
    fn answer(&mut self, seen: &Seen) -> Response {
        let method = seen.line.split(' ').next().unwrap_or_default();
        if self.most.is_some_and(|most| seen.body.len() > most) {
            return respond(413, &[], "<html>");
        }

        match method {
            "HEAD" => respond(if self.completed { 200 } else { 404 }, &[], ""),
            "POST" => {
                self.bytes.clear();
                respond(202, &[("location", &self.location())], "")
            }
            "PUT" if !seen.body.is_empty() => refusal(self.refuses, "UNSUPPORTED", "in one piece"),
            "PUT" => {
                let digest = Digest::sha256_of(&self.bytes).to_string().replace(':', "%3A");
                self.completed = seen.line.ends_with(&format!("&digest={digest}"));
                if self.completed {
                    respond(201, &[], "")
                } else {
                    refusal(400, "DIGEST_INVALID", "no")
                }
            }
            "PATCH" => {
                let first: usize =
                    seen.header("content-range").split('-').next().unwrap().parse().unwrap();
                if first != self.bytes.len() {
                    return self.tell(416);
                }
                self.bytes.extend_from_slice(&seen.body);
                self.tell(202)
            }
            _ => self.tell(204),
        }
    }

    fn tell(&self, status: u16) -> Response {
        let range = format!("0-{}", self.bytes.len().saturating_sub(1));
        respond(status, &[("location", &self.location()), ("range", &range)], "")
    }
}

/// A target with a session, whose answers can be replaced.
async fn target(
    store: Store,
    bend: impl Fn(&Seen, &mut Store) -> Option<Response> + Send + Sync + 'static,
) -> (Peer, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(store));
    let shared = store.clone();
    let peer = Peer::new(move |seen| {
        let mut store = shared.lock().unwrap();
        bend(seen, &mut store).unwrap_or_else(|| store.answer(seen))
    })
    .await;
    (peer, store)
}

fn refusing(status: u16) -> Store {
    Store { refuses: status, ..Store::default() }
}

async fn source() -> Peer {
    let body = content(SIZE);
    Peer::new(move |_| respond(200, &[], body.clone())).await
}

/// Copies the blob and returns the number of reported bytes.
async fn copy(source: &Peer, target: &Client) -> Result<u64, Error> {
    let told = std::sync::atomic::AtomicU64::new(0);
    let observer = |bytes| {
        told.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    copy_blob(&source.client(), "a", target, "b", &descriptor(&content(SIZE)), &observer).await?;
    Ok(told.into_inner())
}

fn ranges(peer: &Peer) -> Vec<String> {
    let patches = peer.seen().into_iter().filter(|seen| seen.line.starts_with("PATCH"));
    patches.map(|seen| seen.header("content-range").to_owned()).collect()
}

/// The ranges of a copy without failures.
fn whole() -> [String; 3] {
    [
        format!("0-{}", PART - 1),
        format!("{PART}-{}", 2 * PART - 1),
        format!("{}-{}", 2 * PART, SIZE - 1),
    ]
}

#[tokio::test]
async fn target_that_refuses_a_blob_in_one_piece_gets_it_in_parts_and_the_next_one_at_once() {
    let source = source().await;
    for status in [400, 405, 411, 415, 416, 501] {
        let (target, store) = target(refusing(status), |_, _| None).await;
        let client = target.client();
        assert_eq!(copy(&source, &client).await.unwrap(), SIZE as u64, "{status}");
        assert!(store.lock().unwrap().completed);
        assert_eq!((ranges(&target), target.count("PUT")), (whole().to_vec(), 2), "{status}");
        // The next blob is not sent whole to this registry.
        copy(&source, &client).await.unwrap();
        assert_eq!(
            (ranges(&target).len(), target.count("POST"), target.count("PUT")),
            (6, 3, 3),
            "{status}"
        );
    }
}

#[tokio::test]
async fn only_blobs_as_large_as_the_refused_one_are_sent_in_parts() {
    let (target, _) = target(Store { most: Some(PART), ..refusing(413) }, |seen, _| {
        (seen.line.starts_with("PUT") && seen.body.len() == 10).then(|| respond(201, &[], ""))
    })
    .await;
    let source = source().await;
    let client = target.client();
    copy(&source, &client).await.unwrap();
    let small = descriptor(&content(10));
    client
        .upload("b", &small, BlobStream::from_bytes("memory", &small, content(10)))
        .await
        .unwrap();
    assert_eq!(ranges(&target).len(), 3);
}

#[tokio::test]
async fn part_sizes_follow_the_registry() {
    let source = source().await;
    let (least, _) = target(refusing(405), |seen, _| {
        seen.line.starts_with("POST").then(|| {
            let least = (PART + 7).to_string();
            respond(
                202,
                &[("location", "/v2/b/blobs/uploads/1?at=0"), ("oci-chunk-min-length", &least)],
                "",
            )
        })
    })
    .await;
    copy(&source, &least.client()).await.unwrap();
    let (first, second) = (PART + 7, 2 * PART + 14);
    let expected = [(0, first), (first, second), (second, SIZE)]
        .map(|(from, to)| format!("{from}-{}", to - 1));
    assert_eq!(ranges(&least), expected);

    let (small, store) = target(Store { most: Some(2 << 20), ..refusing(405) }, |_, _| None).await;
    copy(&source, &small.client()).await.unwrap();
    let sent = ranges(&small);
    assert_eq!(
        &sent[..3],
        [whole()[0].clone(), format!("0-{}", PART / 2 - 1), format!("0-{}", PART / 4 - 1)]
    );
    assert!(store.lock().unwrap().completed);

    let (huge, _) = target(refusing(405), |seen, _| {
        let headers =
            [("location", "/v2/b/blobs/uploads/1?at=0"), ("oci-chunk-min-length", "99999999999")];
        seen.line.starts_with("POST").then(|| respond(202, &headers, ""))
    })
    .await;
    let error = copy(&source, &huge.client()).await.unwrap_err();

    assert!(error.to_string().contains("99999999999"), "{error}");
}

#[tokio::test]
async fn stale_range_of_the_first_part_is_ignored() {
    // ECR: 201 with a stale range, and all bytes are stored.
    let (target, store) = target(refusing(405), |seen, store| {
        let session = seen.line.starts_with("PATCH") || seen.line.starts_with("GET");
        session.then(|| {
            let mut response = store.answer(seen);
            let first = format!("0-{}", PART - 1);
            response.headers_mut().insert("range", first.parse().unwrap());
            if response.status() == 202 {
                *response.status_mut() = StatusCode::CREATED;
            }
            response
        })
    })
    .await;
    copy(&source().await, &target.client()).await.unwrap();
    assert_eq!(ranges(&target), whole());
    assert!(store.lock().unwrap().completed);
    assert_eq!(target.count("GET"), 2, "the session is asked after each seemingly refused part");
}

#[tokio::test]
async fn half_accepted_part_is_continued() {
    let (target, store) = target(refusing(405), |seen, store| {
        (seen.line.starts_with("PATCH") && store.bytes.len() == PART && seen.body.len() == PART)
            .then(|| {
                store.bytes.extend_from_slice(&seen.body[..100]);
                store.tell(202)
            })
    })
    .await;
    copy(&source().await, &target.client()).await.unwrap();
    assert!(store.lock().unwrap().completed);
    assert_eq!(ranges(&target)[2], format!("{}-{}", PART + 100, 2 * PART - 1));
}

#[tokio::test]
async fn part_is_sent_again_only_if_the_session_lacks_it() {
    for (status, stored) in [(503, false), (503, true), (429, false), (408, true), (416, true)] {
        let failed = Mutex::new(false);
        let (target, store) = target(refusing(405), move |seen, store| {
            let strikes = seen.line.starts_with("PATCH") && store.bytes.len() == PART;
            if !strikes || std::mem::replace(&mut *failed.lock().unwrap(), true) {
                return None;
            }
            if stored {
                store.bytes.extend_from_slice(&seen.body);
            }
            Some(refusal(status, "X", "oops"))
        })
        .await;
        let source = source().await;
        copy(&source, &target.client()).await.unwrap();
        assert!(store.lock().unwrap().completed, "{status} {stored}");
        assert_eq!(
            (ranges(&target).len(), source.lines().len()),
            (if stored { 3 } else { 4 }, 2),
            "{status} {stored}"
        );
    }
}

#[tokio::test]
async fn blob_is_restarted_if_the_session_is_lost() {
    for gone in [false, true] {
        let lost = Mutex::new(false);
        let (target, store) = target(refusing(405), move |seen, store| {
            let strikes = seen.line.starts_with("PATCH") && store.bytes.len() == PART;
            if !strikes || std::mem::replace(&mut *lost.lock().unwrap(), true) {
                return None;
            }
            store.bytes.truncate(100);
            Some(if gone { refusal(404, "BLOB_UPLOAD_UNKNOWN", "gone") } else { store.tell(416) })
        })
        .await;
        let source = source().await;
        copy(&source, &target.client()).await.unwrap();
        assert!(store.lock().unwrap().completed);
        assert_eq!((target.count("POST"), source.lines().len()), (3, 3), "{gone}");
    }
}

#[tokio::test]
async fn target_that_accepts_neither_whole_blobs_nor_parts_is_reported() {
    let (target, _) = target(refusing(405), |seen, _| {
        seen.line.starts_with("PATCH").then(|| refusal(405, "UNSUPPORTED", "no parts either"))
    })
    .await;
    let error = copy(&source().await, &target.client()).await.unwrap_err();
    assert!(error.to_string().contains("no parts either") && !error.is_retryable(), "{error}");
    assert_eq!((target.count("PUT"), target.count("PATCH")), (1, 1));
}

#[tokio::test]
async fn wrong_content_is_not_completed_in_parts_either() {
    let (target, store) = target(refusing(405), |_, _| None).await;
    let source = Peer::new(|_| respond(200, &[], vec![7; SIZE])).await;
    let client = target.client();
    client.limits().use_parts_from(1);
    let error = copy(&source, &client).await.unwrap_err();
    assert_eq!(error.class(), Class::SourceInvalid);
    assert_eq!((store.lock().unwrap().completed, target.count("PUT")), (false, 0));
    assert!(target.count("PATCH") > 0, "the blob was sent in parts");
}

#[tokio::test]
async fn token_that_expires_between_parts_is_renewed_and_sent_to_no_other_host() {
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    let (target, store) = target(refusing(405), move |seen, store| {
        let is_old = seen.authorization() != super::auth::NEW && store.bytes.len() == PART;
        is_old.then(|| refusal(403, "DENIED", message))
    })
    .await;
    copy(&source().await, &super::auth::renewing(&target)).await.unwrap();
    assert!(store.lock().unwrap().completed);

    let (elsewhere, store) = self::target(Store::default(), |_, _| None).await;
    let to = format!("http://{}/v2/b/blobs/uploads/1?at=0", elsewhere.host);
    let front = Peer::new(move |_| respond(202, &[("location", &to)], "")).await;
    let client = super::auth::renewing(&front);
    client.limits().use_parts_from(1);
    copy(&source().await, &client).await.unwrap();
    assert!(store.lock().unwrap().completed);
    assert!(elsewhere.seen().iter().all(|seen| seen.authorization().is_empty()));
}
