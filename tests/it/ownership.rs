//! The owner of a repository, and takeovers.

use serde_json::json;
use testbed::ecr::StandIn;

use crate::support::{ACCOUNT, REGION, Rig, condition};

const OWNER_TAG: &str = "ecr-sync.io/owner";

fn writes(ecr: &StandIn, mark: testbed::traffic::Mark) -> usize {
    ecr.log_since(mark).iter().filter(|request| request.is_write()).count()
}

fn owner(rig: &Rig, name: &str) -> Option<String> {
    rig.repository(name).resource_tags.get(OWNER_TAG).cloned()
}

#[tokio::test]
async fn adoption_never_refuses_what_exists_and_keeps_what_it_created() {
    let rig = Rig::new("adopt-never").await;
    let _operator = rig.operator().await;
    rig.ecr.create_repository(ACCOUNT, REGION, "old", [].into());
    rig.apply("old", json!({"adoptionPolicy": "Never", "resourceTags": {"team": "a"}})).await;
    let object = rig.wait_ready("old", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("adoptionPolicy is Never: set it to IfUnowned"), "{message}");
    assert!(rig.repository("old").resource_tags.is_empty());

    rig.apply("new", json!({"adoptionPolicy": "Never"})).await;
    rig.wait_synced("new").await;
    // Somebody removes the owner tag: a repository that was ours in the last pass is still ours,
    // and is marked again.
    rig.ecr.set_resource_tags(ACCOUNT, REGION, "new", [].into());
    rig.force("new", "unmarked").await;
    rig.wait_synced("new").await;
    assert!(owner(&rig, "new").is_some());
}

#[tokio::test]
async fn two_clusters_never_fight_over_a_repository() {
    let one = Rig::new("cluster-one").await;
    let two = Rig::new("cluster-two").await;
    let same_ecr = one.aws_environment();
    let same_ecr: Vec<_> =
        same_ecr.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let _one = one.operator_with(&["--cluster-id=one"], &[]).await;
    let refused = two.operator_with(&["--cluster-id=two"], &same_ecr).await;
    one.apply("app", json!({"resourceTags": {"team": "one"}})).await;
    one.wait_synced("app").await;
    let mark = one.ecr.mark();
    two.apply("app", json!({"resourceTags": {"team": "two"}, "adoptionPolicy": "Always"})).await;
    let object = two.wait_ready("app", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(
        message.contains("belongs to one/cluster-one/app") && message.contains("--allow-takeover"),
        "{message}"
    );
    for pass in ["1", "2", "3"] {
        one.force("app", pass).await;
        two.force("app", pass).await;
    }
    assert_eq!(writes(&one.ecr, mark), 0);

    // A takeover on purpose; the previous owner stops and writes nothing more.
    drop(refused);
    let _two = two.operator_with(&["--cluster-id=two", "--allow-takeover"], &same_ecr).await;
    two.wait_synced("app").await;
    assert_eq!(owner(&one, "app"), Some("two/cluster-two/app".to_owned()));
    let mark = one.ecr.mark();
    one.force("app", "taken").await;
    one.wait_ready("app", "False", "RepositoryNotOwned").await;
    two.force("app", "taken").await;
    assert_eq!(writes(&one.ecr, mark), 0);
}

#[tokio::test]
async fn a_rebuilt_cluster_keeps_its_repositories() {
    let rig = Rig::new("cluster-rebuilt").await;
    let _operator =
        rig.operator_with(&["--cluster-id=new", "--former-cluster-ids=older,old"], &[]).await;
    for (name, of) in [("mine", "mine"), ("gone", "renamed-since")] {
        let mark = (OWNER_TAG.to_owned(), format!("old/cluster-rebuilt/{of}"));
        rig.ecr.create_repository(ACCOUNT, REGION, name, [mark].into());
        rig.apply(name, json!({})).await;
        rig.wait_synced(name).await;
        assert_eq!(owner(&rig, name), Some(format!("new/cluster-rebuilt/{name}")));
    }
    // The owner is a resource of another operator, so only its owner tag shows it.
    let another = Rig::new("rebuilt-other").await;
    another.apply("owner", json!({"repositoryName": "alive"})).await;
    let mark = (OWNER_TAG.to_owned(), "old/rebuilt-other/owner".to_owned());
    rig.ecr.create_repository(ACCOUNT, REGION, "alive", [mark].into());
    rig.apply("alive", json!({})).await;
    rig.wait_ready("alive", "False", "RepositoryNotOwned").await;
}

#[tokio::test]
async fn operators_that_share_a_cluster_by_labels_never_fight_over_a_repository() {
    let rig = Rig::new("partitions").await;
    let key = "sharding.fluxcd.io/key";
    let labels = ["a", "b"].map(|value| format!("{key}={value}"));
    let flags = |label| ["--watch-label-selector", label, "--put-image-rate=5"];
    let _a = rig.operator_with(&flags(&labels[0]), &[]).await;
    let _b = rig.operator_with(&flags(&labels[1]), &[]).await;

    rig.apply("a", json!({"repositoryName": "app", "resourceTags": {"team": "a"}})).await;
    rig.kubectl(&["label", "-n", &rig.namespace, "ers", "a", &labels[0]]).await;
    rig.wait_synced("a").await;
    let mark = rig.ecr.mark();

    rig.apply("b", json!({"repositoryName": "app", "resourceTags": {"team": "b"}})).await;
    rig.kubectl(&["label", "-n", &rig.namespace, "ers", "b", &labels[1]]).await;
    let object = rig.wait_ready("b", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("partitions/a"), "{message}");
    rig.force("a", "now").await;
    assert_eq!(writes(&rig.ecr, mark), 0);

    // The label moves to the other operator: the resource is the same, and so is its owner tag.
    rig.kubectl(&["label", "-n", &rig.namespace, "--overwrite", "ers", "a", &labels[1]]).await;
    rig.force("a", "moved").await;
    rig.wait_synced("a").await;

    rig.resources().delete("a", &Default::default()).await.expect("deleted");
    rig.wait_synced("b").await;
    assert!(owner(&rig, "app").is_some_and(|owner| owner.ends_with("/partitions/b")));
}

#[tokio::test]
async fn an_owner_that_names_another_repository_now_is_no_owner() {
    let rig = Rig::new("let-go").await;
    let _operator = rig.operator_with(&["--cluster-id=c"], &[]).await;
    rig.apply("first", json!({"repositoryName": "app"})).await;
    rig.wait_synced("first").await;
    rig.resources().delete("first", &Default::default()).await.expect("deleted");
    rig.apply("first", json!({"repositoryName": "another"})).await;
    rig.wait_synced("first").await;
    rig.apply("second", json!({"repositoryName": "app"})).await;
    rig.wait_synced("second").await;
    assert_eq!(owner(&rig, "app"), Some("c/let-go/second".to_owned()));
}

#[tokio::test]
async fn an_owner_too_long_for_a_tag_keeps_its_repository_and_is_foreign_to_others() {
    let rig = Rig::new("long-owner").await;
    let cluster = format!("--cluster-id={}", "c".repeat(250));
    let _operator = rig.operator_with(&[&cluster], &[]).await;
    rig.apply("first", json!({"repositoryName": "app"})).await;
    rig.wait_synced("first").await;
    let mark = owner(&rig, "app").expect("marked");
    assert!(mark.starts_with("sha256:"), "{mark}");
    let log = rig.ecr.mark();
    rig.force("first", "again").await;
    assert_eq!(writes(&rig.ecr, log), 0, "it knows itself");
    // A hash does not identify its owner, so the owner cannot be found to be gone.
    rig.resources().delete("first", &Default::default()).await.expect("deleted");
    rig.apply("second", json!({"repositoryName": "app"})).await;
    let object = rig.wait_ready("second", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("a hash that does not show whether"), "{message}");
}

#[tokio::test]
async fn marks_can_be_left_out_where_tagging_is_not_allowed() {
    let rig = Rig::new("no-marks").await;
    rig.ecr.deny("ecr:TagResource", "*");
    let _operator = rig.operator_with(&["--owner-tags=false"], &[]).await;
    rig.apply(
        "app",
        json!({"deletionPolicy": "ForceDelete", "image": rig.image("library/demo", &["1.26"])}),
    )
    .await;
    let object = rig.wait_synced("app").await;
    assert!(rig.repository("app").resource_tags.is_empty());
    let ownership = object.status.expect("a status").repository.expect("a repository").ownership;
    assert_eq!(ownership, ecr_sync::api::v1alpha1::Ownership::Created);
    let object = rig.force("app", "again").await;
    let ownership = object.status.expect("a status").repository.expect("a repository").ownership;
    assert_eq!(ownership, ecr_sync::api::v1alpha1::Ownership::Created, "the status remembers it");
}
