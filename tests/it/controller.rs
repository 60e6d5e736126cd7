//! The controller on a real API server: its main functions.

use serde_json::{Value, json};
use testbed::traffic::Plane;

use crate::support::{ACCOUNT, REGION, Rig, condition, eventually};

fn lifecycle() -> Value {
    json!({"rules": [
        {"rulePriority": 2, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
            "countNumber": 100},
         "action": {"type": "expire"}},
        {"rulePriority": 1, "description": "old previews",
         "selection": {"tagStatus": "tagged", "tagPatternList": ["preview-*", "pr-*"],
             "countType": "sinceImagePushed",
                       "countUnit": "days", "countNumber": 14},
         "action": {"type": "expire"}}
    ]})
}

fn permission() -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Pull", "Effect": "Allow",
            "Principal": {"AWS": ["210987654321", "arn:aws:iam::111122223333:role/ci"]},
         "Action": ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]}
    ]})
}

#[tokio::test]
async fn a_resource_becomes_a_repository_with_policies_and_image() {
    let rig = Rig::new("main-job").await;
    let operator = rig.operator().await;
    rig.apply(
        "app",
        json!({
            "repositoryName": "platform/app",
            "image": rig.image("library/demo", &["1.26", "1.27", "latest"]),
            "lifecyclePolicy": lifecycle(),
            "permissionPolicy": permission(),
            "resourceTags": {"team": "platform"},
        }),
    )
    .await;
    let object = rig.wait_synced("app").await;

    let repository = rig.repository("platform/app");
    for tag in ["1.26", "1.27", "latest"] {
        assert_eq!(repository.tags[tag], rig.sources.seeded.digest("library/demo", tag), "{tag}");
    }
    assert_eq!(repository.lifecycle_policy, Some(lifecycle()));
    assert_eq!(repository.policy, Some(permission()));
    assert_eq!(repository.resource_tags["team"], "platform");
    assert!(repository.resource_tags["ecr-sync.io/owner"].ends_with("/main-job/app"));

    let status = object.status.clone().expect("a status");
    let image = status.image.expect("an image");
    assert_eq!(
        (image.summary.as_str(), image.desired, image.synced, image.failed),
        ("3/3", 3, 3, 0)
    );
    let there = status.repository.expect("a repository");
    assert_eq!(there.arn, format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/platform/app"));
    assert_eq!(there.uri, format!("{}/platform/app", rig.ecr.registry(ACCOUNT, REGION).await));
    for type_ in ["RepositoryReady", "ConfigurationSynced", "ImageSynced"] {
        assert_eq!(condition(&object, type_).map(|c| c.0), Some("True"), "{type_}");
    }
    assert_eq!(condition(&object, "Reconciling"), None);
    assert_eq!(condition(&object, "Stalled"), None);

    rig.told("Synced").await;
    let events = rig.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].0.as_str(), events[0].1.as_str()), ("Normal", "Synced"));
    assert!(events[0].2.contains("created repository platform/app"), "{}", events[0].2);

    let (status, page) = operator.get("/metrics").await.expect("metrics");
    assert_eq!(status, 200);
    assert!(page.contains("ecrsync_tags_copied_total 3\n"), "{page}");
    assert_eq!(operator.get("/healthz").await.expect("healthz").0, 200);
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn a_second_sync_of_an_unchanged_resource_writes_nothing() {
    let rig = Rig::new("no-op").await;
    let operator = rig.operator().await;
    rig.apply(
        "app",
        json!({
            "image": rig.image("library/demo", &["1.26", "1.27", "latest"]),
            "lifecyclePolicy": lifecycle(),
            "permissionPolicy": permission(),
            "resourceTags": {"team": "platform"},
        }),
    )
    .await;
    rig.wait_synced("app").await;
    assert_eq!(operator.terminate().await, 0);
    let before = rig.resources().get("app").await.expect("it is there");
    let (ecr, source) = (rig.ecr.mark(), rig.source.mark());

    // A new process checks everything at once, because there is no startup spread.
    let operator = rig.operator().await;
    eventually("checked again", async || {
        operator
            .get("/metrics")
            .await
            .is_some_and(|(_, page)| page.contains("ecrsync_syncs_total{result=\"Succeeded\"} 1"))
    })
    .await;
    assert_eq!(operator.terminate().await, 0);

    let requests = rig.ecr.log_since(ecr);
    let writes: Vec<_> = requests.iter().filter(|request| request.is_write()).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert!(
        requests.iter().all(|request| request.plane == Plane::Control),
        "the registry itself is not asked at all"
    );
    let described = requests.iter().filter(|request| request.operation == "DescribeImages").count();
    let listed = requests.iter().filter(|request| request.operation == "ListImages").count();
    assert_eq!((described, listed), (1, 0));
    let source: Vec<_> =
        rig.source.log_since(source).into_iter().map(|request| request.operation).collect();
    assert_eq!(source, ["HeadManifest"; 3], "one HEAD per tag");
    let after = rig.resources().get("app").await.expect("it is there");
    assert_eq!(before, after, "the object is untouched, resourceVersion included");
    assert_eq!(rig.events().await.len(), 1, "no event is added");
}

#[tokio::test]
async fn an_edited_spec_is_brought_about() {
    let rig = Rig::new("edited").await;
    let _operator = rig.operator().await;
    let spec = |tags: &[&str], lifecycle: Value, team: &str| {
        json!({"image": rig.image("library/demo", tags), "lifecyclePolicy": lifecycle,
        "resourceTags": {"team": team}})
    };
    rig.apply("app", spec(&["1.26"], lifecycle(), "one")).await;
    rig.wait_synced("app").await;
    rig.apply("app", spec(&["1.26", "1.27"], json!({"rules": []}), "two")).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(object.status.expect("a status").image.expect("an image").summary, "2/2");
    let repository = rig.repository("app");
    assert_eq!(repository.tags.keys().collect::<Vec<_>>(), ["1.26", "1.27"]);
    assert_eq!(repository.lifecycle_policy, None, "rules: [] removes the policy");
    assert_eq!(repository.resource_tags["team"], "two");
}

#[tokio::test]
async fn fields_that_the_spec_leaves_out_are_not_changed() {
    let rig = Rig::new("unmanaged").await;
    rig.ecr.create_repository(
        ACCOUNT,
        REGION,
        "app",
        [("cost".to_owned(), "center".to_owned())].into(),
    );
    let mut aws = aws_sdk_client(&rig).await;
    aws.put("app", &lifecycle()).await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"resourceTags": {"team": "platform"}})).await;
    let object = rig.wait_synced("app").await;
    let repository = rig.repository("app");
    assert_eq!(repository.lifecycle_policy, Some(lifecycle()), "absent is unmanaged");
    assert_eq!(repository.resource_tags["cost"], "center", "keys that are not named stay");
    let ownership = object.status.expect("a status").repository.expect("a repository").ownership;
    assert_eq!(ownership, ecr_sync::api::v1alpha1::Ownership::Adopted);
}

#[tokio::test]
async fn retag_pushes_one_source_tag_as_every_tag() {
    let rig = Rig::new("retag").await;
    let _operator = rig.operator().await;
    let mut image = rig.image("library/demo", &["stable", "prod"]);
    image["pullUrl"] = json!(format!("{}/library/demo:1.27", rig.source.host()));
    image["tagStrategy"] = json!("Retag");
    rig.apply("app", json!({"image": image})).await;
    rig.wait_synced("app").await;
    let digest = rig.sources.seeded.digest("library/demo", "1.27");
    let tags = rig.repository("app").tags;
    assert_eq!(
        tags,
        [("prod".to_owned(), digest.to_owned()), ("stable".to_owned(), digest.to_owned())].into()
    );
}

#[tokio::test]
async fn a_suspended_resource_is_left_alone_until_it_is_not() {
    let rig = Rig::new("suspended").await;
    let operator = rig.operator().await;
    let spec =
        |suspend: bool| json!({"image": rig.image("library/demo", &["1.26"]), "suspend": suspend});
    rig.apply("app", spec(true)).await;
    // A second resource shows when the operator has handled the first.
    rig.apply("other", json!({})).await;
    rig.wait_synced("other").await;
    assert!(rig.ecr.repository(ACCOUNT, REGION, "app").is_none());
    rig.apply("app", spec(false)).await;
    rig.wait_synced("app").await;
    rig.apply("app", spec(true)).await;
    eventually("told", async || rig.events().await.iter().any(|event| event.1 == "Suspended"))
        .await;
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn two_resources_for_one_repository_conflict_until_one_is_deleted() {
    let rig = Rig::new("conflict").await;
    let _operator = rig.operator().await;
    rig.apply("first", json!({"repositoryName": "app", "resourceTags": {"by": "first"}})).await;
    rig.wait_synced("first").await;
    rig.a_second_after("first").await;
    let mark = rig.ecr.mark();
    rig.apply("second", json!({"repositoryName": "app", "resourceTags": {"by": "second"}})).await;
    let second = rig.wait_ready("second", "False", "Conflict").await;
    let (_, _, message) = condition(&second, "Stalled").expect("stalled");
    assert!(message.contains("conflict/first"), "{message}");
    assert_eq!(rig.repository("app").resource_tags["by"], "first");
    // Not even on demand.
    rig.annotate("second", "ecr-sync.io/requestedAt", "now").await;
    rig.apply("second", json!({"repositoryName": "app", "resourceTags": {"by": "the second"}}))
        .await;
    rig.wait_ready("second", "False", "Conflict").await;
    assert!(
        rig.ecr.log_since(mark).is_empty(),
        "who lost makes no AWS call: {:?}",
        rig.ecr.log_since(mark)
    );

    rig.resources().delete("first", &Default::default()).await.expect("deleted");
    rig.wait_synced("second").await;
    let tags = rig.repository("app").resource_tags;
    assert_eq!(tags["by"], "the second");
    assert!(
        tags["ecr-sync.io/owner"].ends_with("/conflict/second"),
        "the former owner is gone: {tags:?}"
    );
}

#[tokio::test]
async fn a_killed_operator_finishes_the_job_when_it_comes_back() {
    let rig = Rig::new("killed").await;
    let operator = rig.operator().await;
    // The transfer of the first blob never ends.
    use testbed::traffic::{Fault, Match, Then};
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(10)));
    rig.apply("app", json!({"image": rig.image("team/app", &["v1", "v2", "v3"])})).await;
    eventually("copying", async || rig.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    operator.kill().await;
    assert!(rig.repository("app").tags.is_empty(), "no tag without its content");

    rig.source.faults().clear();
    let _operator = rig.operator().await;
    rig.wait_synced("app").await;
    for tag in ["v1", "v2", "v3"] {
        assert_eq!(rig.repository("app").tags[tag], rig.sources.seeded.digest("team/app", tag));
    }
}

#[tokio::test]
async fn sigterm_ends_it_while_a_copy_hangs() {
    let rig = Rig::new("sigterm").await;
    let operator = rig.operator().await;
    use testbed::traffic::{Fault, Match, Then};
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(10)));
    rig.apply("app", json!({"image": rig.image("team/app", &["v1"])})).await;
    eventually("copying", async || rig.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    assert_eq!(operator.terminate().await, 0);
}

/// The ECR API, to change things as another client.
struct Aws(Vec<(String, String)>);

async fn aws_sdk_client(rig: &Rig) -> Aws {
    Aws(rig.aws_environment())
}

impl Aws {
    async fn put(&mut self, repository: &str, policy: &Value) {
        let text = policy.to_string();
        let arguments = [
            "ecr",
            "put-lifecycle-policy",
            "--repository-name",
            repository,
            "--lifecycle-policy-text",
            &text,
        ];
        let environment: Vec<_> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        testbed::tools::run("aws", &arguments, &environment)
            .await
            .expect("the AWS CLI puts a policy");
    }
}
