//! The resources, as a client of the API server sees them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Error;
use crate::rig::NAMESPACES;

/// Requests at the same time.
const PARALLEL: usize = 32;
/// The longest wait for anything: what takes longer is reported as this.
pub const LONGEST: Duration = Duration::from_secs(600);

type Ready = HashMap<(String, String), bool>;

/// All resources of the cluster, watched.
pub struct Crowd {
    client: Client,
    ready: watch::Receiver<Arc<Ready>>,
    watching: AbortHandle,
}

impl Crowd {
    pub async fn new(client: &Client) -> Result<Self, Error> {
        let (sender, ready) = watch::channel(Arc::new(Ready::new()));
        let events = kube_runtime::watcher(
            Api::<EcrRepositorySync>::all(client.clone()),
            watcher::Config::default(),
        );
        let watching = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                sender.send_modify(|ready| match &event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        Arc::make_mut(ready).insert(key(object), is_ready(object));
                    }
                    Ok(Event::Delete(object)) => {
                        Arc::make_mut(ready).remove(&key(object));
                    }
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                });
            }
        });
        Ok(Self { client: client.clone(), ready, watching: watching.abort_handle() })
    }

    fn api(&self, namespace: &str) -> Api<EcrRepositorySync> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates `number` resources `NAME-0`, `NAME-1`, … with the spec of each.
    pub async fn create(
        &self,
        namespace: &str,
        name: &str,
        number: usize,
        spec: impl Fn(usize) -> Value,
    ) -> Result<(), Error> {
        let api = self.api(namespace);
        let create = |n: usize| {
            let (api, object) = (api.clone(), object(namespace, &format!("{name}-{n}"), &spec(n)));
            async move { api.create(&PostParams::default(), &object?).await.map_err(Error::from) }
        };
        stream::iter(0..number).map(create).buffer_unordered(PARALLEL).try_for_each(done).await
    }

    /// Waits until `number` resources of a namespace, whose names begin with `name`, are Ready.
    /// Returns the time, which is [`LONGEST`] if they are not.
    pub async fn until_ready(&self, namespace: &str, name: &str, number: usize) -> Duration {
        let started = Instant::now();
        let is_done = |ready: &Arc<Ready>| {
            let of = |(key, ready): (&(String, String), &bool)| {
                *ready && key.0 == namespace && key.1.starts_with(name)
            };
            ready.iter().filter(|&entry| of(entry)).count() >= number
        };
        let mut ready = self.ready.clone();
        let wait = tokio::time::timeout(LONGEST, ready.wait_for(is_done)).await;
        if wait.is_ok() { started.elapsed() } else { LONGEST }
    }

    /// Deletes all resources, and waits until they are gone.
    pub async fn clear(self) -> Result<(), Error> {
        for namespace in NAMESPACES {
            let api = self.api(namespace);
            api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        }
        let mut ready = self.ready.clone();
        tokio::time::timeout(LONGEST, ready.wait_for(|ready| ready.is_empty())).await??;
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn done(_: EcrRepositorySync) -> Result<(), Error> {
    Ok(())
}

fn object(namespace: &str, name: &str, spec: &Value) -> Result<EcrRepositorySync, Error> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "ecr-sync.io/v1alpha1",
        "kind": "EcrRepositorySync",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }))?)
}

fn key(object: &EcrRepositorySync) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn is_ready(object: &EcrRepositorySync) -> bool {
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.meta().generation
        && status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
