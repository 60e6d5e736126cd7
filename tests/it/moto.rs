//! The control plane once more, before a judge that is not ours: the operator works on moto instead
//! of the stand-in.
//!
//! What moto 5.2.5 cannot do, and is therefore tried on the stand-in only:
//! - everything under `/v2/`, so every copy; its registry host points nowhere
//! - GetAccountSetting, ListImageReferrers, lifecycle previews, UpdateImageStorageClass,
//!   GetDownloadUrlForLayer: HTTP 500
//! - archive rules and `storageClass` in lifecycle policies: refused
//! - policies that come back in another order than they were written: it keeps the text
//! - `force` of SetRepositoryPolicy, paging, `imageStatus`, immutable tags as AWS refuses them, KMS
//!   aliases
//! - rights, expired sessions, throttling: everybody may do everything, at once

use ecr_sync::api::v1alpha1::Ownership;
use serde_json::{Value, json};
use testbed::moto::Moto;
use testbed::proxy::Proxy;

use crate::support::{Operator, REGION, Rig, condition, eventually};

const OWNER_TAG: &str = "ecr-sync.io/owner";

/// An operator for one test, with the shared moto. Repositories have the name of the test.
struct Bench {
    rig: Rig,
    moto: &'static Moto,
    /// The requests of the operator to moto.
    requests: Proxy,
    _operator: Operator,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let rig = Rig::new(name).await;
        let moto = Moto::shared().await;
        let requests = Proxy::start(moto.host()).await.expect("the proxy starts");
        let endpoint = format!("http://{}", requests.host());
        let operator =
            rig.operator_with(&["--cluster-id=c"], &[("AWS_ENDPOINT_URL", &endpoint)]).await;
        Self { rig, moto, requests, _operator: operator }
    }

    async fn ecr(&self, operation: &str, input: Value) -> Value {
        let answer = self.moto.ecr(REGION, operation, &input).await;
        answer.unwrap_or_else(|error| panic!("{operation} {input}: {error}"))
    }

    /// The error code of a call that moto refuses.
    async fn refusal(&self, operation: &str, name: &str) -> String {
        let answer = self.moto.ecr(REGION, operation, &json!({"repositoryName": name})).await;
        let error = answer.expect_err("refused").to_string();
        error.split(':').next().unwrap_or_default().to_owned()
    }

    async fn is_there(&self, name: &str) -> bool {
        self.moto
            .ecr(REGION, "DescribeRepositories", &json!({"repositoryNames": [name]}))
            .await
            .is_ok()
    }

    /// A repository as moto describes it.
    async fn repository(&self, name: &str) -> Value {
        self.ecr("DescribeRepositories", json!({"repositoryNames": [name]})).await["repositories"]
            [0]
        .clone()
    }

    /// One of its resource tags.
    async fn resource_tag(&self, name: &str, key: &str) -> Option<String> {
        let arn = self.repository(name).await["repositoryArn"].clone();
        let answer = self.ecr("ListTagsForResource", json!({"resourceArn": arn})).await;
        let tags = answer["tags"].as_array().cloned().unwrap_or_default();
        tags.iter()
            .find(|tag| tag["Key"] == key)
            .and_then(|tag| tag["Value"].as_str().map(str::to_owned))
    }

    /// A policy, parsed.
    async fn policy(&self, operation: &str, field: &str, name: &str) -> Value {
        let answer = self.ecr(operation, json!({"repositoryName": name})).await;
        serde_json::from_str(answer[field].as_str().expect("a text")).expect("a document")
    }

    /// Puts an image into a repository; moto accepts any digest.
    async fn put_image(&self, name: &str, tag: &str, digest: &str) {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
                "digest": digest},
            "layers": [],
        });
        let image = json!({"repositoryName": name, "imageTag": tag, "imageDigest": digest,
                           "imageManifest": manifest.to_string()});
        self.ecr("PutImage", image).await;
    }

    /// the writes of a forced pass of the operator.
    async fn writes_of_a_pass(&self, name: &str, request: &str) -> Vec<String> {
        let mark = self.requests.mark();
        self.rig.force(name, request).await;
        let log = self.requests.log_since(mark);
        assert!(!log.is_empty(), "the pass asked moto");
        log.into_iter()
            .filter(|request| request.is_write())
            .map(|request| request.operation)
            .collect()
    }
}

fn lifecycle(count: u32) -> Value {
    json!({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any",
        "countType": "imageCountMoreThan",
                      "countNumber": count}, "action": {"type": "expire"}}]})
}

fn permission(actions: &Value) -> Value {
    json!({"Version": "2012-10-17",
        "Statement": [{"Sid": "pull", "Effect": "Allow", "Principal": {"AWS": "210987654321"},
           "Action": actions}]})
}

#[tokio::test]
async fn a_repository_is_made_kept_and_corrected() {
    let bench = Bench::new("moto-kept").await;
    let spec = |lifecycle: Value, permission: Value| {
        json!({
            "repositoryName": "moto-kept/app", "resourceTags": {"team": "platform"},
            "imageTagMutability": "ImmutableWithExclusion",
            "imageTagMutabilityExclusionFilters": ["latest"],
            "scanOnPush": true, "lifecyclePolicy": lifecycle, "permissionPolicy": permission,
        })
    };
    let name = "moto-kept/app";
    let actions = json!(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]);
    bench.rig.apply("app", spec(lifecycle(5), permission(&actions))).await;
    let object = bench.rig.wait_synced("app").await;
    let status = object.status.expect("a status").repository.expect("a repository");
    assert_eq!(
        (status.registry_id.as_str(), status.ownership),
        (Moto::ACCOUNT, Ownership::Created)
    );
    let repository = bench.repository(name).await;
    assert_eq!(repository["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(repository["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(bench.resource_tag(name, "team").await.as_deref(), Some("platform"));
    assert_eq!(bench.resource_tag(name, OWNER_TAG).await.as_deref(), Some("c/moto-kept/app"));
    assert_eq!(bench.resource_tag(name, "ecr-sync.io/created").await.as_deref(), Some("true"));
    assert_eq!(bench.policy("GetLifecyclePolicy", "lifecyclePolicyText", name).await, lifecycle(5));
    assert_eq!(bench.policy("GetRepositoryPolicy", "policyText", name).await, permission(&actions));
    assert_eq!(bench.writes_of_a_pass("app", "nothing to do").await, [""; 0]);

    // A different spelling of the same policy is not changed; a different meaning is corrected.
    let same = json!({"Statement": {"Effect": "Allow", "Sid": "pull",
        "Action": [actions[1], actions[0]],
                      "Principal": {"AWS": ["arn:aws:iam::210987654321:root"]}},
                      "Version": "2012-10-17"});
    let put = |policy: &Value| json!({"repositoryName": name, "policyText": policy.to_string()});
    bench.ecr("SetRepositoryPolicy", put(&same)).await;
    assert_eq!(bench.writes_of_a_pass("app", "same meaning").await, [""; 0]);
    bench.ecr("SetRepositoryPolicy", put(&permission(&json!("ecr:*")))).await;
    let change = json!({"repositoryName": name, "lifecyclePolicyText": lifecycle(1).to_string()});
    bench.ecr("PutLifecyclePolicy", change).await;
    bench.ecr("PutImageScanningConfiguration", scan_on_push(name, false)).await;
    let mut writes = bench.writes_of_a_pass("app", "drift").await;
    writes.sort();
    assert_eq!(
        writes,
        ["PutImageScanningConfiguration", "PutLifecyclePolicy", "SetRepositoryPolicy"]
    );
    assert_eq!(bench.policy("GetLifecyclePolicy", "lifecyclePolicyText", name).await, lifecycle(5));

    bench.rig.apply("app", spec(json!({"rules": []}), json!({"Statement": []}))).await;
    bench.rig.wait_synced("app").await;
    assert_eq!(bench.refusal("GetLifecyclePolicy", name).await, "LifecyclePolicyNotFoundException");
    assert_eq!(
        bench.refusal("GetRepositoryPolicy", name).await,
        "RepositoryPolicyNotFoundException"
    );
    assert_eq!(bench.writes_of_a_pass("app", "removed").await, [""; 0]);
}

fn scan_on_push(name: &str, on: bool) -> Value {
    json!({"repositoryName": name, "imageScanningConfiguration": {"scanOnPush": on}})
}

#[tokio::test]
async fn an_existing_repository_is_adopted_and_a_foreign_owner_is_refused() {
    let bench = Bench::new("moto-adopted").await;
    let tag = |key: &str, value: &str| json!([{"Key": key, "Value": value}]);
    for (name, tags) in [
        ("moto-adopted/free", tag("cost", "centre")),
        ("moto-adopted/foreign", tag(OWNER_TAG, "another/ns/app")),
        ("moto-adopted/gone", tag(OWNER_TAG, "c/moto-adopted/never-was")),
    ] {
        bench.ecr("CreateRepository", json!({"repositoryName": name, "tags": tags})).await;
    }
    bench
        .rig
        .apply(
            "free",
            json!({"repositoryName": "moto-adopted/free", "resourceTags": {"team": "a"}}),
        )
        .await;
    let object = bench.rig.wait_synced("free").await;
    let ownership = object.status.expect("a status").repository.expect("a repository").ownership;
    assert_eq!(ownership, Ownership::Adopted);
    let name = "moto-adopted/free";
    assert_eq!(bench.resource_tag(name, OWNER_TAG).await.as_deref(), Some("c/moto-adopted/free"));
    assert_eq!(bench.resource_tag(name, "cost").await.as_deref(), Some("centre"), "not ours");
    assert_eq!(bench.resource_tag(name, "team").await.as_deref(), Some("a"));
    assert_eq!(bench.resource_tag(name, "ecr-sync.io/created").await, None);
    // A key that is removed from the spec is removed from the repository.
    bench.rig.apply("free", json!({"repositoryName": "moto-adopted/free"})).await;
    bench.rig.wait_synced("free").await;
    assert_eq!(bench.resource_tag(name, "team").await, None);
    assert_eq!(bench.resource_tag(name, "cost").await.as_deref(), Some("centre"));

    bench.rig.apply("gone", json!({"repositoryName": "moto-adopted/gone"})).await;
    bench.rig.wait_synced("gone").await;
    let mark = bench.requests.mark();
    bench
        .rig
        .apply(
            "foreign",
            json!({"repositoryName": "moto-adopted/foreign", "resourceTags": {"team": "a"}}),
        )
        .await;
    bench.rig.wait_ready("foreign", "False", "RepositoryNotOwned").await;
    assert_eq!(
        bench.requests.log_since(mark).iter().filter(|request| request.is_write()).count(),
        0
    );
}

#[tokio::test]
async fn existing_tags_are_found_without_a_pull() {
    let bench = Bench::new("moto-tags").await;
    let name = "moto-tags/app";
    bench.ecr("CreateRepository", json!({"repositoryName": name})).await;
    let digest = bench.rig.sources.seeded.digest("library/demo", "1.26");
    bench.put_image(name, "1.26", digest).await;
    let spec = |tags: &[&str], dry_run: bool| {
        json!({"repositoryName": name, "image": bench.rig.image("library/demo", tags),
        "dryRun": dry_run})
    };
    bench.rig.apply("app", spec(&["1.26"], false)).await;
    let object = bench.rig.wait_synced("app").await;
    assert_eq!(object.status.expect("a status").image.expect("an image").summary, "1/1");
    // One tag is missing: DescribeImages refuses the whole batch, so the tags are listed.
    bench.rig.apply("app", spec(&["1.26", "1.27"], true)).await;
    let object = bench.rig.wait_ready("app", "Unknown", "DryRun").await;
    let plan = object.status.expect("a status").plan;
    assert!(plan.len() == 1 && plan[0].ends_with("to tag 1.27"), "{plan:?}");
    let pulls = ["BatchGetImage", "GetDownloadUrlForLayer"];
    assert_eq!(bench.requests.count(|request| pulls.contains(&request.operation.as_str())), 0);
}

/// moto deletes an image that is named by tag and digest with all its tags.
#[tokio::test]
async fn a_tag_is_pruned_and_the_other_tag_of_its_image_is_kept() {
    let bench = Bench::new("moto-pruned").await;
    let name = "moto-pruned/app";
    bench.ecr("CreateRepository", json!({"repositoryName": name})).await;
    let digest = bench.rig.sources.seeded.digest("library/demo", "1.27");
    assert_eq!(digest, bench.rig.sources.seeded.digest("library/demo", "latest"));
    for tag in ["1.27", "latest", "mine"] {
        bench.put_image(name, tag, digest).await;
    }
    let prune = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    let image = bench.rig.image("library/demo", &["latest"]);
    bench.rig.apply("app", json!({"repositoryName": name, "image": image, "prune": prune})).await;
    bench.rig.wait_synced("app").await;
    let writes = bench.writes_of_a_pass("app", "prune").await;
    assert_eq!(writes, ["BatchDeleteImage"]);
    let listed = bench.ecr("ListImages", json!({"repositoryName": name})).await;
    let mut tags: Vec<_> = listed["imageIds"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|id| id["imageTag"].as_str())
        .collect();
    tags.sort_unstable();
    assert_eq!(tags, ["latest", "mine"]);
}

#[tokio::test]
async fn repositories_are_deleted_according_to_their_deletion_policy() {
    let bench = Bench::new("moto-deleted").await;
    let spec = |policy: &str, name: &str| json!({"repositoryName": name, "deletionPolicy": policy});
    let delete = async |name: &str| {
        bench.rig.resources().delete(name, &Default::default()).await.expect("accepted")
    };
    let wait_gone = async |name: &str| {
        eventually("gone", async || {
            bench.rig.resources().get_opt(name).await.expect("an answer").is_none()
        })
        .await;
    };
    for (resource, policy) in [("empty", "Delete"), ("kept", "Retain"), ("full", "Delete")] {
        bench.rig.apply(resource, spec(policy, &format!("moto-deleted/{resource}"))).await;
        bench.rig.wait_synced(resource).await;
    }
    let digest = bench.rig.sources.seeded.digest("library/demo", "1.26");
    bench.put_image("moto-deleted/full", "1", digest).await;
    for resource in ["empty", "kept", "full"] {
        delete(resource).await;
    }
    wait_gone("empty").await;
    wait_gone("kept").await;
    assert!(
        !bench.is_there("moto-deleted/empty").await && bench.is_there("moto-deleted/kept").await
    );
    bench.rig.wait_ready("full", "False", "RepositoryNotEmpty").await;
    bench.rig.apply("full", spec("ForceDelete", "moto-deleted/full")).await;
    wait_gone("full").await;
    assert!(!bench.is_there("moto-deleted/full").await);

    bench.rig.apply("gone", spec("Delete", "moto-deleted/gone")).await;
    bench.rig.wait_synced("gone").await;
    bench.ecr("DeleteRepository", json!({"repositoryName": "moto-deleted/gone"})).await;
    delete("gone").await;
    wait_gone("gone").await;
    assert!(
        bench
            .rig
            .events()
            .await
            .iter()
            .any(|event| event.2 == "repository moto-deleted/gone did not exist")
    );
}

#[tokio::test]
async fn refusals_of_moto_have_the_same_reasons_as_on_aws() {
    let bench = Bench::new("moto-refused").await;
    let mut archive = lifecycle(5);
    archive["rules"][0]["action"] = json!({"type": "transition", "targetStorageClass": "archive"});
    for (resource, spec, reason, text) in [
        (
            "lifecycle",
            json!({"lifecyclePolicy": archive}),
            "PolicyRejected",
            "Lifecycle policy validation failure",
        ),
        (
            "permission",
            // What is wrong at a glance never gets so far.
            json!({"permissionPolicy": permission(&json!("no-vendor"))}),
            "PolicyRejected",
            "Invalid repository policy provided",
        ),
        // Valid for AWS; moto has an older grammar.
        (
            "name",
            json!({"repositoryName": "moto-refused/a--b"}),
            "InvalidSpec",
            "InvalidParameterException",
        ),
    ] {
        let mut spec = spec;
        if spec["repositoryName"].is_null() {
            spec["repositoryName"] = format!("moto-refused/{resource}").into();
        }
        bench.rig.apply(resource, spec).await;
        let object = bench.rig.wait_ready(resource, "False", reason).await;
        let (_, _, message) = condition(&object, "Ready").expect("a condition");
        assert!(message.contains(text), "{resource}: {message}");
        assert!(condition(&object, "Stalled").is_some(), "{resource}: a person must act");
    }
    // If a policy is refused, the rest of the resource is done.
    assert!(
        bench.is_there("moto-refused/lifecycle").await
            && bench.is_there("moto-refused/permission").await
    );
}
