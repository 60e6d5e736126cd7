//! Mistakes that AWS or the operator refuses: each has a reason and says what to change, and the
//! rest of the resource is done.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::traffic::{Fault, Match, Then};

use crate::support::policies::keep;
use crate::support::{ACCOUNT, REGION, Rig, condition};

/// A repository policy with more than ECR's limit of 10,240 characters.
fn oversized() -> Value {
    let principals: Vec<_> =
        (0..300).map(|n| format!("arn:aws:iam::123456789012:role/role-number-{n:04}")).collect();
    json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": principals},
           "Action": "ecr:BatchGetImage"}]})
}

#[tokio::test]
async fn a_refusal_says_what_to_change_and_the_rest_is_done() {
    let rig = Rig::new("mistakes").await;
    let _operator = rig.operator().await;
    let refuse = |name: &str, operation: &str, code: &str| {
        let when = Match::operation(operation).repository(name);
        rig.ecr.faults().add(Fault::new(when, Then::aws_error(400, code, "Refused.")));
    };
    refuse("quota", "CreateRepository", "LimitExceededException");
    refuse("region", "PutImageTagMutability", "UnknownOperationException");
    for name in ["region", "tags"] {
        let theirs = (0..if name == "tags" { 49 } else { 0 })
            .map(|n| (format!("key-{n}"), "theirs".to_owned()));
        rig.ecr.create_repository(ACCOUNT, REGION, name, theirs.collect::<BTreeMap<_, _>>());
    }
    let image = rig.image("library/demo", &["1.26"]);
    let unquoted = json!({"Statement": [{"Effect": "Allow",
        "Principal": {"AWS": 123_456_789_012_u64}, "Action": "ecr:*"}]});
    // name, spec besides image and lifecycle policy, reason, part of the message, whether the rest
    // can be done
    let table = [
        (
            "kms",
            json!({"encryption": {"type": "KMS", "kmsKey": "alias/missing"}}),
            "AccessDenied",
            "spec.encryption.kmsKey",
            false,
        ),
        ("quota", json!({}), "QuotaExceeded", "request a higher quota of repositories", false),
        (
            "region",
            json!({"imageTagMutability": "Immutable"}),
            "InvalidSpec",
            "remove the field that needs it from the spec",
            true,
        ),
        (
            "tags",
            json!({"resourceTags": {"a": "1", "b": "2"}}),
            "InvalidSpec",
            "remove keys from spec.resourceTags",
            true,
        ),
        (
            "oversized",
            json!({"permissionPolicy": oversized()}),
            "InvalidSpec",
            "ECR takes at most 10240",
            true,
        ),
        (
            "unquoted",
            json!({"permissionPolicy": unquoted}),
            "InvalidSpec",
            "not a string: quote it",
            true,
        ),
    ];
    for (name, mut spec, _, _, _) in table.clone() {
        spec["image"] = image.clone();
        spec["lifecyclePolicy"] = keep(9);
        rig.apply(name, spec).await;
    }
    for (name, _, reason, message, rest) in table {
        let object = rig.wait_ready(name, "False", reason).await;
        let (_, _, text) = condition(&object, "Ready").expect("set");
        assert!(text.contains(message), "{name}: {text}");
        assert!(condition(&object, "Stalled").is_some(), "{name}: only a person can heal it");
        if rest {
            let view = rig.repository(name);
            assert!(
                view.tags.contains_key("1.26") && view.lifecycle_policy.is_some(),
                "{name}: {view:?}"
            );
            assert_eq!(condition(&object, "ImageSynced").map(|c| c.0), Some("True"), "{name}");
            assert_eq!(
                condition(&object, "ConfigurationSynced").map(|c| c.0),
                Some("False"),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_repository_under_a_pull_through_rule_is_kept_and_reported() {
    let rig = Rig::new("pull-through").await;
    let _operator = rig.operator().await;
    rig.ecr.add_pull_through_rule(ACCOUNT, REGION, "docker-hub");
    for name in ["docker-hub/app", "elsewhere/app"] {
        rig.ecr.create_repository(ACCOUNT, REGION, name, [].into());
    }
    rig.apply(
        "under",
        json!({"repositoryName": "docker-hub/app", "image": rig.image("library/demo", &["1.26"])}),
    )
    .await;
    rig.apply("beside", json!({"repositoryName": "elsewhere/app"})).await;
    rig.wait_synced("under").await;
    rig.wait_synced("beside").await;
    let told = rig.told("Advice").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .2
            .contains("repository docker-hub/app is in the pull-through cache rule docker-hub"),
        "{told:?}"
    );
    let asked = rig.ecr.count(|request| request.operation == "DescribePullThroughCacheRules");
    assert_eq!(asked, 1, "asked once for all repositories");
}
