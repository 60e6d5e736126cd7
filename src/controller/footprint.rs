//! The bytes that a resource takes at rest, by part: docs/architecture.md has them in a table.

use std::time::Duration;

use allocation_counter::measure;
use serde_json::json;

use super::action::Action;
use super::claims::Claims;
use super::memory::Memories;
use super::requests::Requests;
use super::secret_index::SecretIndex;
use super::store::Store;
use super::wakes::Wakes;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::registry::Digest;
use crate::sync::{Look, Progress, Report};
use crate::telemetry::{self, Condition, Next, State};

/// Resources. Hash tables grow by doubling: 1,000 fill more than half of one.
const COUNT: usize = 1000;

/// A resource with an image of two tags and a lifecycle policy, after its first pass.
fn object(number: usize) -> EcrRepositorySync {
    let condition = |type_: &str, message: &str| {
        json!({"type": type_, "status": "True", "reason": "Succeeded", "message": message,
            "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    let repository = format!("team-12/app-{number:05}");
    let digest =
        |part: &str| Digest::sha256_of(format!("{part} of {number}").as_bytes()).to_string();
    let (old, new) = (digest("1.0"), digest("1.1"));
    let tags = json!([{"tag": "1.0", "digest": old}, {"tag": "1.1", "digest": new}]);

    serde_json::from_value(json!({
        "apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
        "metadata": {"name": format!("app-{number:05}"), "namespace": "team-12", "generation": 1,
            "uid": format!("3f0b1c8e-9f0e-4a4e-8d57-2f6f0c2{number:05}"),
            "resourceVersion": format!("{}", 1_234_567 + number),
            "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"repositoryName": repository,
            "image": {"pullUrl": "registry.example.com/library/app", "tags": ["1.0", "1.1"]},
            "lifecyclePolicy": {"rules": [{"rulePriority": 1, "action": {"type": "expire"},
                "selection": {"tagStatus": "untagged", "countType": "sinceImagePushed",
                    "countUnit": "days", "countNumber": 14}}]}},
        "status": {"observedGeneration": 1, "configuration": "0123456789abcdef",
            "managedTagKeys": ["ecr-sync.io/created", "ecr-sync.io/owner"],
            "repository": {"name": repository, "registryId": "123456789012",
                "arn": format!("arn:aws:ecr:eu-west-1:123456789012:repository/{repository}"),
                "uri": format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/{repository}"),
                "region": "eu-west-1", "ownership": "Created"},
            "image": {"source": "registry.example.com/library/app", "summary": "2/2",
                "desired": 2, "synced": 2, "failed": 0, "revision": digest("all"),
                "latest": tags},
            "driftCheck": {"time": "2026-01-02T03:04:05Z", "basis": "0123456789abcdef"},
            "history": [{"time": "2026-01-02T03:04:05Z", "generation": 1, "changes": format!(
                "created repository {repository}; set lifecyclePolicy; copied registry.example.com/\
                 library/app ({old}) to tag 1.0; copied registry.example.com/library/app ({new}) \
                 to tag 1.1")}],
            "conditions": [condition("Ready", "everything is in ECR"),
                condition("RepositoryReady", "the repository exists"),
                condition("ConfigurationSynced", "the configuration is as specified"),
                condition("ImageSynced", "2 of 2 tags are in ECR")]},
    }))
    .expect("a resource")
}

/// Returns the bytes that a part keeps for each resource, without the overhead of the allocator.
fn each<T: Default>(objects: &[EcrRepositorySync], keep: impl Fn(&T, &EcrRepositorySync)) -> usize {
    let mut part = None;
    let counted = measure(|| {
        let part = part.insert(T::default());
        objects.iter().for_each(|object| keep(part, object));
    });
    usize::try_from(counted.bytes_current).expect("more than nothing") / objects.len()
}

fn uid(object: &EcrRepositorySync) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}

/// The resource as the metrics show it.
fn state(object: &EcrRepositorySync) -> State<'_> {
    let metadata = &object.metadata;
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    State {
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        repository: None,
        suspended: false,
        synced: 2,
        failed: 0,
        conditions: conditions.filter_map(|each| Condition::of(each, "Succeeded")).collect(),
    }
}

#[test]
fn a_resource_takes_a_few_kilobytes_at_rest() {
    let objects: Vec<_> = (0..COUNT).map(object).collect();
    let keys = Store::default();

    let store = each(&objects, |store: &Store, object| {
        store.put(store.key(object), object.clone());
    });
    objects.iter().for_each(|object| drop(keys.put(keys.key(object), object.clone())));

    let claims = each(&objects, |claims: &Claims, object| {
        claims.record(&keys.key(object), object);
    });
    let secrets = each(&objects, |index: &SecretIndex, object| {
        index.record(&keys.key(object), object);
    });
    let wakes = each(&objects, |wakes: &Wakes, object| {
        wakes.wake([keys.key(object)]);
        let next = futures::FutureExt::now_or_never(wakes.next()).expect("it was woken");
        wakes.ended(next, Action::requeue(Duration::from_secs(3600)));
    });
    let report =
        Report { look: Some(Look::of_test()), configuration_read: true, ..Report::default() };
    let memories = each(&objects, |memories: &Memories, object| {
        memories.add(uid(object));
        memories.with(uid(object), 1, |memory| {
            memory.request(&Requests::of(object), None);
            memory.submitted();
            memory.started(&Progress::default());
            memory.inspected(&report, uid(object), Duration::from_secs(6 * 3600));
            memory.finished(&report, Duration::from_secs(3600));
        });
    });
    let metrics = each(&objects, |resources: &telemetry::Resources, object| {
        resources.set(uid(object), state(object));
        resources.next(uid(object), Next::after(Duration::from_secs(3600)));
    });

    let parts = [
        ("store", store, 1000..=1600),
        ("memories", memories, 600..=1100),
        ("metrics", metrics, 200..=400),
        ("claims", claims, 100..=250),
        ("wakes", wakes, 100..=250),
        ("secret index", secrets, 0..=0),
    ];
    for (part, bytes, expected) in &parts {
        assert!(expected.contains(bytes), "{part}: {bytes} bytes; all: {parts:?}");
    }
}
