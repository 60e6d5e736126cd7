//! Lifecycle policies that expire wanted tags: predicted, and not fought forever.

use serde_json::{Value, json};

use crate::support::{ACCOUNT, REGION, Rig, condition};

fn keep(images: u32) -> Value {
    json!({"rules": [{
        "rulePriority": 1,
        "selection": {"tagStatus": "tagged", "tagPatternList": ["1.*"],
            "countType": "imageCountMoreThan", "countNumber": images},
        "action": {"type": "expire"}
    }]})
}

#[tokio::test]
async fn a_policy_that_will_expire_wanted_tags_is_reported_beforehand() {
    let rig = Rig::new("foresight").await;
    let _operator = rig.operator().await;
    let spec = |images| {
        json!({"image": rig.image("library/demo", &["1.26", "1.27"]),
        "lifecyclePolicy": keep(images)})
    };
    rig.apply("app", spec(1)).await;
    let object = rig.wait_synced("app").await;
    let told = "settings, policies and resource tags are as specified, but rule 1 of \
                lifecyclePolicy will expire 1 of the 2 wanted tags (it keeps 1 image)";
    assert_eq!(
        condition(&object, "ConfigurationSynced"),
        Some(("True", "LifecycleConflict", told))
    );
    let events = rig.told("LifecycleConflict").await;
    assert_eq!((events[0].0.as_str(), events[0].2.as_str()), ("Warning", told));

    rig.apply("app", spec(2)).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(
        condition(&object, "ConfigurationSynced").map(|(_, reason, _)| reason),
        Some("Succeeded")
    );
}

#[tokio::test]
async fn a_tag_that_expires_repeatedly_is_copied_again_twice_and_then_left_alone() {
    let rig = Rig::new("lifecycle-conflict").await;
    let _operator = rig.operator().await;
    let spec = |images| {
        json!({"image": rig.image("library/demo", &["1.26", "1.27"]),
        "lifecyclePolicy": keep(images)})
    };
    rig.apply("app", spec(1)).await;
    rig.wait_synced("app").await;
    for pass in ["first", "second"] {
        assert!(rig.ecr.delete_tag(ACCOUNT, REGION, "app", "1.26"), "as the rule would");
        rig.request("app", pass).await;
        assert!(
            rig.repository("app").tags.contains_key("1.26"),
            "copied again after the {pass} time"
        );
    }
    rig.ecr.delete_tag(ACCOUNT, REGION, "app", "1.26");
    let object = rig.request("app", "third").await;
    let (status, reason, message) = condition(&object, "ImageSynced").expect("a condition");
    assert_eq!((status, reason), ("False", "PartiallySynced"), "{message}");
    assert!(
        message.contains("LifecycleConflict: tag 1.26 disappeared from ECR for the 3rd time"),
        "{message}"
    );
    assert!(condition(&object, "Stalled").is_some());
    let mark = rig.ecr.mark();
    let object = rig.request("app", "fourth").await;
    assert_eq!(rig.ecr.log_since(mark).iter().filter(|request| request.is_write()).count(), 0);
    let expired = &object.status.as_ref().expect("a status").expired;
    assert_eq!(
        expired.iter().map(|entry| (entry.tag.as_str(), entry.times)).collect::<Vec<_>>(),
        [("1.26", 3)]
    );

    // Any change of the spec resets the count.
    rig.apply("app", spec(2)).await;
    let object = rig.wait_synced("app").await;
    assert!(object.status.expect("a status").expired.is_empty());
    assert_eq!(rig.repository("app").tags.len(), 2);
}

#[tokio::test]
async fn a_tag_that_a_person_deletes_comes_back_however_often() {
    let rig = Rig::new("deleted-by-hand").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    for pass in ["1", "2", "3", "4"] {
        rig.ecr.delete_tag(ACCOUNT, REGION, "app", "1.26");
        rig.request("app", pass).await;
        assert!(rig.repository("app").tags.contains_key("1.26"));
    }
}

#[tokio::test]
async fn a_tag_in_the_archive_is_reported_and_left_there() {
    let rig = Rig::new("archived").await;
    let _operator = rig.operator().await;
    let spec = |archived_images: &str| {
        json!({"image": rig.image("library/demo", &["1.26", "1.27"]),
        "archivedImages": archived_images})
    };
    rig.apply("app", spec("Keep")).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.archive(ACCOUNT, REGION, "app", "1.26"), "as a rule would");
    let mark = rig.ecr.mark();
    let object = rig.request("app", "archived").await;
    let log = rig.ecr.log_since(mark);
    assert_eq!(
        log.iter().filter(|request| request.is_write()).count(),
        0,
        "a copy would restore it"
    );
    let (status, reason, message) = condition(&object, "ImageSynced").expect("a condition");
    assert_eq!((status, reason), ("True", "LifecycleConflict"), "{message}");
    assert!(message.contains("tag 1.26 is in ECR's archive and cannot be pulled"), "{message}");
    assert!(condition(&object, "Ready").is_some_and(|(status, ..)| status == "True"));
    let image = object.status.expect("a status").image.expect("an image");
    assert_eq!((image.desired, image.synced, image.failed, image.archived), (2, 1, 0, 1));
    assert_eq!(rig.told("LifecycleConflict").await[0].0, "Warning");

    rig.apply("app", spec("Restore")).await;
    let object = rig.wait("app", "restored", |object| {
        object
            .status
            .as_ref()
            .and_then(|status| status.image.as_ref())
            .is_some_and(|image| image.synced == 2)
    });
    let image = object.await.status.expect("a status").image.expect("an image");
    assert_eq!(image.archived, 0);
    let log = rig.ecr.log_since(mark);
    let writes: Vec<_> =
        log.iter().filter(|request| request.is_write()).map(|r| r.operation.as_str()).collect();
    assert_eq!(writes, ["UpdateImageStorageClass"], "restored, not sent again");
}

#[tokio::test]
async fn a_new_digest_of_an_archived_tag_is_copied() {
    let rig = Rig::new("archived-moved").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    rig.ecr.archive(ACCOUNT, REGION, "app", "1.26");
    let retagged = format!("{}/library/demo:1.27", rig.source.host());
    let spec = json!({"image": {"pullUrl": retagged, "tags": ["1.26"], "tagStrategy": "Retag",
        "insecure": true}});
    rig.apply("app", spec).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(condition(&object, "ImageSynced").map(|(_, reason, _)| reason), Some("Succeeded"));
}
