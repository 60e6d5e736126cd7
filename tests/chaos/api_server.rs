//! The API server: objects with versions, lists and watches, as far as the operator uses them.

#![allow(clippy::result_large_err, reason = "a refusal is the answer, which is sent as it is")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode};
use futures::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The plural of our resource.
pub(super) const RESOURCES: &str = "ecrrepositorysyncs";

/// The objects of a cluster. Clones share them.
#[derive(Clone)]
pub(super) struct ApiServer {
    store: Arc<Mutex<Store>>,
    /// The current version.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    version: u64,
    objects: BTreeMap<Key, Value>,
    changes: Vec<Change>,
    /// Watches cannot begin before this version.
    compacted: u64,
}

/// Plural, namespace and name.
type Key = (String, String, String);

#[derive(Clone)]
struct Change {
    version: u64,
    key: Key,
    kind: &'static str,
    object: Value,
}

/// The object or objects that a path names.
struct Target {
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
}

impl Target {
    /// Reads `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/PLURAL[/NAME[/status]]`.
    fn parse(path: &str) -> Self {
        let mut parts = path.split('/').skip(1);
        let is_core = parts.next() == Some("api");
        let mut parts = parts.skip(if is_core { 1 } else { 2 }).map(str::to_owned).peekable();
        let namespace = parts.next_if_eq("namespaces").and_then(|_| parts.next());
        let plural = parts.next().unwrap_or_default();
        let name = parts.next();
        let is_status = parts.next().is_some();
        Self { plural, namespace, name, is_status }
    }

    fn key(&self) -> Key {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (self.plural.clone(), text(&self.namespace), text(&self.name))
    }

    fn matches(&self, (plural, namespace, _): &Key) -> bool {
        *plural == self.plural && self.namespace.as_ref().is_none_or(|own| own == namespace)
    }
}

impl ApiServer {
    pub(super) fn new() -> Self {
        Self { store: Arc::default(), version: watch::Sender::new(0) }
    }

    /// Returns an object.
    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.store.lock().objects.get(&key).cloned()
    }

    /// Returns our resources.
    pub(super) fn resources(&self) -> Vec<Value> {
        let store = self.store.lock();
        let of_kind = store.objects.iter().filter(|((plural, ..), _)| plural == RESOURCES);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// Creates a resource, or changes its spec, as a user does.
    pub(super) fn apply(&self, namespace: &str, name: &str, created: &str, spec: &Value) {
        let key = (RESOURCES.to_owned(), namespace.to_owned(), name.to_owned());
        let mut store = self.store.lock();
        let old = store.objects.get(&key).cloned();
        let is_new = old.is_none();
        let mut object = old.unwrap_or_else(|| {
            json!({"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync", "metadata":
                {"name": name, "namespace": namespace, "generation": 0, "creationTimestamp":
                created, "uid": format!("{namespace}-{name}-{}", store.version)}})
        });
        if object["spec"] == *spec || !object["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        object["spec"] = spec.clone();
        bump_generation(&mut object);
        store.write(key, object, if is_new { "ADDED" } else { "MODIFIED" });
        self.version.send_replace(store.version);
    }

    /// Deletes a resource as a user does: with finalizers it remains until they are removed.
    pub(super) fn delete(&self, namespace: &str, name: &str) {
        let key = (RESOURCES.to_owned(), namespace.to_owned(), name.to_owned());
        let mut store = self.store.lock();
        let Some(mut object) = store.objects.get(&key).cloned() else { return };
        if has_finalizers(&object) {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
                bump_generation(&mut object);
                store.write(key, object, "MODIFIED");
            }
        } else {
            store.remove(&key, object);
        }
        self.version.send_replace(store.version);
    }

    /// Forgets the history: watches have to list again.
    pub(super) fn compact(&self) {
        let mut store = self.store.lock();
        store.compacted = store.version;
        store.changes.clear();
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let target = Target::parse(parts.uri.path());
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();

        let is_watch = query.get("watch") == Some("true");
        if is_watch {
            return self.watch(target, &query);
        }
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let mut store = self.store.lock();
        let answer = match (parts.method.clone(), &target.name) {
            (Method::GET, None) => Ok(store.list(&target)),
            (Method::GET, Some(name)) => {
                store.objects.get(&target.key()).cloned().ok_or_else(|| not_found(name))
            }
            (Method::POST, _) => store.create(&target, &body),
            (Method::PUT, Some(_)) => store.replace(&target, &body),
            (Method::PATCH, Some(_)) if kind == Some("application/json-patch+json") => {
                store.patch(&target, &body)
            }
            (Method::PATCH, Some(_)) => store.apply_status(&target, &body),
            (method, _) => panic!("{method} {} is not simulated", parts.uri),
        };
        self.version.send_replace(store.version);
        answer.map_or_else(|failure| failure, |object| respond(StatusCode::OK, &object))
    }

    /// A stream of changes, which ends after the time that the client asks for.
    fn watch(&self, target: Target, query: &Query) -> Response<Body> {
        let from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let seconds = query.get("timeoutSeconds").and_then(|v| v.parse().ok()).unwrap_or(290);
        if from < self.store.lock().compacted {
            let status = status(410, "Expired", "too old resource version");
            let event = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
            return Response::new(Body::from(event));
        }

        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
        let state = (self.clone(), target, self.version.subscribe(), from);
        Response::new(Body::from_stream(stream::unfold(state, move |state| async move {
            let (server, target, mut version, from) = state;
            let mut from = from;
            loop {
                let now = *version.borrow_and_update();
                let lines = server.changes(&target, from)?;
                if !lines.is_empty() {
                    return Some((Ok::<_, axum::Error>(lines), (server, target, version, now)));
                }
                from = now;
                tokio::time::timeout_at(end, version.changed()).await.ok()?.ok()?;
            }
        })))
    }

    /// The changes after a version, as lines of a watch; `None` if they are forgotten.
    fn changes(&self, target: &Target, from: u64) -> Option<Bytes> {
        let store = self.store.lock();
        if from < store.compacted {
            return None;
        }
        let changes = store.changes.iter();
        let new = changes.filter(|change| change.version > from && target.matches(&change.key));
        let lines = new.map(|Change { kind, object, .. }| {
            // The type comes first, as from a real API server: kube decodes nothing else.
            format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
        });
        Some(lines.collect::<String>().into())
    }
}

impl Store {
    fn list(&self, target: &Target) -> Value {
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, _)| target.matches(key))
            .map(|(_, object)| object.clone())
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items,
            "metadata": {"resourceVersion": self.version.to_string()}})
    }

    fn create(&mut self, target: &Target, body: &[u8]) -> Result<Value, Response<Body>> {
        let mut object: Value = serde_json::from_slice(body).expect("JSON");
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap_or_default();
            metadata["name"] = json!(format!("{prefix}{}", self.version));
        }
        let name = metadata["name"].as_str().unwrap_or_default().to_owned();
        let key = (target.plural.clone(), target.namespace.clone().unwrap_or_default(), name);
        if self.objects.contains_key(&key) {
            return Err(failure(409, "AlreadyExists"));
        }
        Ok(self.write(key, object, "ADDED"))
    }

    fn replace(&mut self, target: &Target, body: &[u8]) -> Result<Value, Response<Body>> {
        let object: Value = serde_json::from_slice(body).expect("JSON");
        let old = self.objects.get(&target.key()).ok_or_else(|| not_found("it"))?;
        if object["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(failure(409, "Conflict"));
        }
        Ok(self.write(target.key(), object, "MODIFIED"))
    }

    /// A JSON patch. An object that is being deleted is removed with its last finalizer.
    fn patch(&mut self, target: &Target, body: &[u8]) -> Result<Value, Response<Body>> {
        let mut object = self.objects.get(&target.key()).cloned().ok_or_else(|| not_found("it"))?;
        let patch: json_patch::Patch = serde_json::from_slice(body).expect("a patch");
        let before = object.clone();
        // The API server treats an absent field as null in a test, as its Go types do.
        if object["metadata"]["finalizers"].is_null() {
            object["metadata"]["finalizers"] = Value::Null;
        }
        if json_patch::patch(&mut object, &patch).is_err() {
            return Err(failure(422, "Invalid"));
        }
        // An empty list is absent there, too.
        if !has_finalizers(&object)
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("finalizers");
        }
        if object == before {
            return Ok(object);
        }
        if !object["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&object) {
            return Ok(self.remove(&target.key(), object));
        }
        Ok(self.write(target.key(), object, "MODIFIED"))
    }

    /// Server-side apply of the status, by its only manager.
    fn apply_status(&mut self, target: &Target, body: &[u8]) -> Result<Value, Response<Body>> {
        assert!(target.is_status, "only the status is applied");
        let patch: Value = serde_json::from_slice(body).expect("JSON");
        let mut object = self.objects.get(&target.key()).cloned().ok_or_else(|| not_found("it"))?;
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return Err(failure(409, "Conflict"));
        }
        if object["status"] == patch["status"] {
            return Ok(object);
        }
        object["status"] = patch["status"].clone();
        Ok(self.write(target.key(), object, "MODIFIED"))
    }

    fn write(&mut self, key: Key, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change = Change { version: self.version, key: key.clone(), kind, object };
        self.objects.insert(key, change.object.clone());
        self.changes.push(change.clone());
        change.object
    }

    fn remove(&mut self, key: &Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.remove(key);
        let (version, key) = (self.version, key.clone());
        self.changes.push(Change { version, key, kind: "DELETED", object: object.clone() });
        object
    }
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = json!(generation + 1);
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

fn not_found(name: &str) -> Response<Body> {
    respond(StatusCode::NOT_FOUND, &status(404, "NotFound", name))
}

/// A refusal, as the API server sends it.
pub(super) fn failure(code: u16, reason: &str) -> Response<Body> {
    let status_code = StatusCode::from_u16(code).expect("a status");
    respond(status_code, &status(code, reason, reason))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}
