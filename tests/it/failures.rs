//! A failure sets a condition that says what to do, and does not affect other work.

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Plane, Then};
use testbed::upstream::User;

use crate::support::{ACCOUNT, REGION, Rig, condition, docker_secret, eventually, private};

/// The failures in status.image, as tag, reason and message.
fn tag_failures(object: &EcrRepositorySync) -> Vec<(String, String, String)> {
    let image =
        object.status.clone().and_then(|status| status.image).expect("an image in the status");
    image
        .failures
        .into_iter()
        .map(|failure| (failure.tag, failure.reason, failure.message))
        .collect()
}

fn lifecycle() -> Value {
    json!({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days", "countNumber": 14}, "action": {"type": "expire"}}]})
}

#[tokio::test]
async fn a_missing_tag_leaves_the_others_done() {
    let rig = Rig::new("missing-tag").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "9.99"])})).await;
    let object = rig.wait_ready("app", "False", "PartiallySynced").await;
    let failures = tag_failures(&object);
    assert_eq!((failures[0].0.as_str(), failures[0].1.as_str()), ("9.99", "SourceNotFound"));
    assert!(
        failures[0].2.contains(&format!("{}/library/demo:9.99", rig.source.host())),
        "{}",
        failures[0].2
    );
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.26"]);
    assert_eq!(
        condition(&object, "Stalled").map(|c| c.0),
        Some("True"),
        "only a person can push or drop the tag"
    );
    eventually("told", async || rig.events().await.iter().any(|event| event.0 == "Warning")).await;
    let warnings: Vec<_> =
        rig.events().await.into_iter().filter(|event| event.0 == "Warning").collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[tokio::test]
async fn basic_and_bearer_sources_are_read_with_the_secret() {
    let rig = Rig::new("private").await;
    let _operator = rig.operator().await;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let user = User::Reader;
    for (name, upstream) in [("basic", &rig.sources.basic), ("token", &rig.sources.token)] {
        let mut secret = docker_secret(upstream.host(), user.name(), user.password());
        secret.metadata.name = Some(name.to_owned());
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
        let mut spec = private(upstream.host(), &["1.26", "1.27"]);
        spec["image"]["secretRef"]["name"] = json!(name);
        rig.apply(name, spec).await;
        rig.wait_synced(name).await;
        assert_eq!(
            rig.repository(name).tags["1.27"],
            rig.sources.seeded.digest("library/demo", "1.27")
        );
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_not_retried_quickly() {
    let rig = Rig::new("wrong-password").await;
    let operator = rig.operator().await;
    let source = Proxy::start(rig.sources.basic.host()).await.expect("a proxy");
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = docker_secret(&source.host(), "reader", "wrong");
    secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    rig.apply("app", private(&source.host(), &["1.26", "1.27"])).await;
    let object = rig.wait_ready("app", "False", "AuthenticationFailed").await;
    assert!(condition(&object, "Stalled").is_some());
    let logins = || source.count(|request| request.headers.contains_key("authorization"));
    assert!(logins() <= 2, "one try per tag, not {}", logins());
    // Another resource is created and synced; meanwhile there was no retry.
    let before = logins();
    rig.apply("other", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("other").await;
    assert_eq!(logins(), before);
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    assert!(page.contains("ecrsync_syncs_total{result=\"AuthenticationFailed\"} 1"), "{page}");
    assert!(!operator.log().contains("wrong\""), "the password is in the log");
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() {
    let rig = Rig::new("missing-secret").await;
    let _operator = rig.operator().await;
    let host = rig.sources.basic.host();
    rig.apply("app", {
        let mut spec = private(host, &["1.26", "1.27"]);
        spec["lifecyclePolicy"] = lifecycle();
        spec
    })
    .await;
    let object = rig.wait_ready("app", "False", "SecretNotFound").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(
        message.contains("Secret missing-secret/login") && message.contains("create it"),
        "{message}"
    );
    assert_eq!(condition(&object, "Stalled"), None, "it may arrive any moment");
    assert_eq!(rig.repository("app").lifecycle_policy, Some(lifecycle()), "the rest is done");
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let user = User::Reader;
    secrets
        .create(&PostParams::default(), &docker_secret(host, user.name(), user.password()))
        .await
        .expect("a Secret");
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn an_unreachable_registry_is_tried_again() {
    let rig = Rig::new("unreachable").await;
    let _operator = rig.operator().await;
    rig.source.faults().add(Fault::new(Match::any(), Then::Reset));
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    let object = rig.wait_ready("app", "False", "RegistryUnavailable").await;
    assert_eq!(condition(&object, "Reconciling").map(|c| c.1), Some("ProgressingWithRetry"));
    rig.source.faults().clear();
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn a_refusal_of_aws_names_the_action_and_the_rest_is_synced() {
    let rig = Rig::new("access-denied").await;
    let _operator = rig.operator().await;
    rig.ecr.deny("ecr:PutLifecyclePolicy", "*");
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "lifecyclePolicy": lifecycle()}),
    )
    .await;
    let object = rig.wait_ready("app", "False", "AccessDenied").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(message.contains("ecr:PutLifecyclePolicy"), "{message}");
    assert_eq!(condition(&object, "ImageSynced").map(|c| c.0), Some("True"));
    assert_eq!(condition(&object, "ConfigurationSynced").map(|c| c.0), Some("False"));
    assert!(condition(&object, "Stalled").is_some());

    rig.ecr.deny("ecr:CreateRepository", "*");
    rig.apply("other", json!({})).await;
    let object = rig.wait_ready("other", "False", "AccessDenied").await;
    let (status, _, message) = condition(&object, "RepositoryReady").expect("set");
    assert!(status == "False" && message.contains("ecr:CreateRepository"), "{message}");
}

#[tokio::test]
async fn a_moved_tag_in_an_immutable_repository_is_a_conflict_for_a_person() {
    let rig = Rig::new("immutable").await;
    let _operator = rig.operator().await;
    let spec = |tag: &str| {
        let mut image = rig.image("library/demo", &["stable"]);
        image["pullUrl"] = json!(format!("{}/library/demo:{tag}", rig.source.host()));
        image["tagStrategy"] = json!("Retag");
        json!({"image": image})
    };
    rig.apply("app", spec("1.26")).await;
    rig.wait_synced("app").await;
    assert!(rig.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]));
    let mark = rig.ecr.mark();
    rig.apply("app", spec("1.27")).await;
    let object = rig.wait_ready("app", "False", "TagImmutable").await;
    assert!(
        tag_failures(&object)[0].2.contains("delete the tag in ECR"),
        "{:?}",
        tag_failures(&object)
    );
    assert!(
        rig.ecr.log_since(mark).iter().all(|request| !request.is_write()),
        "nothing is tried in vain"
    );
    // Back to the existing digests: equal digests are not a conflict.
    rig.apply("app", spec("1.26")).await;
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn an_equal_digest_on_an_immutable_tag_is_success() {
    let rig = Rig::new("immutable-race").await;
    rig.ecr.create_repository(ACCOUNT, REGION, "app", Default::default());
    rig.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE", &[]);
    // The PUT of the tag is done but its response is lost. The retry is refused, because the tag
    // exists now.
    rig.ecr.faults().add(
        Fault::new(Match::operation("PutManifest").path("/manifests/1.26"), Then::LoseAnswer)
            .once(),
    );
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    let (_, page) = _operator.get("/metrics").await.expect("metrics");
    assert!(page.contains("ecrsync_syncs_total{result=\"Succeeded\"} 1"), "in one pass: {page}");
}

#[tokio::test]
async fn a_truncated_or_corrupted_blob_is_never_committed() {
    let rig = Rig::new("bad-blobs").await;
    let _operator = rig.operator().await;
    for (name, then, reason) in [
        ("cut", Then::Truncate(100), "RegistryUnavailable"),
        ("corrupt", Then::Corrupt(50), "SourceInvalid"),
    ] {
        rig.source.faults().add(Fault::new(Match::operation("GetBlob"), then));
        rig.apply(name, json!({"image": rig.image("library/demo", &["1.26"])})).await;
        let object = rig.wait_ready(name, "False", reason).await;
        assert!(condition(&object, "Reconciling").is_some(), "{name} may heal");
        let repository = rig.repository(name);
        assert!(repository.images.is_empty(), "{name}: no manifest without its blobs");
        for (digest, size) in repository.blobs {
            let blob = rig.ecr.blob(ACCOUNT, REGION, name, &digest).expect("it is there");
            assert_eq!(ecr_sync::registry::Digest::sha256_of(&blob).to_string(), digest);
            assert_eq!(blob.len() as u64, size);
        }
        rig.source.faults().clear();
        rig.wait_synced(name).await;
    }
}

#[tokio::test]
async fn a_blob_that_is_corrupted_once_is_fetched_again_in_the_same_pass() {
    let rig = Rig::new("corrupt-once").await;
    let operator = rig.operator().await;
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::Corrupt(50)).once());
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::Truncate(60)).once());
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27"])})).await;
    rig.wait_synced("app").await;
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    assert!(page.contains("ecrsync_syncs_total{result=\"Succeeded\"} 1"), "in one pass: {page}");
}

#[tokio::test]
async fn an_expired_token_is_renewed_on_the_way() {
    let rig = Rig::new("expired").await;
    let operator = rig.operator().await;
    rig.apply("first", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("first").await;
    rig.ecr.expire_tokens();
    rig.apply("second", json!({"image": rig.image("team/app", &["v1", "v2"])})).await;
    rig.wait_synced("second").await;
    let refused = rig.ecr.count(|request| request.status == Some(403));
    assert!(refused > 0, "the stand-in refused the old token");
    assert_eq!(
        rig.ecr.count(|request| request.operation == "GetAuthorizationToken"),
        2,
        "renewed once"
    );
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    assert!(
        page.contains("ecrsync_syncs_total{result=\"Succeeded\"} 2"),
        "no pass failed over it: {page}"
    );
}

#[tokio::test]
async fn a_repository_of_another_owner_is_left_alone() {
    let rig = Rig::new("not-owned").await;
    let _operator = rig.operator().await;
    let owner = ("ecr-sync.io/owner".to_owned(), "another-cluster/ns/app".to_owned());
    rig.ecr.create_repository(ACCOUNT, REGION, "app", [owner.clone()].into());
    rig.apply(
        "app",
        json!({"image": rig.image("library/demo", &["1.26"]), "lifecyclePolicy": lifecycle()}),
    )
    .await;
    let object = rig.wait_ready("app", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert!(message.contains("another-cluster/ns/app"), "{message}");
    assert_eq!(rig.repository("app").resource_tags, [owner].into());
    assert_eq!(rig.ecr.count(|request| request.is_write()), 0);
}

#[tokio::test]
async fn a_malformed_policy_costs_itself_only_and_is_named_by_its_path() {
    let rig = Rig::new("bad-policy").await;
    let _operator = rig.operator().await;
    // Without quotes, YAML reads a number and drops the leading zero.
    let policy = json!({"Statement": [{"Effect": "Allow", "Principal": {"AWS": 12_345_678_901_u64},
        "Action": "ecr:BatchGetImage"}]});
    rig.apply("app", json!({"permissionPolicy": policy})).await;
    let object = rig.wait_ready("app", "False", "InvalidSpec").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert_eq!(
        message,
        "permissionPolicy.Statement[0].Principal.AWS: is the number 12345678901, not a string: \
         quote it"
    );
    assert_eq!(
        rig.ecr.count(|request| request.operation == "SetRepositoryPolicy"),
        0,
        "AWS is not even asked"
    );
    assert_eq!(
        condition(&object, "RepositoryReady").map(|c| c.0),
        Some("True"),
        "all else is done"
    );
}

#[tokio::test]
async fn a_rejection_of_aws_is_reported_with_its_message() {
    let rig = Rig::new("rejected").await;
    let _operator = rig.operator().await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::210987654321:role/missing"},
        "Action": "ecr:BatchGetImage"}]});
    rig.apply("app", json!({"permissionPolicy": policy})).await;
    let object = rig.wait_ready("app", "False", "PolicyRejected").await;
    let (_, _, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert!(
        message.contains("ecr:SetRepositoryPolicy")
            && message.contains("Invalid repository policy provided"),
        "{message}"
    );
}

#[tokio::test]
async fn a_deleted_resource_stops_its_copy_and_leaves_the_repository() {
    let rig = Rig::new("deleted").await;
    let _operator = rig.operator().await;
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(10)));
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    eventually("copying", async || rig.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    rig.resources().delete("app", &DeleteParams::default()).await.expect("deleted");
    rig.source.faults().clear();
    rig.apply("other", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("other").await;
    assert!(rig.repository("app").images.is_empty(), "the copy was given up, the repository stays");
}

#[tokio::test]
async fn the_registry_of_ecr_is_never_pulled_from() {
    let rig = Rig::new("no-pull").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27"])})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27", "latest"])}))
        .await;
    rig.wait_synced("app").await;
    let reads = rig
        .ecr
        .log()
        .into_iter()
        .filter(|request| request.plane != Plane::Control && !request.is_write());
    assert_eq!(reads.map(|request| request.operation).collect::<Vec<_>>(), Vec::<String>::new());
    assert!(
        rig.repository("app").images.values().all(|image| image.last_recorded_pull_time.is_none())
    );
}

#[tokio::test]
async fn a_retry_after_of_a_source_is_honoured_as_rate_limited() {
    let rig = Rig::new("rate-limited").await;
    let _operator = rig.operator().await;
    rig.source
        .faults()
        .add(Fault::new(Match::operation("GetManifest"), Then::too_many_requests(Some(3600))));
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27"])})).await;
    let object = rig.wait_ready("app", "False", "RateLimited").await;
    assert!(condition(&object, "Reconciling").is_some(), "it ends by itself");
    assert!(
        rig.source.log().len() <= 2,
        "one question per tag, and no other: {:#?}",
        rig.source.log()
    );
}

#[tokio::test]
async fn an_exceeded_quota_is_reported_as_a_quota() {
    let rig = Rig::new("quota").await;
    let _operator = rig.operator().await;
    let text = "The maximum number of repositories per registry has been reached";
    let full = Then::aws_error(400, "LimitExceededException", text);
    rig.ecr.faults().add(Fault::new(Match::operation("CreateRepository"), full));
    rig.apply("app", json!({})).await;
    let object = rig.wait_ready("app", "False", "QuotaExceeded").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert!(message.contains("ecr:CreateRepository") && message.contains(text), "{message}");

    let text = "The repository already has the maximum allowed number of images which is '100000'";
    let full = Then::aws_error(403, "DENIED", text);
    rig.ecr.faults().clear();
    rig.ecr.faults().add(Fault::new(Match::operation("PutManifest"), full));
    rig.apply("images", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    let object = rig.wait_ready("images", "False", "QuotaExceeded").await;
    assert!(tag_failures(&object)[0].2.contains(text));
}

#[tokio::test]
async fn an_answer_that_nobody_knows_is_internal_and_shown() {
    let rig = Rig::new("unknown-answer").await;
    let _operator = rig.operator().await;
    let strange = Then::aws_error(400, "TeapotException", "I'm a teapot");
    rig.ecr.faults().add(Fault::new(Match::operation("CreateRepository"), strange));
    rig.apply("app", json!({})).await;
    let object = rig.wait_ready("app", "False", "Internal").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(message.contains("TeapotException: I'm a teapot"), "{message}");
}

#[tokio::test]
async fn a_repository_does_not_follow_the_operators_region() {
    let rig = Rig::new("moved").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({})).await;
    rig.wait_synced("app").await;
    assert_eq!(operator.terminate().await, 0);
    let _operator = rig.operator_with(&["--region", "us-east-1"], &[]).await;
    let object = rig.wait_ready("app", "False", "Conflict").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert!(
        message.contains(REGION)
            && message.contains("us-east-1")
            && message.contains("set spec.registry"),
        "{message}"
    );
    assert!(rig.ecr.repositories(ACCOUNT, "us-east-1").is_empty(), "nothing moves");
}
