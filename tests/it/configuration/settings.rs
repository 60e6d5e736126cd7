//! Mutability, scanning, encryption, resource tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::traffic::Mark;

use crate::support::{ACCOUNT, REGION, Rig, condition};

/// The writes since `mark`, by operation.
fn writes(rig: &Rig, mark: Mark) -> Vec<String> {
    rig.ecr.log_since(mark).into_iter().filter(|r| r.is_write()).map(|r| r.operation).collect()
}

fn settings() -> Value {
    json!({
        "imageTagMutability": "ImmutableWithExclusion",
        "imageTagMutabilityExclusionFilters": ["latest", "1.*"],
        "scanOnPush": true,
        "encryption": {"type": "KMS", "kmsKey": "alias/team"},
        "resourceTags": {"team": "platform"},
    })
}

#[tokio::test]
async fn a_repository_is_created_with_its_settings_in_one_call() {
    let rig = Rig::new("settings-created").await;
    let _operator = rig.operator().await;
    rig.apply("app", settings()).await;
    let object = rig.wait_synced("app").await;
    let view = rig.repository("app");
    assert_eq!((view.mutability.as_str(), view.exclusions.len()), ("IMMUTABLE_WITH_EXCLUSION", 2));
    assert!(view.scan_on_push);
    let arn = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/key-of-team");
    assert_eq!(
        (view.encryption_type.as_str(), view.kms_key.as_deref()),
        ("KMS", Some(arn.as_str()))
    );
    assert_eq!(rig.ecr.count(|request| request.is_write()), 1, "CreateRepository says it all");
    assert_eq!(object.status.expect("a status").managed_tag_keys, ["team"]);

    let mark = rig.ecr.mark();
    for kms_key in ["alias/team", "key-of-team", arn.as_str()] {
        let mut spec = settings();
        spec["encryption"]["kmsKey"] = kms_key.into();
        rig.apply("app", spec).await;
        let object = rig.wait_synced("app").await;
        assert_eq!(
            condition(&object, "ConfigurationSynced").map(|c| c.0),
            Some("True"),
            "{kms_key}"
        );
    }
    assert_eq!(writes(&rig, mark), [""; 0], "alias, id and ARN are one key");
}

#[tokio::test]
async fn a_changed_setting_is_written_and_an_absent_one_is_left_alone() {
    let rig = Rig::new("settings-changed").await;
    let _operator = rig.operator().await;
    rig.apply("app", settings()).await;
    rig.wait_synced("app").await;
    let mark = rig.ecr.mark();
    rig.apply(
        "app",
        json!({"imageTagMutability": "Mutable", "scanOnPush": false,
            "resourceTags": {"team": "platform"}}),
    )
    .await;
    rig.wait_synced("app").await;
    let view = rig.repository("app");
    assert_eq!(
        (view.mutability.as_str(), view.exclusions.len(), view.scan_on_push),
        ("MUTABLE", 0, false)
    );
    assert_eq!(writes(&rig, mark), ["PutImageTagMutability", "PutImageScanningConfiguration"]);

    assert!(rig.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]));
    let mark = rig.ecr.mark();
    rig.apply("app", json!({"resourceTags": {"team": "platform"}})).await;
    rig.wait_synced("app").await;
    assert_eq!(writes(&rig, mark), [""; 0]);
    assert_eq!(rig.repository("app").mutability, "IMMUTABLE");
}

#[tokio::test]
async fn a_tag_moves_in_the_pass_that_allows_it() {
    let rig = Rig::new("settings-move").await;
    let _operator = rig.operator().await;
    let retag = |from: &str, mutability: &str| {
        let image = json!({"pullUrl": format!("{}/library/demo:{from}", rig.source.host()),
            "tags": ["stable"],
                           "tagStrategy": "Retag", "insecure": true});
        json!({"image": image, "imageTagMutability": mutability})
    };
    rig.apply("app", retag("1.26", "Immutable")).await;
    rig.wait_synced("app").await;
    rig.apply("app", retag("1.27", "Immutable")).await;
    rig.wait_ready("app", "False", "TagImmutable").await;
    rig.apply("app", retag("1.27", "Mutable")).await;
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn another_encryption_is_reported_and_nothing_is_recreated() {
    let rig = Rig::new("settings-encryption").await;
    let _operator = rig.operator().await;
    rig.ecr.create_repository(ACCOUNT, REGION, "app", BTreeMap::new());
    let created = rig.repository("app").created_at;
    rig.apply("app", json!({"encryption": {"type": "KMS", "kmsKey": "alias/team"}})).await;
    let object = rig.wait_synced("app").await;
    let (status, reason, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert_eq!((status, reason), ("False", "DriftDetected"));
    assert!(message.contains("encryption is AES256, not KMS with alias/team"), "{message}");
    assert_eq!(rig.repository("app").created_at, created);
    assert_eq!(
        rig.ecr.count(|r| matches!(&*r.operation, "DeleteRepository" | "CreateRepository")),
        0
    );
    let told = rig.told("DriftDetected").await;
    assert!(told[0].2.contains("encryption"), "{told:?}");
}

#[tokio::test]
async fn keys_removed_from_the_spec_are_removed_from_the_repository_and_others_are_kept() {
    let rig = Rig::new("settings-tags").await;
    let _operator = rig.operator().await;
    let tags = |tags: &[(&str, &str)]| -> BTreeMap<String, String> {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let theirs =
        tags(&[("aws:cloudformation:stack-name", "s"), ("cost", "42"), ("team", "platform")]);
    rig.ecr.create_repository(ACCOUNT, REGION, "app", theirs);
    rig.apply("app", json!({"resourceTags": {"team": "platform", "stage": "dev"}})).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(
        object.status.expect("a status").managed_tag_keys,
        ["stage"],
        "team was there before"
    );
    rig.apply("app", json!({})).await;
    let object = rig.wait_synced("app").await;
    let mut left = rig.repository("app").resource_tags;
    left.retain(|key, _| !key.starts_with("ecr-sync.io/"));
    assert_eq!(
        left.into_keys().collect::<Vec<_>>(),
        ["aws:cloudformation:stack-name", "cost", "team"]
    );
    assert_eq!(object.status.expect("a status").managed_tag_keys, [""; 0]);
}
