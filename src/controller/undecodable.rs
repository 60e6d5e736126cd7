//! Resources that cannot be decoded: counted, logged once per generation, and reported on the
//! resource itself. For the rest of the controller they do not exist.

use std::collections::HashMap;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt;
use futures::future;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use kube_runtime::watcher::Event;

use super::api::{ApiError, in_time};
use super::context::Context;
use super::guarded::{Guarded, Undecodable};
use super::key::Key;
use super::status::{self, Stamp};
use super::subject::Subject;
use super::{events, publish};
use crate::api::v1alpha1::{EcrRepositorySync, EcrRepositorySyncSpec};
use crate::class::Class;
use crate::failure::Failure;
use crate::sync::Report;

/// UID of a resource -> generation.
type Generations = HashMap<String, Option<i64>>;

/// The undecodable resources.
#[derive(Default)]
struct Known {
    now: Generations,
    /// The undecodable resources of a list that is being received.
    listing: Generations,
}

impl Known {
    /// Updates the set with an event. Returns the resource that is to be reported, if it is new.
    fn observe<'e>(
        &mut self,
        event: &'e Event<Guarded<EcrRepositorySync>>,
    ) -> Option<&'e Undecodable> {
        let uid = |object: &Guarded<_>| object.uid().unwrap_or_default();
        match event {
            Event::Init => self.listing.clear(),
            Event::InitDone => self.now = std::mem::take(&mut self.listing),
            Event::Delete(object) => {
                self.now.remove(&uid(object));
            }
            Event::Apply(Guarded(Ok(object))) => {
                self.now.remove(&object.uid().unwrap_or_default());
            }
            Event::InitApply(Guarded(Ok(_))) => {}
            Event::Apply(object @ Guarded(Err(undecodable)))
            | Event::InitApply(object @ Guarded(Err(undecodable))) => {
                let (uid, generation) = (uid(object), undecodable.metadata.generation);
                if matches!(event, Event::InitApply(_)) {
                    self.listing.insert(uid.clone(), generation);
                }
                let is_known = self.now.insert(uid, generation) == Some(generation);
                return (!is_known).then_some(undecodable);
            }
        }
        None
    }
}

/// Returns the events of the resources that can be decoded. A resource that no longer can be
/// decoded is deleted from the store, as if it were gone: its last known spec is outdated.
pub(super) fn decoded(
    all: impl Stream<Item = Event<Guarded<EcrRepositorySync>>> + Send,
    context: Arc<Context>,
) -> impl Stream<Item = Event<EcrRepositorySync>> + Send {
    let mut known = Known::default();
    let last = |context: &Context, Undecodable { metadata, .. }: &Undecodable| {
        context.store.get(&Key::of_metadata(metadata)).map(Event::Delete)
    };

    all.filter_map(move |event| {
        if let Some(undecodable) = known.observe(&event) {
            tokio::spawn(report(context.clone(), undecodable.clone()));
        }
        context.metrics.watches.undecodable(known.now.len());

        future::ready(match event {
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
            Event::Apply(Guarded(Ok(object))) => Some(Event::Apply(object)),
            Event::InitApply(Guarded(Ok(object))) => Some(Event::InitApply(object)),
            Event::Delete(Guarded(Ok(object))) => Some(Event::Delete(object)),
            Event::Apply(Guarded(Err(object))) | Event::Delete(Guarded(Err(object))) => {
                last(&context, &object)
            }
            Event::InitApply(Guarded(Err(_))) => None,
        })
    })
}

/// Reports a resource in the log, and in its status and an event as far as the API server takes
/// them.
async fn report(context: Arc<Context>, undecodable: Undecodable) {
    let Undecodable { metadata, status, reason } = undecodable;
    let status = status.and_then(|status| serde_json::from_str(status.get()).ok());
    let object = EcrRepositorySync { metadata, spec: EcrRepositorySyncSpec::default(), status };
    let subject = Subject::new(&object, &context);
    let (namespace, name) = (&subject.namespace, &subject.name);
    tracing::error!(
        namespace,
        name,
        reason,
        "this EcrRepositorySync cannot be decoded and is not synced"
    );

    if let Err(error) = publish(&subject, &reason).await {
        // The message of the API server quotes the object.
        let error = match &error {
            ApiError::Kube(kube::Error::Api(status)) => {
                format!("{} {}", status.code, status.reason)
            }
            other => other.to_string(),
        };
        tracing::warn!(
            namespace,
            name,
            error,
            "cannot report on the EcrRepositorySync that it cannot be decoded"
        );
    }
}

async fn publish(subject: &Subject<'_>, reason: &str) -> Result<(), ApiError> {
    let message = format!(
        "the resource cannot be decoded and is not synced: {reason}. Correct its spec: \
         `kubectl apply --dry-run=server` names a field that the schema refuses; JSON of more than \
         16 levels is in no policy that AWS accepts"
    );
    let report = Report::failed(Failure::new(Class::InvalidSpec, message));
    let stamp = Stamp { generation: subject.generation, ..Stamp::default() };
    let old = subject.object.status.clone().unwrap_or_default();
    let new = status::finished(&old, &stamp, &report, Timestamp::now());

    let events = Api::namespaced(subject.context.client.clone(), &subject.namespace);
    for note in events::transitions(&old, &new, &report) {
        let event = publish::event(subject, &note);
        in_time(events.create(&PostParams::default(), &event)).await?;
    }

    if new != old {
        let (params, patch) = publish::applied(subject.object.resource_version().as_deref(), &new);
        in_time(subject.api().patch_status(&subject.name, &params, &patch)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(uid: &str, generation: i64, spec: &str) -> Guarded<EcrRepositorySync> {
        let text = format!(
            r#"{{"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
                 "metadata": {{"uid": "{uid}", "name": "{uid}", "generation": {generation}}},
                 "spec": {spec}}}"#
        );
        serde_json::from_str(&text).expect("guarded")
    }

    fn bad(uid: &str, generation: i64) -> Guarded<EcrRepositorySync> {
        guarded(uid, generation, r#"{"image": "a text"}"#)
    }

    #[test]
    fn a_resource_is_reported_once_per_generation_and_counted_until_it_is_good_or_gone() {
        let mut known = Known::default();
        let mut observe = |event| {
            let is_reported = known.observe(&event).is_some();
            (is_reported, known.now.len())
        };

        assert_eq!(observe(Event::Init), (false, 0));
        assert_eq!(observe(Event::InitApply(bad("a", 1))), (true, 1));
        assert_eq!(observe(Event::InitApply(guarded("b", 1, "{}"))), (false, 1));
        assert_eq!(observe(Event::InitDone), (false, 1));
        assert_eq!(observe(Event::Apply(bad("a", 1))), (false, 1), "its status was written");
        assert_eq!(observe(Event::Apply(bad("a", 2))), (true, 1));
        assert_eq!(observe(Event::Apply(bad("b", 2))), (true, 2));
        assert_eq!(observe(Event::Apply(guarded("a", 3, "{}"))), (false, 1));
        assert_eq!(observe(Event::Delete(bad("b", 2))), (false, 0));

        assert_eq!(observe(Event::Apply(bad("c", 1))), (true, 1));
        assert_eq!(observe(Event::Init), (false, 1));
        assert_eq!(observe(Event::InitDone), (false, 0), "it was deleted while the watch was down");
    }
}
