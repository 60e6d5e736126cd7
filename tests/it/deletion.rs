//! The repository after the deletion of its resource.

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use testbed::traffic::{Fault, Match, Record, Then};

use crate::support::{ACCOUNT, REGION, Rig, condition, eventually};

const OWNER_TAG: &str = "ecr-sync.io/owner";

impl Rig {
    /// Requests the deletion of a resource.
    async fn delete(&self, name: &str) {
        self.resources().delete(name, &DeleteParams::default()).await.expect("accepted");
    }

    /// Waits until a resource is gone.
    async fn wait_gone(&self, name: &str) {
        eventually("gone", async || {
            self.resources().get_opt(name).await.expect("an answer").is_none()
        })
        .await;
    }

    fn is_in_ecr(&self, name: &str) -> bool {
        self.ecr.repository(ACCOUNT, REGION, name).is_some()
    }
}

fn operations(log: &[Record]) -> Vec<&str> {
    log.iter().map(|request| request.operation.as_str()).collect()
}

#[tokio::test]
async fn retain_needs_no_finalizer_and_leaves_ecr_alone() {
    let rig = Rig::new("retain").await;
    let _operator = rig.operator().await;
    for name in ["a-one", "a-two"] {
        rig.apply(name, json!({"image": rig.image("library/demo", &["1.26"])})).await;
        let object = rig.wait_synced(name).await;
        assert_eq!(object.metadata.finalizers, None);
    }
    // As in the deletion of a namespace: everything at once, while AWS refuses every call of the
    // operator.
    rig.ecr.deny("ecr:*", "*");
    let mark = rig.ecr.mark();
    rig.resources()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .expect("accepted");
    rig.wait_gone("a-one").await;
    rig.wait_gone("a-two").await;
    assert!(rig.ecr.log_since(mark).is_empty(), "no AWS call");
    assert!(rig.is_in_ecr("a-one") && rig.is_in_ecr("a-two"));
}

#[tokio::test]
async fn an_empty_repository_is_deleted_with_its_resource() {
    let rig = Rig::new("delete-empty").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(object.metadata.finalizers, Some(vec!["ecr-sync.io/repository".to_owned()]));
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(!rig.is_in_ecr("app"));
    let events = rig.events().await;
    assert!(
        events.iter().any(|event| event.1 == "Deleted" && event.2 == "deleted repository app"),
        "{events:?}"
    );
}

#[tokio::test]
async fn delete_refuses_a_repository_with_images_until_it_is_retained() {
    let rig = Rig::new("delete-not-empty").await;
    let _operator = rig.operator().await;
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "deletionPolicy": "Delete"}),
    )
    .await;
    rig.wait_synced("app").await;
    rig.delete("app").await;
    let object = rig.wait_ready("app", "False", "RepositoryNotEmpty").await;
    assert!(condition(&object, "Stalled").is_some());
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(
        message.contains(
            "repository app has images: delete its images, set deletionPolicy: ForceDelete"
        ),
        "{message}"
    );
    assert!(rig.is_in_ecr("app"));
    let mark = rig.ecr.mark();
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "deletionPolicy": "Retain"}),
    )
    .await;
    rig.wait_gone("app").await;
    assert!(rig.is_in_ecr("app"));
    assert!(rig.ecr.log_since(mark).is_empty(), "retaining asks nobody");
    assert!(rig.events().await.iter().any(|event| event.1 == "Retained"));
}

#[tokio::test]
async fn force_delete_empties_created_repositories_and_cancels_their_copies_first() {
    let rig = Rig::new("force-delete").await;
    let _operator = rig.operator().await;
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::Slow(20_000)));
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "deletionPolicy": "ForceDelete"}),
    )
    .await;
    eventually("copying", async || rig.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(!rig.is_in_ecr("app"));
    let log = rig.ecr.log();
    let deleted =
        log.iter().position(|request| request.operation == "DeleteRepository").expect("deleted");
    let later: Vec<_> =
        log[deleted..].iter().filter(|request| request.operation == "PutManifest").collect();
    assert!(later.is_empty(), "nothing is written after the end: {later:?}");
}

#[tokio::test]
async fn force_delete_does_not_empty_adopted_repositories() {
    let rig = Rig::new("force-adopted").await;
    let _operator = rig.operator().await;
    rig.ecr.create_repository(ACCOUNT, REGION, "app", [].into());
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "deletionPolicy": "ForceDelete"}),
    )
    .await;
    rig.wait_synced("app").await;
    rig.delete("app").await;
    let object = rig.wait_ready("app", "False", "RepositoryNotEmpty").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("it was adopted, not created by the operator"), "{message}");
    assert!(rig.is_in_ecr("app"));
}

#[tokio::test]
async fn a_repository_that_another_owner_took_over_is_kept() {
    let rig = Rig::new("delete-not-ours").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "ForceDelete"})).await;
    rig.wait_synced("app").await;
    let other = (OWNER_TAG.to_owned(), "another-cluster/ns/app".to_owned());
    rig.ecr.set_resource_tags(ACCOUNT, REGION, "app", [other].into());
    let mark = rig.ecr.mark();
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(rig.is_in_ecr("app"));
    assert_eq!(rig.ecr.log_since(mark).iter().filter(|request| request.is_write()).count(), 0);
    let events = rig.events().await;
    let told = |event: &&(String, String, String)| {
        event.1 == "Retained" && event.2.contains("another-cluster/ns/app")
    };
    assert!(events.iter().any(|event| told(&event)), "{events:?}");
}

#[tokio::test]
async fn a_refused_deletion_is_reported_and_retried() {
    let rig = Rig::new("delete-denied").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    rig.wait_synced("app").await;
    rig.ecr.deny("ecr:DeleteRepository", "*");
    rig.delete("app").await;
    let object = rig.wait_ready("app", "False", "AccessDenied").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("ecr:DeleteRepository on app"), "{message}");
    rig.ecr.allow_all();
    rig.annotate("app", "ecr-sync.io/requestedAt", "now").await;
    rig.wait_gone("app").await;
    assert!(!rig.is_in_ecr("app"));
}

#[tokio::test]
async fn a_missing_repository_does_not_block_the_deletion_even_when_suspended() {
    let rig = Rig::new("delete-gone").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"deletionPolicy": "Delete", "suspend": true})).await;
    rig.ecr.delete_repository(ACCOUNT, REGION, "app");
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(rig.events().await.iter().any(|event| event.2 == "repository app did not exist"));
}

#[tokio::test]
async fn the_finalizer_follows_the_policy_and_a_dry_run_needs_none() {
    let rig = Rig::new("finalizer").await;
    let _operator = rig.operator().await;
    let has =
        |object: &ecr_sync::api::v1alpha1::EcrRepositorySync| object.metadata.finalizers.is_some();
    rig.apply("app", json!({"deletionPolicy": "ForceDelete"})).await;
    rig.wait("app", "finalized", has).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"deletionPolicy": "Retain"})).await;
    rig.wait("app", "free", |object| !has(object)).await;

    rig.apply("dry", json!({"deletionPolicy": "ForceDelete", "dryRun": true})).await;
    let object = rig.wait_ready("dry", "Unknown", "DryRun").await;
    assert!(!has(&object));
    // A resource that was synced before and is now in a dry run also writes nothing on deletion.
    rig.apply("app", json!({"deletionPolicy": "ForceDelete"})).await;
    rig.wait("app", "finalized", has).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"deletionPolicy": "ForceDelete", "dryRun": true})).await;
    rig.wait("app", "dry", |object| {
        condition(object, "Ready")
            .is_some_and(|(_, reason, _)| reason == "DryRun" || reason == "Succeeded")
            && object.status.as_ref().and_then(|s| s.observed_generation)
                == object.metadata.generation
    })
    .await;
    let mark = rig.ecr.mark();
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(
        operations(&rig.ecr.log_since(mark))
            .iter()
            .all(|operation| *operation != "DeleteRepository")
    );
    assert!(rig.is_in_ecr("app"));
}

#[tokio::test]
async fn a_repository_without_its_owner_tag_is_kept() {
    let rig = Rig::new("delete-unmarked").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "ForceDelete"})).await;
    rig.wait_synced("app").await;
    rig.ecr.set_resource_tags(ACCOUNT, REGION, "app", [].into());
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(rig.is_in_ecr("app"));
    let events = rig.events().await;
    assert!(
        events
            .iter()
            .any(|event| event.1 == "Retained" && event.2.contains("so it may not be ours"))
    );
}

#[tokio::test]
async fn a_repository_in_the_operators_former_region_does_not_count_as_deleted() {
    let rig = Rig::new("delete-moved").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    rig.wait_synced("app").await;
    assert_eq!(operator.terminate().await, 0);
    let mark = rig.ecr.mark();
    let _operator = rig.operator_with(&["--region", "us-east-1"], &[]).await;
    rig.delete("app").await;
    let object = rig.wait_ready("app", "False", "Conflict").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert!(
        message.contains("set spec.registry to the former") && message.contains("Retain"),
        "{message}"
    );
    assert_eq!(rig.ecr.log_since(mark).iter().filter(|request| request.is_write()).count(), 0);
    rig.apply("app", json!({"deletionPolicy": "Delete", "registry": {"region": REGION}})).await;
    rig.wait_gone("app").await;
    assert!(!rig.is_in_ecr("app"));
}

#[tokio::test]
async fn a_suspended_resource_that_is_retained_waits_for_nobody() {
    let rig = Rig::new("suspended-retain").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"deletionPolicy": "Retain", "suspend": true})).await;
    rig.wait("app", "free", |object| object.metadata.finalizers.is_none()).await;
    assert_eq!(operator.terminate().await, 0);
    rig.delete("app").await;
    rig.wait_gone("app").await;
    assert!(rig.is_in_ecr("app"));
}

#[tokio::test]
async fn other_finalizers_are_left_alone() {
    let rig = Rig::new("other-finalizers").await;
    let _operator = rig.operator().await;
    let set = |finalizers: serde_json::Value| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let resources = rig.resources();
        async move { resources.patch("app", &PatchParams::default(), &patch).await.expect("patched") }
    };
    rig.apply("app", json!({"suspend": true})).await;
    set(json!(["example.com/other"])).await;
    rig.apply("app", json!({"deletionPolicy": "Delete"})).await;
    rig.wait_synced("app").await;
    rig.delete("app").await;
    let object = rig.wait("app", "left by us", |object| object.finalizers().len() == 1).await;
    assert_eq!(object.finalizers(), ["example.com/other"]);
    assert!(!rig.is_in_ecr("app"), "the repository does not wait for others");
    set(json!(null)).await;
    rig.wait_gone("app").await;
}

#[tokio::test]
async fn a_resource_in_conflict_is_deleted_without_the_repository() {
    let rig = Rig::new("delete-loser").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"deletionPolicy": "ForceDelete"})).await;
    rig.wait_synced("app").await;
    rig.a_second_after("app").await;
    rig.apply("late", json!({"repositoryName": "app", "deletionPolicy": "ForceDelete"})).await;
    let late = rig.wait_ready("late", "False", "Conflict").await;
    assert!(late.metadata.finalizers.is_none(), "what is not its own holds nothing up");
    let mark = rig.ecr.mark();
    rig.delete("late").await;
    rig.wait_gone("late").await;
    assert!(rig.is_in_ecr("app"));
    assert!(rig.ecr.log_since(mark).is_empty(), "no AWS call");
}
