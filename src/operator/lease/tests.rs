//! Processes that compete for a lease, with a server in this process and a clock that jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::telemetry::Metrics;
use crate::writes::{Author, Change, Leadership, write};

/// The only lease, with its resource version.
type Stored = Arc<Mutex<Option<(u64, Value)>>>;

/// Answers requests about the lease as the API server does.
async fn answer(State(stored): State<Stored>, method: Method, body: String) -> Response {
    let failure = |code: StatusCode, reason: &str| {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": reason, "reason": reason, "code": code.as_u16()});
        (code, status.to_string()).into_response()
    };

    let mut stored = stored.lock();
    if method == Method::GET {
        return match &*stored {
            Some((_, lease)) => lease.to_string().into_response(),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        };
    }

    let mut lease: Value = serde_json::from_str(&body).expect("JSON");
    let version = stored.as_ref().map_or(0, |(version, _)| *version);
    let expected = lease["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    if expected != version.to_string() {
        return failure(StatusCode::CONFLICT, "Conflict");
    }
    lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    *stored = Some((version + 1, lease.clone()));
    lease.to_string().into_response()
}

/// A process that competes for the lease.
struct Replica {
    lease: Lease,
    leadership: Leadership,
    /// Whether the server does not answer this process.
    is_cut_off: Arc<AtomicBool>,
}

impl Replica {
    fn new(name: &str, stored: &Stored) -> Self {
        let is_cut_off = Arc::new(AtomicBool::new(false));
        let cut_off = is_cut_off.clone();
        let router = Router::new().fallback(answer).with_state(stored.clone()).layer(
            axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
                let cut_off = cut_off.clone();
                async move {
                    if cut_off.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    next.run(request).await
                }
            }),
        );
        let client = Client::new(router.into_service::<kube::client::Body>(), "ns");
        let (grant, leadership) = Leadership::elected();
        let leases = Api::namespaced(client, "ns");
        let lease = Lease::new(leases, "ecr-sync".to_owned(), name.to_owned(), grant);
        Self { lease, leadership, is_cut_off }
    }

    async fn acquire(&self) -> Record {
        self.lease.acquire(&Health::default()).await
    }

    async fn hold(&self, record: Record) -> End {
        let metrics = Metrics::new().expect("distinct names");
        let never = CancellationToken::new();
        self.lease.hold(record, &never, &never, &metrics.liveness).await
    }

    /// Whether a pass of this process may write now.
    fn writes(&self) -> bool {
        let author = Author {
            resource: String::new(),
            generation: None,
            repository: String::new(),
            leadership: self.leadership.clone(),
        };
        author.writes(write(Change::default(), async {})).now_or_never().is_some()
    }
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_server_pauses_writes_and_does_not_change_the_holder() {
    let stored = Stored::default();
    let (holder, follower) = (Replica::new("holder", &stored), Replica::new("follower", &stored));
    let record = holder.acquire().await;
    assert!(holder.writes());

    let outage = async {
        pass(30).await;
        assert!(holder.writes(), "it is renewed");
        for replica in [&holder, &follower] {
            replica.is_cut_off.store(true, Ordering::Relaxed);
        }
        pass(3).await;
        assert!(holder.writes(), "the right to write outlives a short outage");
        pass(57).await;
        assert!(!holder.writes());

        for replica in [&holder, &follower] {
            replica.is_cut_off.store(false, Ordering::Relaxed);
        }
        pass(10).await;
        assert!(holder.writes(), "nobody has taken the lease meanwhile");
        pass(60).await;
    };
    tokio::select! {
        () = outage => {}
        end = holder.hold(record) => panic!("the holder ends: {end:?}"),
        _ = follower.acquire() => panic!("the follower has taken the lease"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_stops_writing_before_another_process_writes() {
    let stored = Stored::default();
    let (holder, follower) = (Replica::new("holder", &stored), Replica::new("follower", &stored));
    let record = holder.acquire().await;
    let cut_off = async {
        pass(30).await;
        holder.is_cut_off.store(true, Ordering::Relaxed);
        let since = Instant::now();
        loop {
            assert!(!(holder.writes() && follower.writes()), "both write");
            if follower.writes() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        assert!(since.elapsed() < TERM + READ_EVERY + CALL, "{:?}", since.elapsed());

        assert!(!holder.writes());
        holder.is_cut_off.store(false, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    let takes_over = async {
        let record = follower.acquire().await;
        follower.hold(record).await
    };
    tokio::select! {
        () = cut_off => {}
        end = holder.hold(record) => assert_eq!(end, End::Lost),
        end = takes_over => panic!("the follower ends: {end:?}"),
    }
    assert!(!holder.writes());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_is_followed_after_a_term() {
    let stored = Stored::default();
    let (holder, follower) = (Replica::new("holder", &stored), Replica::new("follower", &stored));
    holder.acquire().await;
    let since = Instant::now();
    follower.acquire().await;
    assert!((TERM..TERM + READ_EVERY * 2).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert!(follower.writes());
}
