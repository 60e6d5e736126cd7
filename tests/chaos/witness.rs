//! The witness sees every request when it is sent, and remembers those that must not be.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use testbed::traffic::{Plane, Record};
use tokio::time::{Duration, Instant};

use super::api_server::ApiServer;
use super::network::PROCESS;
use super::replica::OPERATOR;

/// Time in which the operator must have heard of a new resource: the watch can be silent for 295 s,
/// and is then started again.
const KNOWN_AFTER: Duration = Duration::from_secs(20 * 60);

/// Sees requests. Clones share what they saw.
#[derive(Clone)]
pub(super) struct Witness {
    api: ApiServer,
    elects: bool,
    broken: Arc<Mutex<Option<String>>>,
    /// Times since when resources want their repository, by namespace and name.
    wants: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Witness {
    pub(super) fn new(api: ApiServer, elects: bool) -> Self {
        Self { api, elects, broken: Arc::default(), wants: Arc::default() }
    }

    /// The first rule that was broken.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.broken.lock().clone().map_or(Ok(()), Err)
    }

    /// Notes that a resource has another spec from now on.
    pub(super) fn wants(&self, path: &str) {
        let mut wants = self.wants.lock();
        wants.retain(|(known, _)| known != path);
        wants.push((path.to_owned(), Instant::now()));
    }

    /// Looks at a request.
    pub(super) fn see(&self, record: &Record) {
        if !record.is_write() {
            return;
        }
        let verdict = self.led(record).and_then(|()| self.deletes_what_nobody_wants(record));
        if let Err(problem) = verdict {
            self.broken.lock().get_or_insert(problem);
        }
    }

    /// Only the holder of the lease writes what two processes must not write at the same time.
    fn led(&self, record: &Record) -> Result<(), String> {
        let is_shared = record.plane == Plane::Data
            && (record.operation != "PutManifest" || record.path.contains("sha256:"));
        if !self.elects || is_shared {
            return Ok(());
        }
        let process = record.headers.get(PROCESS).and_then(|value| value.to_str().ok());
        let process = format!("p{}_", process.unwrap_or_default());
        let lease = self.api.get("leases", OPERATOR, "ecr-sync").unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.starts_with(&process) {
            return Ok(());
        }
        Err(format!("{process} sent {} while the lease was {holder:?}'s", record.operation))
    }

    /// No repository is deleted that a resource wants, unless that resource is in conflict with an
    /// older one.
    fn deletes_what_nobody_wants(&self, record: &Record) -> Result<(), String> {
        if record.operation != "DeleteRepository" {
            return Ok(());
        }
        let mut claims: Vec<Value> = self.api.resources();
        claims.retain(|object| object["spec"]["repositoryName"] == record.repository);
        claims.sort_by_key(|object| object["metadata"]["creationTimestamp"].to_string());
        let Some(owner) = claims.first() else {
            return Err(format!("{} was deleted after its resource", record.repository));
        };
        let path = path(owner);
        let since = self.wants.lock().iter().find(|(known, _)| *known == path).map(|w| w.1);
        let is_known = since.is_some_and(|since| since.elapsed() > KNOWN_AFTER);
        if owner["metadata"]["deletionTimestamp"].is_null() && is_known {
            return Err(format!("{} was deleted, which {path} wants", record.repository));
        }
        Ok(())
    }
}

/// `namespace/name`.
pub(super) fn path(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}
