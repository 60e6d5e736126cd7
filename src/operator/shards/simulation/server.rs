//! The API server of a simulation: Leases with versions. Answers are slow, and some never arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;

/// The server. Clones share the Leases.
#[derive(Clone)]
pub(super) struct Server(Arc<Mutex<Store>>);

struct Store {
    version: u64,
    leases: BTreeMap<String, Value>,
    rng: fastrand::Rng,
    /// Longest time that a request, and its answer, are under way.
    latency: Duration,
    /// Part of the answers that never arrive.
    loss: f64,
}

impl Server {
    pub(super) fn new(seed: u64) -> Self {
        let (rng, latency) = (fastrand::Rng::with_seed(seed), Duration::from_millis(20));
        Self(Arc::new(Mutex::new(Store {
            version: 0,
            leases: BTreeMap::new(),
            rng,
            latency,
            loss: 0.0,
        })))
    }

    /// Sets the longest latency, and the part of the answers that are lost.
    pub(super) fn set_weather(&self, latency: Duration, loss: f64) {
        let mut store = self.0.lock();
        (store.latency, store.loss) = (latency, loss);
    }

    pub(super) fn latency(&self) -> Duration {
        let mut store = self.0.lock();
        let latency = store.latency;
        latency.mul_f64(store.rng.f64())
    }

    /// Returns the holders of all Leases with one, by name.
    pub(super) fn holders(&self) -> BTreeMap<String, String> {
        let store = self.0.lock();
        let holder = |lease: &Value| lease["spec"]["holderIdentity"].as_str().map(str::to_owned);
        let held =
            store.leases.iter().filter_map(|(name, lease)| Some((name.clone(), holder(lease)?)));
        held.filter(|(_, holder)| !holder.is_empty()).collect()
    }

    /// Returns the names of all Leases.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().leases.keys().cloned().collect()
    }

    /// Returns the number of times that the Leases of shards were taken.
    pub(super) fn takes(&self) -> i64 {
        let store = self.0.lock();
        let shards = store.leases.iter().filter(|(name, _)| name.contains("-shard-"));
        let takes = |lease: &Value| lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0) + 1;
        shards.map(|(_, lease)| takes(lease)).sum()
    }

    /// Returns a client whose requests wait while `is_cut_off` says so.
    pub(super) fn client(&self, is_cut_off: Arc<Mutex<bool>>) -> Client {
        let server = self.clone();
        let travel = from_fn(move |request, next: Next| {
            let (server, is_cut_off) = (server.clone(), is_cut_off.clone());
            async move {
                if *is_cut_off.lock() {
                    std::future::pending::<()>().await;
                }
                sleep(server.latency()).await;
                let answer = next.run(request).await;
                let is_lost = {
                    let mut store = server.0.lock();
                    let loss = store.loss;
                    store.rng.f64() < loss
                };
                if is_lost || *is_cut_off.lock() {
                    std::future::pending::<()>().await;
                }
                sleep(server.latency()).await;
                answer
            }
        });
        let router = Router::new().fallback(answer).with_state(self.clone()).layer(travel);
        Client::new(router.into_service::<kube::client::Body>(), "ns")
    }
}

/// Answers requests about Leases as the API server does.
async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = parts.uri.path().split("/leases/").nth(1).map(str::to_owned);
    let mut store = server.0.lock();
    let answer = match (parts.method, name) {
        (Method::GET, None) => Ok(store.list(parts.uri.query().unwrap_or_default())),
        (Method::GET, Some(name)) => store.leases.get(&name).cloned().ok_or(404),
        (Method::POST, _) => store.create(body),
        (Method::PUT, Some(name)) => store.replace(&name, body),
        (Method::DELETE, Some(name)) => store.delete(&name, &body["preconditions"]),
        (method, _) => panic!("{method} is not simulated"),
    };
    match answer {
        Ok(answer) => answer.to_string().into_response(),
        Err(code) => {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "message": reason, "reason": reason, "code": code});
            let code = StatusCode::from_u16(code).expect("a status");
            (code, status.to_string()).into_response()
        }
    }
}

impl Store {
    fn list(&self, query: &str) -> Value {
        let label = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
        let label = label.unwrap_or_default().replace("%2F", "/").replace("%3D", "=");
        let (key, value) = label.split_once('=').expect("a selector");
        let leases = self.leases.values();
        let items: Vec<_> = leases.filter(|l| l["metadata"]["labels"][key] == value).collect();
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "items": items,
            "metadata": {"resourceVersion": self.version.to_string()}})
    }

    fn create(&mut self, lease: Value) -> Result<Value, u16> {
        let name = lease["metadata"]["name"].as_str().expect("a name").to_owned();
        if self.leases.contains_key(&name) {
            return Err(409);
        }
        Ok(self.write(name, lease))
    }

    fn replace(&mut self, name: &str, lease: Value) -> Result<Value, u16> {
        let old = self.leases.get(name).ok_or(404_u16)?;
        if old["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
            return Err(409);
        }
        Ok(self.write(name.to_owned(), lease))
    }

    fn delete(&mut self, name: &str, preconditions: &Value) -> Result<Value, u16> {
        let old = self.leases.get(name).ok_or(404_u16)?;
        let version = &preconditions["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            return Err(409);
        }
        self.leases.remove(name);
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
    }

    fn write(&mut self, name: String, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.leases.insert(name, lease.clone());
        lease
    }
}
