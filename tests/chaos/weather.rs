//! Faults and delays of the requests between the program and everything outside of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use fastrand::Rng;
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use testbed::traffic::{Plane, Record, Then};
use tokio::time::Instant;

use super::api_server::failure;
use super::dice::{Seed, happens, one_of};
use crate::hash::hash;

/// A side of the program on which requests can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Edge {
    /// The registry API of the sources, and their object store.
    Source,
    /// The registry API of ECR.
    Target,
    /// The API of ECR, and STS.
    Control,
    /// The API server.
    Api,
}

impl Edge {
    const ALL: [Self; 4] = [Self::Source, Self::Target, Self::Control, Self::Api];

    /// The edge of a request to the stand-in. The public registry is the source.
    fn of(record: &Record) -> Self {
        match record.plane {
            Plane::Control => Self::Control,
            Plane::Data | Plane::Storage if record.account == "public" => Self::Source,
            Plane::Data | Plane::Storage => Self::Target,
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Control => "control",
            Self::Api => "api",
        })
    }
}

/// Number of injected faults by edge.
pub(super) type Faults = BTreeMap<Edge, u64>;

/// The state of the network.
#[derive(Debug)]
pub(super) struct Weather {
    seed: Seed,
    began: Instant,
    rates: BTreeMap<Edge, f64>,
    /// One period per edge in which nothing works, in seconds after the beginning.
    outages: BTreeMap<Edge, (u64, u64)>,
    is_calm: AtomicBool,
    /// Number of requests with the same name so far.
    seen: Mutex<BTreeMap<String, u32>>,
    faults: Mutex<Faults>,
    /// Every request, with its time and what became of it.
    log: Mutex<Vec<String>>,
}

impl Weather {
    pub(super) fn new(seed: Seed) -> Self {
        let mut rng = seed.rng("weather");
        let rates = [0.0, 0.02, 0.1, 0.3];
        let rates = Edge::ALL.map(|edge| (edge, *one_of(&mut rng, &rates)));
        let mut outages = BTreeMap::new();
        for edge in Edge::ALL {
            if happens(&mut rng, 0.2) {
                let start = rng.u64(..600);
                outages.insert(edge, (start, start + rng.u64(10..600)));
            }
        }
        Self {
            seed,
            began: Instant::now(),
            rates: rates.into(),
            outages,
            is_calm: AtomicBool::new(false),
            seen: Mutex::default(),
            faults: Mutex::default(),
            log: Mutex::default(),
        }
    }

    /// Ends all faults.
    pub(super) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.lock().clone()
    }

    /// Returns all requests as one number. The order of requests at the same time does not count.
    pub(super) fn trace(&self) -> u64 {
        let mut log = self.log.lock().clone();
        log.sort();
        hash(log)
    }

    /// Returns the delay of a request to the stand-in, and the fault if it has one.
    pub(super) fn effects(&self, record: &Record) -> Vec<Then> {
        let edge = Edge::of(record);
        let name = format!("{} {}", record.operation, place(record));
        let (mut rng, delay, fate) = self.judge(edge, &name);
        let faults = match fate {
            Fate::Good => return vec![Then::Delay(delay)],
            Fate::Out => vec![Then::Reset, Then::Stall, Then::status(503)],
            Fate::Bad => menu(edge, &mut rng),
        };
        vec![Then::Delay(delay), one_of(&mut rng, &faults).clone()]
    }

    /// Lets a request to the API server pass, or fails it.
    pub(super) async fn through_api(
        &self,
        name: &str,
        work: impl Future<Output = Response<Body>>,
    ) -> io::Result<Response<Body>> {
        let (mut rng, delay, fate) = self.judge(Edge::Api, name);
        tokio::time::sleep(delay).await;
        let faults: &[ApiFault] = match fate {
            Fate::Good => return Ok(work.await),
            Fate::Out => &[ApiFault::Reset, ApiFault::Stall],
            Fate::Bad => &ApiFault::ALL,
        };
        match one_of(&mut rng, faults) {
            ApiFault::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            ApiFault::Stall => future::pending().await,
            ApiFault::LoseAnswer => {
                drop(work.await);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            ApiFault::Late => {
                let answer = work.await;
                tokio::time::sleep(Duration::from_secs(rng.u64(1..70))).await;
                Ok(answer)
            }
            ApiFault::Refused(code) => Ok(failure(*code, "Refused")),
            ApiFault::Truncated => Ok(cut_after(work.await, rng.u64(..300), stream::empty())),
            ApiFault::Silent => Ok(cut_after(work.await, rng.u64(..300), stream::pending())),
        }
    }

    /// Decides about the next request with this name.
    fn judge(&self, edge: Edge, name: &str) -> (Rng, Duration, Fate) {
        let nth = {
            let mut seen = self.seen.lock();
            let seen = seen.entry(format!("{edge} {name}")).or_default();
            *seen += 1;
            *seen
        };
        let mut rng = self.seed.rng((edge, name, nth));
        let delay = Duration::from_millis(rng.u64(1..100));
        let elapsed = self.began.elapsed();
        let now = elapsed.as_secs();
        let outage = self.outages.get(&edge);

        let fate = if self.is_calm.load(Ordering::Relaxed) {
            Fate::Good
        } else if outage.is_some_and(|(from, to)| (*from..*to).contains(&now)) {
            Fate::Out
        } else if happens(&mut rng, self.rates[&edge]) {
            Fate::Bad
        } else {
            Fate::Good
        };
        tracing::debug!(target: "chaos", %edge, name, nth, ?fate, "request");
        let time = elapsed.as_millis();
        self.log.lock().push(format!("{time:09} {edge} {name} {nth} {fate:?}"));
        if fate != Fate::Good {
            *self.faults.lock().entry(edge).or_default() += 1;
        }
        (rng, delay, fate)
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    Bad,
    /// Nothing works at this time.
    Out,
}

/// A fault of a request to the API server.
#[derive(Clone, Copy, Debug)]
enum ApiFault {
    Reset,
    Stall,
    LoseAnswer,
    /// The answer comes late.
    Late,
    Refused(u16),
    /// The connection ends in the middle of the answer.
    Truncated,
    /// Nothing more comes after the first bytes, and the connection stays open.
    Silent,
}

impl ApiFault {
    const ALL: [Self; 10] = [
        Self::Reset,
        Self::Stall,
        Self::LoseAnswer,
        Self::Late,
        Self::Refused(409),
        Self::Refused(410),
        Self::Refused(429),
        Self::Refused(500),
        Self::Truncated,
        Self::Silent,
    ];
}

/// An answer whose body goes on with `rest` after some bytes.
fn cut_after(
    answer: Response<Body>,
    bytes: u64,
    rest: impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static,
) -> Response<Body> {
    answer.map(|body| {
        let first = body.into_data_stream().scan(bytes, |left, chunk| {
            let chunk: Option<Result<Bytes, _>> = (*left > 0).then_some(chunk);
            let chunk = chunk.map(|chunk| {
                chunk.map(|mut chunk| {
                    chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= chunk.len() as u64;
                    chunk
                })
            });
            future::ready(chunk)
        });
        Body::from_stream(first.chain(rest))
    })
}

/// The path of a request without random parts: names of upload sessions and signatures.
fn place(record: &Record) -> String {
    let path = record.path.split('?').next().unwrap_or_default();
    let digest = record.path.split("digest=").nth(1).unwrap_or_default();
    match path.split_once("/blobs/uploads/") {
        Some((repository, _)) => format!("{repository} {digest}"),
        None => format!("{path} {}", record.repository),
    }
}

/// The faults that an edge can have.
fn menu(edge: Edge, rng: &mut fastrand::Rng) -> Vec<Then> {
    let after = rng.u64(..4000);
    let mut menu = vec![
        Then::Reset,
        Then::Stall,
        Then::LoseAnswer,
        Then::status(500),
        Then::status(502),
        Then::status(503),
        Then::status(504),
        Then::Truncate(after % 200),
        Then::Truncate(after),
        Then::StallAfter(after),
        Then::Corrupt(after % 300),
        Then::Delay(Duration::from_secs(rng.u64(1..90))),
    ];
    match edge {
        Edge::Control => menu.extend([
            Then::aws_error(400, "ThrottlingException", "Rate exceeded"),
            Then::aws_error(400, "ThrottlingException", "Rate exceeded"),
            Then::aws_error(500, "ServerException", "Internal"),
            Then::aws_error(400, "RequestTimeoutException", "late"),
        ]),
        Edge::Source | Edge::Target | Edge::Api => menu.extend([
            Then::too_many_requests(None),
            Then::too_many_requests(Some(rng.u32(1..120))),
            Then::status(401),
            Then::Slow(rng.u64(10..100_000)),
            Then::ResetUpload(after),
            Then::WithoutHeader("docker-content-digest".to_owned()),
            Then::WithoutHeader("content-length".to_owned()),
        ]),
    }
    menu
}
